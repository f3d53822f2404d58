"""A job's way through all functions."""

from __future__ import annotations

from tests.functions.stage import Stage


async def test_a_job_goes_from_submission_to_report(stage: Stage) -> None:
    """Submitted, given a browser, handed to a worker, completed, reported once, its browser gone."""
    order = await stage.until_running(external_job_id="A-1", parameters={"circuit": "C1"})
    assert order["parameters"] == {"circuit": "C1"}
    assert order["browser_service_url"].startswith("ws://127.0.0.1:9/")
    assert list(stage.place.browsers) == [order["browser_service_id"]]

    assert (await stage.complete(order, result={"valid": True})).json() == {"status": "completed"}
    await stage.deliver_all()

    job = await stage.job(order["job_id"])
    assert job["status"] == "completed"
    assert [entry["event"] for entry in job["history"]] == [
        "submitted",
        "claimed",
        "browser_ready",
        "accepted",
        "completed",
        "reported",
    ]
    assert stage.place.browsers == {}
    assert [(r["external_job_id"], r["status"], r["result"]) for r in stage.ords.reports] == [
        ("A-1", "completed", {"valid": True})
    ]


async def test_every_event_twice_changes_nothing(stage: Stage) -> None:
    """Events delivered twice give one browser, one order and one report."""
    await stage.submit()
    for _ in range(2):
        for bell in await stage.outbox():
            await stage.deliver(bell)
            assert set(await stage.deliver(bell)) == {204}
    (order,) = stage.worker.orders
    await stage.complete(order)
    for bell in await stage.outbox():
        await stage.deliver(bell)
        assert set(await stage.deliver(bell)) == {204}
    assert len(stage.ords.reports) == 1
    assert len({spec.name for spec in stage.place.created}) == 1


async def test_all_events_lost_is_only_later(stage: Stage) -> None:
    """With every event lost, ticks of reap_idle alone bring a job to its end and its report to ORDS."""
    job = await stage.submit()
    await stage.lose_events()
    await _tick_and_deliver(stage)
    await stage.lose_events()
    await _tick_and_deliver(stage)
    (order,) = stage.worker.orders
    await stage.complete(order)
    await stage.lose_events()
    await _tick_and_deliver(stage)
    assert (await stage.job(job["id"]))["reported_at"]
    assert stage.place.browsers == {}


async def _tick_and_deliver(stage: Stage) -> None:
    for bell in await stage.tick():
        await stage.deliver(bell)
