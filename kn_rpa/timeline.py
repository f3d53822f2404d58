"""What happened to a job, as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.text import Text

from kn_rpa.output import STYLES, Item

EVENT_WIDTH, STATE_WIDTH = 16, 13
STYLED = {"attempt_failed": "red", "given_back": "yellow"}


@dataclass(frozen=True)
class Happening:
    """One entry of a job's history."""

    seconds: float
    """Since the job was submitted."""
    attempt: int
    event: str
    state: str
    detail: str

    def line(self) -> str:
        """As plain text."""
        return self.text().plain

    def text(self) -> Text:
        """With colours."""
        style = STYLED.get(self.event) or STYLES.get(self.state, "")
        text = Text.assemble(
            (f"{self.seconds:7.1f} s   ", "dim"),
            f"{self.attempt}   ",
            f"{self.event.replace('_', ' '):{EVENT_WIDTH}}",
            (f"{self.state:{STATE_WIDTH}}", style),
            (self.detail, "dim"),
        )
        text.rstrip()
        return text


def told(history: Sequence[Item], submitted_at: str) -> Iterator[Happening]:
    """Each entry of a history, in order."""
    start = datetime.fromisoformat(submitted_at)
    for entry in history:
        seconds = (datetime.fromisoformat(entry["at"]) - start).total_seconds()
        detail = "  ".join(_words(entry["detail"]))
        yield Happening(max(seconds, 0), entry["attempt"], entry["event"], entry["to"], detail)


def _words(detail: dict[str, Any]) -> Iterator[str]:
    for name, value in detail.items():
        if name == "error":
            yield f"{value['kind']} {value['code']}: {value['message']}"
        elif name not in ("run_after", "next_attempt") and value not in (None, "", {}, False):
            yield f"{name.replace('_', ' ')} {value}"
