"""monitor says what its pod sees of the stores."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.conftest import fresh_database
from tests.functions.stage import Stage, open_stage


async def test_a_whole_system_has_no_problem(stage: Stage) -> None:
    """Both stores answer, no migration is missing, and the clocks of one machine agree."""
    seen = (await stage.call("monitor", "GET", "/diagnosis")).json()
    assert (seen["database"], seen["valkey"], seen["missing_migrations"]) == (None, None, [])
    assert abs(seen["clocks"]["database"]) < 1
    assert abs(seen["clocks"]["valkey"]) < 1


class WrongClock:
    """The pod's, some seconds ahead; in the place of `time` and of `datetime`."""

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time() + self._ahead

    def now(self, zone: tzinfo) -> datetime:
        """Date and time."""
        return datetime.now(zone) + timedelta(seconds=self._ahead)


def set_clock(monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    """Have monitor's pod live in the future, or in the past."""
    for name in ("time", "datetime"):
        monkeypatch.setattr(f"functions.monitor.diagnosis.{name}", WrongClock(ahead))


@pytest.mark.parametrize("ahead", [30, -30])
async def test_a_clock_that_is_wrong_is_measured(stage: Stage, monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    """By both stores' clocks, to which the pod's seems right and theirs wrong."""
    set_clock(monkeypatch, ahead)
    seen = (await stage.call("monitor", "GET", "/diagnosis")).json()
    assert seen["clocks"] == {"database": pytest.approx(-ahead, abs=5), "valkey": pytest.approx(-ahead, abs=5)}


async def test_it_is_for_those_who_may_watch(stage: Stage) -> None:
    """What is wrong with a system is not everybody's business."""
    assert (await stage.clients["monitor"].get("/diagnosis")).status_code == 401


async def test_stores_that_are_away_are_named_with_the_reason(database_url: str, tmp_path: Path) -> None:
    """200 all the same: it says in which store the trouble is, and in that store's words."""
    gone = database_url.replace("/test_", "/gone_")
    valkey = {"VALKEY_HOST": "127.0.0.1", "VALKEY_PORT": "1"}
    async with open_stage(database_url, valkey, tmp_path / "p", DATABASE_URL=gone) as stage:
        answer = await stage.call("monitor", "GET", "/diagnosis")
    seen = answer.json()
    assert (answer.status_code, seen["missing_migrations"]) == (200, None)
    assert "does not exist" in seen["database"]
    assert "127.0.0.1:1" in seen["valkey"]
    assert seen["clocks"] == {"database": None, "valkey": None}


async def test_a_server_that_takes_no_writes_is_no_database(
    database_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """A replica that answers is not what functions need: the reason is told."""
    name = conninfo_to_dict(database_url)["dbname"]
    async with open_stage(database_url, valkey_settings, tmp_path / "p") as stage:
        await stage.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        seen = (await stage.call("monitor", "GET", "/diagnosis")).json()
    assert "read-only" in seen["database"]
    assert seen["missing_migrations"] is None


async def test_a_schema_that_is_behind_is_named(
    postgres_server_url: str, valkey_settings: dict[str, str], tmp_path: Path
) -> None:
    """Migrations that the database has not are listed, in order."""
    for url in fresh_database(postgres_server_url, "template1"):
        async with open_stage(url, valkey_settings, tmp_path / "p") as stage:
            seen = (await stage.call("monitor", "GET", "/diagnosis")).json()
    assert seen["database"] is None
    assert seen["missing_migrations"][0] == "0001.initial"
