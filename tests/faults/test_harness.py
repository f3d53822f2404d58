"""The harness itself: what it draws, and that no statement of the product escapes it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from cloudevents.http import CloudEvent

from local.manifests import Trigger
from tests.faults import node, ords
from tests.faults.broker import FaultyBroker, Weather
from tests.faults.drawing import Lots
from tests.faults.node import fate
from tests.faults.run import running_browsers
from tests.faults.statements import COMMIT, EXECUTED_BY, statements
from tests.local.subscriber import subscriber
from tests.serving import eventually

EVENTS = 150
REPORTS = 60


def test_every_statement_that_changes_state_is_met() -> None:
    """Who adds a statement says which functions execute it, so that they die before and after it."""
    assert set(statements().values()) | {COMMIT} == {name for names in EXECUTED_BY.values() for name in names}


def test_a_seed_draws_the_same_again_and_another_does_not() -> None:
    """In whatever order things happen."""
    one, again, other = (Lots(seed, frozenset({"browsers"})) for seed in (7, 7, 8))
    drawn = {n: fate(one, n, 1) for n in range(100)}
    assert {n: fate(again, n, 1) for n in reversed(range(100))} == drawn
    assert {n: fate(other, n, 1) for n in range(100)} != drawn


async def test_a_light_browser_is_seen_as_long_as_it_runs(tmp_path: Path) -> None:
    """By its name, in the table of processes, where the auditor looks for what is left."""
    state, folder = tmp_path / "state", tmp_path / "browser"
    folder.mkdir()
    launcher = node.Launcher(Lots(7, frozenset()), tmp_path)
    browser = await launcher(state, "rpa-browser-warm-1", folder, "/secret")
    try:
        assert running_browsers(state) == ["rpa-browser-warm-1"]
        assert running_browsers(tmp_path / "another") == []
    finally:
        browser.kill()
        await browser.wait()
    assert running_browsers(state) == []


async def test_warm_browsers_are_drawn_by_their_number(tmp_path: Path) -> None:
    """Their names are never the same again; and a new node goes on where the last one was."""
    drawn = []
    for run in (tmp_path / "one", tmp_path / "again"):
        for n in range(20):
            folder = run / str(n)
            folder.mkdir(parents=True)
            launch = node.Launcher(Lots(7, frozenset({"browsers"})), run)
            browser = await launch(run, f"rpa-browser-warm-{uuid4().hex}", folder, "/secret")
            browser.kill()
            await browser.wait()
        drawn.append((run / "browsers").read_text().splitlines())
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 1


def test_what_is_not_asked_for_is_not_drawn() -> None:
    """FAULTS names the classes that are."""
    lots = Lots(7, frozenset({"kills"}))
    assert {fate(lots, n, 1)[2] for n in range(100)} == {None}
    weather = Weather(lots)
    assert [weather.delays(event(n)) for n in range(100)] == [[0.0]] * 100


async def test_ords_keeps_what_it_says_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it answers: each report is there once, and those that ORDS refused are not kept."""
    monkeypatch.setattr(ords, "CALLBACK_TIMEOUT", 0.0)
    inbox = ords.Ords("token", Lots(7, frozenset({"ords"})))
    headers = {"Authorization": "Bearer token"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(inbox.app), base_url="http://ords") as http:
        answers = [
            await http.post(
                "/callbacks/job",
                headers={**headers, "Idempotency-Key": str(n)},
                json={"job_id": n, "external_job_id": f"fault-{n}", "status": "completed"},
            )
            for n in range(REPORTS)
        ]
    assert [report.job_id for report in inbox.reports] == list(range(REPORTS))
    assert set(inbox.counts) == {f"ORDS {kind}" for kind in ords.KINDS if kind}
    kept = sum(report.acknowledged for report in inbox.reports)
    assert REPORTS - kept == inbox.counts["ORDS fails"]
    assert kept - sum(answer.is_success for answer in answers) == inbox.counts["ORDS keeps it and answers 500"]


@pytest.mark.parametrize("classes", [frozenset[str](), frozenset({"events"})])
@pytest.mark.parametrize(("dropped", "lost"), [(0.0, range(1)), (0.5, range(400, 600)), (1.0, range(1000, 1001))])
def test_a_run_says_how_many_events_are_dropped(dropped: float, lost: range, classes: frozenset[str]) -> None:
    """Any share, whatever else is drawn."""
    weather = Weather(Lots(7, classes))
    weather.dropped = dropped
    assert sum(not weather.delays(event(n)) for n in range(1000)) in lost


def event(n: int) -> CloudEvent:
    return CloudEvent({"type": "some.type", "source": "/somewhere", "id": str(n)}, b"{}")


async def test_the_broker_loses_doubles_and_delays_as_it_says() -> None:
    """What arrives is what was sent, less what was lost, and what was doubled twice; not in its order."""
    weather = Weather(Lots(7, frozenset({"events"})))
    async with subscriber(204) as function:
        trigger = Trigger("t", {}, "http://function.rpa.svc.cluster.local", 3, "linear", 0.0, 60.0, None)
        broker = FaultyBroker("/", [trigger], {"function": function.url}, weather=weather)
        for n in range(EVENTS):
            broker._accept(event(n))
        lost, doubled = weather.counts["event lost"], weather.counts["event doubled"]
        await eventually(lambda: len(function.received) == EVENTS - lost + doubled, within=60)
        weather.deaf = True
        broker._accept(event(EVENTS))
        await broker.aclose()
    arrived = [int(received.headers["ce-id"]) for received in function.received]
    times = Counter(arrived)
    assert EVENTS not in times
    assert sum(count == 2 for count in times.values()) == doubled > 0
    assert EVENTS - len(times) == lost > 0
    assert arrived != sorted(arrived)
