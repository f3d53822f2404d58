"""Pictures of a page in which passwords and codes are masked, or no picture."""

from __future__ import annotations

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
LOOK = """(fields, masked) => [document.body?.innerText ?? "",
  [location.href, performance.timeOrigin, scrollX, scrollY],
  fields.map(it => {
    const at = it.getBoundingClientRect();
    const value = it.matches("iframe") ? "" : String(it.value ?? it.textContent ?? "");
    return [it.matches(masked), value, [it.tagName, at.x, at.y, at.width, at.height]];
  })]"""
"""What a frame shows: its text, where it is, its fields. Values are judged here: no page is told of a secret."""
SETTLE_TRIES = 3

Kind = Literal["png", "jpeg"]
Seen = list[tuple[Frame, Any, list[tuple[int, Any]]]]
"""By frame: where it is, and which of its fields are to be masked or hold another frame, and where."""


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
        before = await _look(page, redactor)
        if before is None:
            return None
        mask = [
            frame.locator(FIELDS).nth(n) for frame, _, fields in before for n, (tag, *_) in fields if tag != "IFRAME"
        ]
        # The caret stays: to hide it, Playwright would change the page.
        taken = await page.screenshot(type=kind, quality=quality, mask=mask, caret="initial", timeout=timeout)
        # What was filled, shown or moved meanwhile may have been beside its mask.
        if await _look(page, redactor) == before:
            return taken
    return None


async def _look(page: Page, redactor: Redactor) -> Seen | None:
    """What is to be masked; None where a secret stands in the text."""
    found: Seen = []
    for frame in page.frames:
        text, place, fields = await frame.locator(FIELDS).evaluate_all(LOOK, MASKED)
        if redactor.reveals(text):
            return None
        kept = [
            (n, at)
            for n, (masked, value, at) in enumerate(fields)
            if masked or at[0] == "IFRAME" or redactor.hints_at(value)
        ]
        found.append((frame, place, kept))
    return found
