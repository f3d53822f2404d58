"""Why a browser ended, from what it and its launcher said."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

REASON_LIMIT = 500
REASON_LINES = 5
_BROWSER_SAID = re.compile(r"\[pid=\d+\]\[err\] (.*)")


def why_it_ended(lines: Sequence[str], code: int, secret_path: str) -> str:
    """What the browser said last, or its launcher; never the secret path."""
    # The launcher takes the death of its browser for a good end.
    end = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}" if code else "its browser died"
    said = [match[1].strip() for line in lines if (match := _BROWSER_SAID.match(line))]
    errors = [line.strip() for line in lines if "Error: " in line]
    # Playwright repeats its log; each line is worth saying once.
    kept = list(dict.fromkeys([*errors[:1], *(said or errors[1:])[-REASON_LINES:]]))
    text = " ".join(kept).replace(secret_path, "/…")
    return f"{end}: {text[-REASON_LIMIT:]}" if text else end
