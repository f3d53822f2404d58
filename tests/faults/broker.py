"""A broker that drops, doubles, delays and so reorders what it takes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from cloudevents.http import CloudEvent

from local.broker import Broker
from local.manifests import Trigger
from tests.faults.drawing import Lots

DROPPED, DOUBLED, DELAYED = 0.06, 0.08, 0.08
"""Shares of all events, unless the run says otherwise."""
LOST, TWICE, LATE = KINDS = ("event lost", "event doubled", "event delayed")
LONGEST_DELAY_SECONDS = 4.0
SHUFFLED_SECONDS = 0.05


class Weather:
    """What becomes of events now, and what has."""

    def __init__(self, lots: Lots) -> None:
        self.counts: Counter[str] = Counter()
        self.deaf = False
        """Drop every event."""
        self.first_lost = False
        """Drop every event the first time that it comes."""
        self.dropped: float | None = None
        """The share of all events that is dropped, where the run says so."""
        self._lots = lots
        self._seen: Counter[str] = Counter()

    def delays(self, event: CloudEvent) -> list[float]:
        """When to deliver it, in seconds from now; none: it is lost."""
        times = self._seen[event["id"]]
        self._seen[event["id"]] += 1
        if self.deaf or (self.first_lost and not times):
            return self._count(LOST, [])
        lots = self._lots.of("event", event["id"], times)
        if self.dropped is not None and lots.random() < self.dropped:
            return self._count(LOST, [])
        if "events" not in self._lots.classes:
            return [0.0]
        draw = lots.random()
        if draw < DROPPED and self.dropped is None:
            return self._count(LOST, [])
        if draw < DROPPED + DOUBLED:
            return self._count(TWICE, [0.0, lots.uniform(0, LONGEST_DELAY_SECONDS)])
        if draw < DROPPED + DOUBLED + DELAYED:
            return self._count(LATE, [lots.uniform(0, LONGEST_DELAY_SECONDS)])
        return [lots.uniform(0, SHUFFLED_SECONDS)]

    def _count(self, what: str, delays: list[float]) -> list[float]:
        self.counts[what] += 1
        return delays


class FaultyBroker(Broker):
    """Answers its publishers as always."""

    def __init__(
        self, path: str, triggers: Sequence[Trigger], addresses: Mapping[str, str], *, weather: Weather
    ) -> None:
        super().__init__(path, triggers, addresses)
        self._weather = weather
        self._closed = False

    def _accept(self, event: CloudEvent) -> None:
        for delay in self._weather.delays(event):
            if delay:
                asyncio.get_running_loop().call_later(delay, self._come, event)
            else:
                self._come(event)

    def _come(self, event: CloudEvent) -> None:
        if not self._closed:
            super()._accept(event)

    async def aclose(self) -> None:
        """What is still to come never does."""
        self._closed = True
        await super().aclose()
