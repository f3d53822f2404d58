// Asks for this page again while somebody looks at it, and shows what has changed. A page that is closed or hidden asks
// nothing, so that the function goes to sleep.
"use strict";

const EVERY = 5000;
const live = document.getElementById("live");
const parts = document.querySelectorAll("[data-live]");
let busy = false;

function inUse(part) {
  const focused = document.activeElement;
  const chosen = [...part.querySelectorAll("option")].some((it) => it.selected !== it.defaultSelected);
  const marked = document.getSelection();
  return chosen || part.querySelector("details[open]") || (part.contains(focused) && focused.matches("input, select")) ||
    (marked.toString() && part.contains(marked.anchorNode));
}

function show(part, fresh) {
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const twins = (root) => [...root.querySelectorAll("a, button, summary, [tabindex]")];
  const place = focused ? twins(part).indexOf(focused) : -1;
  part.replaceChildren(...fresh.childNodes);
  if (place >= 0) twins(part)[place]?.focus({ preventScroll: true });
}

async function refresh() {
  if (busy || document.visibilityState !== "visible" || live.getAttribute("aria-pressed") !== "true") return;
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) location.reload(); // the session has ended
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh && fresh.innerHTML !== part.innerHTML && !inUse(part)) show(part, fresh);
    }
    live.textContent = "Live";
  } catch {
    live.textContent = "No answer";
  } finally {
    busy = false;
  }
}

if (live && parts.length) {
  live.hidden = false;
  live.addEventListener("click", () => {
    const on = live.getAttribute("aria-pressed") !== "true";
    live.setAttribute("aria-pressed", on);
    if (on) refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, EVERY);
}
