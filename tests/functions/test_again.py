"""How often reap_idle sends an event again that is not acted on."""

from __future__ import annotations

from functions.reap_idle.again import Again
from shared.events import Doorbell, Type


def bell(job_id: int) -> Doorbell:
    return Doorbell(Type.JOB_FINISHED, job_id, 1, "00-0-0-00")


def sent(tick: int, seconds: int) -> list[int]:
    """When an event is sent that nobody ever acts on, with a tick every so many seconds."""
    again = Again()
    return [age for age in range(0, seconds, tick) if again.due([(bell(1), age)])]


def test_a_queue_is_not_filled_with_what_is_in_it() -> None:
    """Ticks of two seconds send it ever more rarely."""
    assert sent(2, 200) == [0, 6, 16, 36, 76, 126, 176]


def test_a_tick_a_minute_sends_all_each_time() -> None:
    """So that a lost event costs one reaping interval."""
    assert sent(60, 600) == list(range(0, 600, 60))


def test_what_was_acted_on_is_forgotten() -> None:
    """If it comes back, or waits anew, it is sent at once."""
    again = Again()
    assert again.due([(bell(1), 10.0), (bell(2), 10.0)]) == [bell(1), bell(2)]
    assert again.due([(bell(2), 11.0), (bell(3), 9.0)]) == [bell(3)]
    assert again.due([(bell(1), 12.0), (bell(2), 5.0), (bell(3), 10.0)]) == [bell(1), bell(2)]
