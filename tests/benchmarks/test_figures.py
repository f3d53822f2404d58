"""What the benchmarks say: ratios of rounds, kept and shown as they were taken."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.figures import Comparison, Sample, compare, in_turns, pace
from benchmarks.report import keep, load, markdown, run_of, short, show

ROUNDS = [(10.0, 100.0), (30.0, 100.0), (90.0, 300.0)]


def comparison(case: str = "a case") -> Comparison:
    return Comparison(case, "rate", "jobs/s", "something else", ROUNDS)


def test_the_ratio_is_the_rounds_median() -> None:
    """Not that of the medians, which come from different rounds."""
    figure = Comparison("", "", "", "", [(1.0, 1.0), (2.0, 8.0), (9.0, 3.0)])
    assert figure.measured / figure.of_reference == pytest.approx(2 / 3)
    assert figure.ratio == 1
    assert figure.json()["spread"] == [0.25, 3]


async def test_everything_is_taken_in_turns() -> None:
    """The first round is for practice."""
    clock = itertools.count()

    async def ours() -> Sample:
        return {"at": next(clock)}

    async def theirs() -> Sample:
        return {"at": next(clock)}

    rounds = await in_turns(2, ours, theirs)
    assert rounds == [[{"at": 2}, {"at": 3}], [{"at": 4}, {"at": 5}]]
    (figure,) = compare("case", "reference", {"at": "s"}, rounds)
    assert figure.rounds == [(2, 3), (4, 5)]


def test_calls_amount_to_a_rate_and_percentiles() -> None:
    """One call may count for many."""
    assert pace([float(n) for n in range(101)], 2, each=10) == {"rate": 505, "p50": 50, "p95": 95, "p99": 99}


def test_a_run_is_kept_beside_the_others(tmp_path: Path) -> None:
    """A benchmark's new run replaces its old one alone, and reads back as it was."""
    file = tmp_path / "new" / "benchmarks.json"
    keep(file, "first", run_of([comparison("old")], 0.5, 1))
    keep(file, "second", run_of([comparison("other")], 0.5, 1))
    keep(file, "first", run_of([comparison("new")], 0.5, 1))
    runs = load(file)
    assert [(name, run.figures[0].case) for name, run in runs.items()] == [("first", "new"), ("second", "other")]
    assert runs["first"].figures[0].ratio == comparison().ratio


def test_people_see_each_figure() -> None:
    """A case is named once; Markdown has one row for each figure."""
    run = run_of([comparison("this case"), comparison("this case"), comparison("that case")], 0.5, 1)
    console = Console(width=160, record=True, file=io.StringIO())
    show(console, "name", run)
    shown = console.export_text()
    assert shown.count("this case") == 1
    assert shown.count("30 jobs/s") == 3
    rows = markdown([run]).splitlines()
    assert len(rows) == 2 + 3
    assert rows[2] == "| this case | rate | 30 jobs/s | 100 jobs/s | 0.3 | 0.1 – 0.3 | something else |"


@pytest.mark.parametrize(("value", "said"), [(12345.6, "12,346"), (99.44, "99.4"), (1.0, "1"), (0.001234, "0.00123")])
def test_figures_have_three_digits(value: float, said: str) -> None:
    """That is more than they are good for."""
    assert short(value) == said
