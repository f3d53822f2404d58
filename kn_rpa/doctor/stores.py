"""PostgreSQL, its schema, Valkey and the clocks, as the function monitor sees them from its own pod."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from kn_rpa.api import Api, Item
from kn_rpa.doctor.deployment import Deployment
from kn_rpa.doctor.finding import Finding, Mark, bad, good
from kn_rpa.doctor.secrets import fill_in
from kn_rpa.doctor.workloads import start
from kn_rpa.kube import Absent, Denied

CLOCK_SECONDS = 2.0
HERE_SECONDS = 10.0
SETTLED_SECONDS = 120
LOCAL_MEND = "make down && make up"


def check_answers(api: Api) -> Iterator[Finding]:
    """The two functions that people call."""
    for who in api.answers("submit", "monitor"):
        yield good("answers", f"{who['function']} of revision {who['revision'] or '-'}")


class Stores:
    """What monitor's diagnosis says, asked once."""

    def __init__(self, api: Api, deployment: Deployment | None) -> None:
        self._api = api
        self._deployment = deployment
        self._seen: Item | None = None

    def _diagnosis(self) -> Item:
        if self._seen is None:
            before = datetime.now(UTC)
            self._seen = self._api.get("/diagnosis", of="monitor")
            checked = datetime.fromisoformat(self._seen["checked_at"])
            # It was read at some time between: only what lies outside is a clock's error.
            outside = max(before - checked, checked - datetime.now(UTC)).total_seconds()
            self._seen["off_here"] = max(outside, 0.0)
        return self._seen

    def check_database(self) -> Iterator[Finding]:
        """It answers with the settings that functions have."""
        if problem := self._diagnosis()["database"]:
            yield bad("database", problem, self._database_mend())
        else:
            yield good("database", "PostgreSQL answers")

    def check_schema(self) -> Iterator[Finding]:
        """No migration of this version is missing."""
        missing = self._diagnosis()["missing_migrations"]
        if missing is None:
            yield Finding("schema", Mark.UNKNOWN, "not checked: the database does not answer")
        elif missing:
            mend = self._deployment.migrate() if self._deployment else LOCAL_MEND
            yield bad("schema", f"behind: the database has not {', '.join(missing)}", mend)
        else:
            yield good("schema", "every migration of this version is applied")

    def check_valkey(self) -> Iterator[Finding]:
        """It answers with the settings that functions have."""
        if problem := self._diagnosis()["valkey"]:
            yield bad("valkey", problem, self._valkey_mend(problem))
        else:
            yield good("valkey", "Valkey answers")

    def check_clocks(self) -> Iterator[Finding]:
        """Login codes are made for a time step: clocks that differ make codes that portals refuse."""
        seen = self._diagnosis()
        clocks = {name: ahead for name, ahead in seen["clocks"].items() if ahead is not None}
        yield from clock_findings(clocks, seen["off_here"])

    def check_backlog(self) -> Iterator[Finding]:
        """Events that nobody takes, and those that nobody could handle."""
        if self._diagnosis()["database"] or self._diagnosis()["missing_migrations"]:
            yield Finding("events", Mark.UNKNOWN, "not checked: the database cannot be asked")
            return
        status = self._api.get("/status", of="monitor")
        waiting, seconds, letters = status["outbox"], status["outbox_age_seconds"], status["dead_letters"]
        if seconds > SETTLED_SECONDS:
            says = f"{waiting} events wait, the oldest for {seconds:.0f} s: the broker does not take them"
            logs = "logs -l serving.knative.dev/service=reap-idle -c user-container --tail=20"
            yield bad("events", says, self._deployment.kubectl(logs) if self._deployment else LOCAL_MEND)
        if letters:
            yield Finding("events", Mark.WARNING, f"{letters} dead letters", "kn rpa deadletter list")
        if not letters and seconds <= SETTLED_SECONDS:
            yield good("events", "none waits, none is dead")

    def _database_mend(self) -> str:
        if not self._deployment:
            return LOCAL_MEND
        try:
            host = urlsplit(_secret(self._deployment, "rpa-database").get("DATABASE_URL", "")).hostname or ""
        except ValueError:
            host = ""
        return start(self._deployment, host) or fill_in(self._deployment, "rpa-database", "DATABASE_URL")

    def _valkey_mend(self, problem: str) -> str:
        if not self._deployment:
            return LOCAL_MEND
        own = _secret(self._deployment, "rpa-valkey")
        if command := start(self._deployment, {**self._deployment.config(), **own}.get("VALKEY_HOST", "")):
            return command
        if "password" in problem.lower() or "auth" in problem.lower():
            return fill_in(self._deployment, "rpa-valkey", "VALKEY_PASSWORD")
        if "VALKEY_HOST" in own:
            return fill_in(self._deployment, "rpa-valkey", "VALKEY_HOST")
        return self._deployment.kubectl("edit configmap rpa-config")


def _secret(deployment: Deployment, name: str) -> Mapping[str, str]:
    try:
        return deployment.cluster.secret(name)
    except (Absent, Denied):
        return {}


def clock_findings(ahead: dict[str, float], off_here: float) -> Iterator[Finding]:
    """What follows from the seconds by which stores are ahead of functions, and functions off this machine."""
    off = {name: seconds for name, seconds in ahead.items() if abs(seconds) > CLOCK_SECONDS}
    mend = "timedatectl set-ntp true  # on the node whose clock is wrong"
    for name, seconds in off.items():
        yield bad("clock", f"{name}'s clock and the functions' differ by {abs(seconds):.1f} s", mend)
    if off_here > HERE_SECONDS:
        says = f"the functions' clock and this machine's differ by {off_here:.1f} s; one of them is wrong"
        yield Finding("clock", Mark.WARNING, says, mend)
    elif not off:
        yield good("clock", f"{', '.join(['functions', *ahead])} and this machine agree")
