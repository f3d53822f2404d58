// Asks for this page again while somebody looks at it, and shows what has changed. A page that is closed or hidden asks
// nothing, so that the function goes to sleep.
"use strict";

const EVERY = 5000;
const PICTURE_EVERY = 1000;
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
  if (fresh.dataset.picture) part.dataset.picture = fresh.dataset.picture;
  else delete part.dataset.picture;
  if (place >= 0) twins(part)[place]?.focus({ preventScroll: true });
}

const looking = () => document.visibilityState === "visible" && live.getAttribute("aria-pressed") === "true";

async function refresh() {
  if (busy || !looking()) return;
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) location.reload(); // the session has ended
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      // The same browser goes on being shown.
      const same = fresh?.dataset.picture && fresh.dataset.picture === part.dataset.picture;
      if (fresh && !same && fresh.innerHTML !== part.innerHTML && !inUse(part)) show(part, fresh);
    }
    live.textContent = "Live";
  } catch {
    live.textContent = "No answer";
  } finally {
    busy = false;
  }
}

// The newest picture of the browser takes the place of the one before once it is there.
async function picture() {
  const part = document.querySelector("[data-picture]");
  const path = part?.dataset.picture;
  if (path && looking()) {
    const image = new Image();
    image.alt = "What the browser shows";
    image.src = `${path}?at=${Date.now()}`;
    const there = await image.decode().then(() => true, () => false);
    if (part.dataset.picture === path) renew(part.querySelector("figure"), there && image);
  }
  setTimeout(picture, PICTURE_EVERY);
}

function renew(figure, image) {
  const caption = figure.querySelector("figcaption") ?? document.createElement("figcaption");
  if (image) {
    caption.dataset.at = Date.now();
    figure.replaceChildren(image, caption);
  }
  const seconds = Math.round((Date.now() - caption.dataset.at) / 1000);
  caption.textContent = seconds > 3 ? `${seconds} s ago` : "Now";
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
  picture();
}
