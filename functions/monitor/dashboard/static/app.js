// What htmx cannot know: that a page is asked for again only while somebody looks at it, so that the function goes to
// sleep, which text is marked, and what a running browser shows.
"use strict";

const PICTURE_EVERY = 1000;
const live = document.getElementById("live");
const looking = () => document.visibilityState === "visible" && live.getAttribute("aria-pressed") === "true";

// Text that somebody marks stays as it is until it is copied.
function marked(place) {
  const { anchorNode, focusNode, isCollapsed } = document.getSelection();
  return !isCollapsed && [anchorNode, focusNode].some((it) => it.nodeType === Node.TEXT_NODE && it.parentNode === place);
}

// The newest picture of the browser takes the place of the one before once it is there.
async function picture() {
  const figure = document.querySelector("[data-picture]");
  if (figure && looking()) {
    const image = new Image();
    image.alt = "What the browser shows";
    image.src = `${figure.dataset.picture}?at=${Date.now()}`;
    const there = await image.decode().then(() => true, () => false);
    renew(figure, there && image);
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

if (live) {
  htmx.registerExtension("marked", { htmx_before_morph_node: (place) => !marked(place) });
  // Before htmx, which asks at once when the button is pressed.
  live.addEventListener("click", () => live.setAttribute("aria-pressed", !looking()), { capture: true });
  live.addEventListener("htmx:config:request", (event) => looking() || event.preventDefault());
  live.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
    if (ctx.response?.raw.redirected) location.reload(); // the session has ended
    live.textContent = ctx.status === "swapped" && ctx.response.raw.ok ? "Live" : "No answer";
  });
  live.hidden = false;
  picture();
}
