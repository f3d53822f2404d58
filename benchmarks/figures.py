"""Figures: something measured and its reference, taken in turns, so that what else the machine does hits both."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Sample = Mapping[str, float]
"""One round's figures by their measures."""
Take = Callable[[], Awaitable[Sample]]


@dataclass(frozen=True)
class Comparison:
    """One measure of one case, round by round."""

    case: str
    measure: str
    unit: str
    reference: str
    """What it is compared with."""
    rounds: Sequence[tuple[float, float]]
    """Measured and reference."""

    @property
    def measured(self) -> float:
        """The median."""
        return statistics.median(measured for measured, _ in self.rounds)

    @property
    def of_reference(self) -> float:
        """The reference's median."""
        return statistics.median(reference for _, reference in self.rounds)

    @property
    def ratios(self) -> list[float]:
        """Measured by reference, the smallest first."""
        return sorted(measured / reference for measured, reference in self.rounds)

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios)

    def json(self) -> dict[str, object]:
        """With what follows from the rounds."""
        return {**dataclasses.asdict(self), "ratio": self.ratio, "spread": [self.ratios[0], self.ratios[-1]]}


async def in_turns(rounds: int, *takes: Take) -> list[list[Sample]]:
    """Everything once in each round; a round for practice comes first."""
    taken = [[await take() for take in takes] for _ in range(rounds + 1)]
    return taken[1:]


def compare(
    case: str, reference: str, units: Mapping[str, str], rounds: Iterable[Sequence[Sample]]
) -> list[Comparison]:
    """One comparison for each measure that `units` has a unit for; a round is the measured sample and its reference."""
    pairs = [(ours, theirs) for ours, theirs in rounds]
    return [
        Comparison(case, measure, unit, reference, [(ours[measure], theirs[measure]) for ours, theirs in pairs])
        for measure, unit in units.items()
    ]


def pace(milliseconds: Sequence[float], seconds: float, each: int = 1) -> Sample:
    """What calls that took so long amount to; one counts for `each`."""
    cuts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return {"rate": len(milliseconds) * each / seconds, "p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}
