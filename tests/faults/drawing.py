"""Everything by chance comes from here: the same seed draws the same for the same thing, in whatever order.

What a seed repeats: the jobs and what callers do to them, the order of the outages, that of the faults at statements,
and what becomes of each job's attempts, browsers and reports. An event is drawn by its id, which is made of the job's
id, and those are given in the order in which submitters come through. What meets what, and when, is the machine's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Lots:
    """The lots of one run, and the classes of faults that are drawn at all."""

    seed: int
    classes: frozenset[str]

    def of(self, *thing: object) -> random.Random:
        """The lots of one thing."""
        return random.Random("\0".join(map(str, (self.seed, *thing))))

    def fall(self, fault_class: str, share: float, *thing: object) -> bool:
        """Whether a fault of this class, drawn in this share of cases, meets this thing."""
        return fault_class in self.classes and self.of(fault_class, *thing).random() < share
