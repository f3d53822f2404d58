"""Pictures of a page in which passwords and codes are masked, or no picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, cast

from playwright.async_api import Frame, Page

from rpa_worker.redaction import Redactor

MASKED = ", ".join(
    [
        "input[type=password]",
        "input[autocomplete*=password]",
        "input[autocomplete=one-time-code]",
        *(f"input[{name}*={part} i]" for name in ("name", "id") for part in ("passw", "code", "otp")),
        "input[maxlength='1']",  # a code's digits in boxes of their own
    ]
)
FIELDS = "input, textarea, [contenteditable], iframe"
LOOK = """(fields, { masked, names, most, record }) => {
  const key = Symbol.for("rpa-worker");
  const known = new Set(fields);
  const roots = [...new Set([document, ...fields.map(it => it.getRootNode())])];
  const state = it => {
    const at = it.getBoundingClientRect();
    const value = it.matches("iframe") ? "" : String(it.value ?? it.textContent ?? "");
    return [it.matches(masked), value, [it.tagName, at.x, at.y, at.width, at.height]];
  };
  const now = () => {
    const more = roots.flatMap(root => [...root.querySelectorAll(names)]).filter(it => !known.has(it));
    return [...fields, ...more].map(state);
  };
  const earlier = window[key]?.() ?? [];
  const states = record ? [now()] : [...earlier, now()];
  if (record) {
    const seen = new Map();
    const note = () => {
      const it = seen.size < most ? now() : [[true, "", ["TOO MUCH"]]];
      seen.set(JSON.stringify(it), it);
    };
    const observer = new MutationObserver(note);
    const kinds = ["input", "change", "scroll"];
    let next, end = performance.now() + record;
    const stop = () => {
      observer.disconnect();
      kinds.forEach(kind => removeEventListener(kind, note, true));
      cancelAnimationFrame(next);
      delete window[key];
      return [...seen.values()];
    };
    const tick = () => { note(); performance.now() > end ? stop() : next = requestAnimationFrame(tick); };
    for (const root of roots) {
      observer.observe(root, { subtree: true, childList: true, attributes: true, characterData: true });
    }
    kinds.forEach(kind => addEventListener(kind, note, { capture: true, passive: true }));
    Object.defineProperty(window, key, { value: stop, configurable: true });
    tick();
  }
  return [document.body?.innerText ?? "", [location.href, performance.timeOrigin, scrollX, scrollY], states];
}"""
"""What a frame shows: its text, where it is, its fields as they are, before that as they were since they were looked
at with `record`, the milliseconds to remember them. Values are judged here: no page is told of a secret."""
MOST_STATES = 100
"""More of them in the moment of a picture, and there is none."""
SETTLE_TRIES = 3
COLOUR = "#5b616e"

Kind = Literal["png", "jpeg"]
Fields = list[tuple[int, Any]]
"""Those to mask, and those that hold a frame: which one, and where."""
Seen = list[tuple[Frame, Any, list[Fields]]]
"""By frame: where it is, and its fields at all times since they were looked at."""


async def picture(page: Page, redactor: Redactor, kind: Kind, *, quality: int | None, timeout: float) -> bytes | None:
    """The page as it looks; None while it shows a secret as text, or moves too much to be masked.

    `timeout` in milliseconds. Raises playwright's Error.
    """
    # As Playwright's own calls: a trace of the action shows nothing of it.
    connection = page._impl_obj._connection
    taken = await connection.wrap_api_call(lambda: _settled(page, redactor, kind, quality, timeout), is_internal=True)
    return cast("bytes | None", taken)


async def _settled(page: Page, redactor: Redactor, kind: Kind, quality: int | None, timeout: float) -> bytes | None:
    for _ in range(SETTLE_TRIES):
        before = await _look(page, redactor, record=timeout)
        if before is None:
            return None
        fields = [(frame, n, at[0]) for frame, _, times in before for n, at in times[-1]]
        mask = [frame.locator(FIELDS).nth(n) for frame, n, tag in fields if tag != "IFRAME"]
        # The caret stays: to hide it, Playwright would change the page.
        taken = await page.screenshot(
            type=kind, quality=quality, mask=mask, caret="initial", mask_color=COLOUR, timeout=timeout
        )
        after = await _look(page, redactor)
        # What was filled, shown or moved meanwhile may have been beside its mask.
        if after is not None and _still(before, after):
            return taken
    return None


async def _look(page: Page, redactor: Redactor, *, record: float = 0) -> Seen | None:
    """What is to be masked; None where a secret stands in the text."""
    found: Seen = []
    for frame in page.frames:
        wanted = {"masked": MASKED, "names": FIELDS, "most": MOST_STATES, "record": record}
        text, place, times = await frame.locator(FIELDS).evaluate_all(LOOK, wanted)
        if redactor.reveals(text):
            return None
        found.append((frame, place, [_sensitive(fields, redactor) for fields in times]))
    return found


def _sensitive(fields: Iterable[Any], redactor: Redactor) -> Fields:
    return [
        (n, at)
        for n, (masked, value, at) in enumerate(fields)
        if masked or at[0] == "IFRAME" or redactor.hints_at(value)
    ]


def _still(before: Seen, after: Seen) -> bool:
    places = [(frame, place) for frame, place, _ in before] == [(frame, place) for frame, place, _ in after]
    return places and all(
        fields == then[-1] for (_, _, then), (_, _, times) in zip(before, after, strict=True) for fields in times
    )
