"""Sending again ever more rarely: what waits in a queue comes no sooner for being there more often."""

from __future__ import annotations

from collections.abc import Sequence

from shared.events import Doorbell

FIRST_SECONDS = 5.0
LONGEST_SECONDS = 50.0
"""Less than a minute: where that is the time between two ticks, each one sends again what is still not acted on."""


class Again:
    """What this process sent again lately. It may forget: doorbells are harmless, only not in masses."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[float, float]] = {}

    def due(self, waiting: Sequence[tuple[Doorbell, float]]) -> list[Doorbell]:
        """Those to send now, of all that are not acted on for so many seconds; what is not among them is done."""
        before, self._sent = self._sent, {}
        due = []
        for bell, age in waiting:
            sent, pause = before.get(bell.id, (0.0, 0.0))
            if sent <= age < sent + pause:
                self._sent[bell.id] = (sent, pause)
            else:
                due.append(bell)
                # Younger than it was: it was acted on, and waits anew.
                pause = min(2 * pause, LONGEST_SECONDS) if sent <= age else 0.0
                self._sent[bell.id] = (age, pause or FIRST_SECONDS)
        return due
