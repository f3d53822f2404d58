"""The figures in Prometheus' text format. What is counted or timed comes from the database's sums, which only grow:
functions come and go, and so do jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, product
from math import inf
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Row = Mapping[str, Any]
BOUNDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, inf)
"""The buckets that the database sorts seconds into."""


@dataclass(frozen=True, slots=True)
class Family:
    """What one name counts or times, and by what: `provider` and one label of its own at most."""

    help: str
    labels: tuple[str, ...] = ()
    known: tuple[str, ...] = ("",)
    """Values that its own label has from the start: Prometheus sees no increase in a first value."""

    def key(self, row: Row) -> tuple[str, ...]:
        """A row's values of the labels."""
        return tuple(row["provider" if name == "provider" else "label"] for name in self.labels)

    def keys(self, providers: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """What is shown even where nothing happened."""
        return product(*(providers if name == "provider" else self.known for name in self.labels))


OUTCOMES = ("completed", "failed_business", "failed_application", "cancelled")
LOST = ("browser_failed", "browser_late", "browser_lost", "no_worker", "worker_lost", "worker_unclear")
COUNTERS = {
    "jobs_finished": Family("Jobs that ended.", ("provider", "outcome"), OUTCOMES),
    "attempts_failed": Family("Attempts that failed.", ("provider", "reason"), ("reported", "deadline_missed", *LOST)),
    "browsers_leaked": Family("Browsers found that nobody needs.", ("kind",), ("orphan", "left_over")),
    "reaps": Family("Rounds of reap_idle."),
}
HISTOGRAMS = {
    "job_wait_seconds": Family("From a job's due time until it was given a place.", ("provider",)),
    "job_phase_seconds": Family("Time that attempts spent in a state.", ("provider", "phase")),
    "browser_start_seconds": Family("From asking for a browser until it was ready.", ("pool",)),
    "totp_wait_seconds": Family("From asking for a login code until it was given.", ("provider",)),
    "report_lag_seconds": Family("From a job's end until ORDS acknowledged it.", ("provider",)),
}


class _Snapshot(Collector):
    def __init__(self, jobs: Sequence[Row], backlog: Row, counted: Sequence[Row], providers: Sequence[str]) -> None:
        self._jobs = jobs
        self._backlog = backlog
        self._counted = counted
        self._providers = providers

    def collect(self) -> Iterable[Metric]:
        yield from self._gauges()
        for name, family in COUNTERS.items():
            counter = CounterMetricFamily(f"rpa_{name}", family.help, labels=family.labels)
            sums = dict.fromkeys(family.keys(self._providers), 0.0)
            for row in self._of(name):
                sums[family.key(row)] = sums.get(family.key(row), 0.0) + row["sum"]
            for key, value in sums.items():
                counter.add_metric(key, value)
            yield counter
        for name, family in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(f"rpa_{name}", family.help, labels=family.labels)
            for key, rows in groupby(self._of(name), family.key):
                histogram.add_metric(key, *_distribution(list(rows)))
            yield histogram

    def _gauges(self) -> Iterable[Metric]:
        counts = GaugeMetricFamily("rpa_jobs", "Jobs kept, by provider and state.", labels=["provider", "state"])
        oldest = GaugeMetricFamily(
            "rpa_oldest_waiting_seconds", "How long the oldest due job has waited.", labels=["provider"]
        )
        for row in self._jobs:
            counts.add_metric([row["provider"], row["state"]], row["jobs"])
            if row["state"] == "pending":
                oldest.add_metric([row["provider"]], row["oldest_waiting_seconds"])
        yield counts
        yield oldest
        for name, value in self._backlog.items():
            yield GaugeMetricFamily(f"rpa_{name}", f"{name.replace('_', ' ').capitalize()}.", value=value)

    def _of(self, name: str) -> Iterable[Row]:
        return (row for row in self._counted if row["name"] == name)


def _distribution(rows: Sequence[Row]) -> tuple[list[tuple[str, int]], float]:
    """Each bound with how many were not above it, and the sum of all."""
    counts = dict.fromkeys(BOUNDS, 0) | {row["le"]: row["count"] for row in rows}
    bounds = sorted(counts)
    names = ["+Inf" if le == inf else str(le) for le in bounds]
    below = accumulate(counts[le] for le in bounds)
    return list(zip(names, below, strict=True)), sum(row["sum"] for row in rows)


def exposition(jobs: Sequence[Row], backlog: Row, counted: Sequence[Row], providers: Iterable[str]) -> bytes:
    """All figures; `providers` are those that are configured."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(jobs, backlog, counted, sorted(providers)))
    return generate_latest(registry)
