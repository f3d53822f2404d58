"""The reference says what the code has: no more, no less."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
import pytest
import yaml
from pydantic import BaseModel

from functions.callback.reports import BYTES_PER_ATTEMPT, FILES_PER_ATTEMPT
from functions.dispatch_job.handler import UNCLEAR_SECONDS, Addresses, Handler, Waiting
from functions.dispatch_job.workers import EXECUTE_SECONDS, STATUS_SECONDS
from functions.monitor.exposition import COUNTERS, HISTOGRAMS
from functions.notify.handler import Report
from functions.provision_browser.bring_up import LEASE_SECONDS, WARM_ANSWER_SECONDS
from functions.submit_job.accounts import Client
from functions.submit_job.models import BATCH_LIMIT, JobRequest, JobWithHistory
from kn_rpa.doctor.command import doctor
from local.manifests import Manifests
from rpa_worker import Job, Worker
from shared.browsers.readiness import ROOM_SECONDS
from shared.config import LeaseSettings
from shared.events import SOURCE, Doorbell, Type
from shared.http import PAGE_DEFAULT, PAGE_LIMIT
from shared.jobs import State
from shared.lockout import REJECTION_WINDOW_SECONDS
from shared.providers import Account, Provider
from shared.tokens import Scope
from tests.docs.documents import ROOT, blocks, code, names, table
from tests.docs.generated import ALL, Generated
from tests.functions.stage import Stage, keyring
from tests.settings import BASE

HTTP_API = "docs/reference/http-api.md"
JOBS = "docs/reference/jobs.md"
EVENTS = "docs/reference/events.md"
MANIFESTS = "docs/reference/manifests.md"
WORKERS = "docs/reference/workers.md"
PROVIDERS = "docs/reference/providers.md"
SOURCES = [path for folder in ("functions", "shared") for path in sorted((ROOT / folder).rglob("*.py"))]
OF_PAGES = {"foreign_form", "unknown_picture"}
"""Codes of the dashboard's pages, which are for people."""


def firsts(document: str, head: str) -> list[str]:
    """The words in `code` of a table's first column."""
    return [word for row in table(document, head) for word in code(row[0])]


@pytest.mark.parametrize("generated", ALL, ids=lambda it: it.name)
def test_what_is_generated_is_fresh(generated: Generated) -> None:
    """`python -m tests.docs.generated` writes it anew."""
    assert generated.shown() == generated.wanted()


def test_every_manifest_and_overlay_is_listed() -> None:
    """Each file of base that is applied, and the template."""
    assert set(firsts(MANIFESTS, "file")) == {path.name for path in ROOT.glob("knative/base/[0-9]*.yaml")}
    overlays = {path.parent.name for path in ROOT.glob("knative/overlays/*/kustomization.yaml")}
    assert set(firsts(MANIFESTS, "overlay")) == overlays - {"mine"}


@pytest.mark.parametrize(
    ("document", "head", "model", "but"),
    [
        (HTTP_API, "field", JobRequest, set()),
        (PROVIDERS, "field", Provider, {"name"}),
        (PROVIDERS, "field of an account", Account, set()),
    ],
)
def test_every_field_is_told(document: str, head: str, model: type[BaseModel], but: set[str]) -> None:
    """With its default, where it has one that is a value."""
    shown = {code(name)[0]: default for name, _, default in table(document, head)}
    fields = {name: field for name, field in model.model_fields.items() if name not in but}
    assert shown.keys() == fields.keys()
    for name, field in fields.items():
        value = None if field.is_required() else field.get_default(call_default_factory=True)
        if value not in (None, ()):
            assert shown[name] == f"`{value if isinstance(value, str) else json.dumps(value)}`"
        assert (shown[name] == "must be given") == field.is_required()


def test_every_member_of_a_job_is_told() -> None:
    """As it is answered."""
    assert set(firsts(HTTP_API, "member")) == JobWithHistory.model_fields.keys()


def test_every_scope_is_told() -> None:
    """With what it lets."""
    assert set(firsts(HTTP_API, "scope")) == set(Scope)


def refusals() -> Iterator[tuple[str, str]]:
    """Status and code of each refusal that the code names in one place."""
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Problem":
                named = {it.arg: it.value for it in call.keywords}.get("code")
                status = call.args[0]
                if isinstance(named, ast.Constant) and isinstance(status, ast.Constant):
                    yield str(status.value), str(named.value)


def test_every_code_of_a_refusal_is_told() -> None:
    """With its status; and none that is not there."""
    told = {(status, named) for status, cell, _ in table(HTTP_API, "status") for named in code(cell)}
    assert {it for it in refusals() if it[1] not in OF_PAGES} - told == set()
    text = "".join(path.read_text() for path in SOURCES)
    assert [named for _, named in told if f'"{named}"' not in text] == []


def test_every_state_is_told() -> None:
    """In order."""
    assert firsts(JOBS, "state") == list(State)


def failures() -> Iterator[str]:
    """The codes of failures that the orchestrator itself names: the only short words that these calls are given."""
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and re.search(r"Failure$|fail_attempt$|_fail$", ast.unparse(call.func)):
                texts = [it.value for it in call.args if isinstance(it, ast.Constant) and isinstance(it.value, str)]
                yield from (it for it in texts if re.fullmatch(r"[a-z_]+", it))


def test_every_failure_is_told() -> None:
    """Those that workers choose are theirs."""
    assert set(firsts(JOBS, "code")) == set(failures())


def test_every_event_of_the_history_is_told() -> None:
    """Those that statements write, and those that endings are called."""
    text = "".join(path.read_text() for path in SOURCES)
    written = re.findall(
        r"INSERT INTO history \([^)]*\)\s*SELECT [\w.]+, [\w.]+, ('\w+'|CASE .*? END),", text, re.DOTALL
    )
    named = {it for expression in written for it in re.findall(r"(?:^|THEN |ELSE )'(\w+)'", expression)}
    assert len(written) >= 9
    endings = {"completed", "failed", "cancelled", "deadline_missed"}
    assert set(firsts(JOBS, "event")) == named | endings


def test_what_a_worker_is_given_is_told() -> None:
    """All of the order, with the code where it comes with it."""
    waiting = Waiting(1, 1, "octotel", "validation", {}, None, "dispatching", "", None, None, None, None, None)
    leases = LeaseSettings(environment={})
    addresses = Addresses("http://totp", "http://callback", ())
    handler = Handler(None, None, keyring(), None, None, {}, addresses, leases)  # type: ignore[arg-type]
    assert set(firsts(WORKERS, "field")) == {*handler._order(waiting), "totp_code"}


def test_the_library_is_told() -> None:
    """How a worker is made, and members that a job has."""
    shown = {name for name in names(WORKERS) if name.startswith("Worker(")}
    parameters = list(inspect.signature(Worker.__init__).parameters.values())[1:]
    assert shown == {f"Worker({', '.join(f'{it.name}={it.default}'.removesuffix('.0') for it in parameters)})"}
    members = {name.partition("(")[0] for name in firsts(WORKERS, "of a `Job`")}
    assert members <= {*vars(Job), *re.findall(r"self\.([a-z]\w+)", inspect.getsource(Job))}


def test_what_ords_is_told_is_told() -> None:
    """All of the report."""
    report = Report(1, None, "completed", None, None, datetime.now(UTC), "", 1, 1)
    assert firsts("docs/reference/reports.md", "field") == list(report.body())


async def test_every_figure_is_told(stage: Stage) -> None:
    """With its labels."""
    text = (await stage.call("monitor", "GET", "/metrics")).text
    shown = {name.partition("{")[0]: name for name in firsts("docs/reference/metrics.md", "figure")}
    assert shown.keys() == set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    for name, family in {**{f"{it}_total": COUNTERS[it] for it in COUNTERS}, **HISTOGRAMS}.items():
        assert re.findall(r"\w+", shown[f"rpa_{name}"].partition("{")[2]) == list(family.labels)


async def test_every_table_is_told(stage: Stage) -> None:
    """Of the schema that migrations make."""
    assert set(firsts("docs/explanation/tables.md", "table")) == set(await stage._tables())


def test_every_format_is_told() -> None:
    """That the plugin prints."""
    (line,) = [it for it in (ROOT / "docs/reference/kn-rpa.md").read_text().splitlines() if it.startswith("`-o` ")]
    (output,) = [it.type for it in doctor.params if it.name == "output"]
    assert isinstance(output, click.Choice)
    assert code(line) == ["-o", *output.choices, "--help"]


def manifests(file: str) -> list[dict[str, Any]]:
    """The documents of a file of base."""
    return list(yaml.safe_load_all((BASE / file).read_text()))


def test_every_event_is_told() -> None:
    """By whom it is published, and where it goes."""
    rows = {code(row[0])[0]: row[2:] for row in table(EVENTS, "type")}
    assert rows.keys() == set(Type) == {it["metadata"]["name"] for it in manifests("31-eventtypes.yaml")}
    publishers = {name.replace("_", "-") for published, _ in rows.values() for name in code(published)}
    assert publishers == {it["metadata"]["name"] for it in manifests("33-sinkbindings.yaml")}
    for trigger in Manifests(BASE).triggers():
        assert trigger.subscriber.split("/")[2].split(".")[0].replace("-", "_") in code(
            rows[trigger.attributes["type"]][1]
        )


def test_every_attribute_is_told() -> None:
    """As events have them, and as the cluster lists them."""
    event = Doorbell(Type.JOB_SUBMITTED, 12, 1, "trace").cloud_event()
    told = set(firsts(EVENTS, "attribute"))
    assert told == event.get_attributes().keys() - {"specversion", "time"}
    assert SOURCE in {word for row in table(EVENTS, "attribute") for word in code(row[1])}
    for kind in manifests("31-eventtypes.yaml"):
        assert {it["name"] for it in kind["spec"]["attributes"]} - {"specversion"} <= told


@pytest.mark.parametrize("block", blocks("json"), ids=lambda it: it.document)
def test_json_is_json(block: Any) -> None:
    """Examples can be copied."""
    json.loads(block.text)


def test_the_example_of_a_program_is_one() -> None:
    """It may be named in API_CLIENTS as it stands."""
    (example,) = [json.loads(it.text) for it in blocks("json") if it.document == HTTP_API]
    assert [Client.model_validate_json(json.dumps(it)).scopes for it in example.values()]


def test_the_example_of_a_provider_is_one() -> None:
    """It is a valid entry, with two accounts."""
    (example,) = [yaml.safe_load(it.text) for it in blocks("yaml") if it.document == "docs/how-to/add-a-portal.md"]
    provider = Provider.model_validate({"name": "octotel", **example})
    assert [account.credentials for account in provider.accounts] == ["OCTOTEL", "OCTOTEL_2"]


def test_connections_are_counted() -> None:
    """Of all functions at their most."""
    most = sum(
        int(service["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/max-scale"])
        for path in BASE.glob("4*.yaml")
        for service in [yaml.safe_load(path.read_text())]
    )
    size = int(Manifests(BASE).config_maps["rpa-config"]["DATABASE_POOL_SIZE"])
    text = (ROOT / "docs/how-to/plan-capacity.md").read_text()
    assert f"`max-scale`, {most} pods: {most * size} connections" in text


MIB = 1024 * 1024
BOUNDS = [
    (JOBS, f"; {LEASE_SECONDS:.0f} s after whoever starts it went silent"),
    (JOBS, f"has {UNCLEAR_SECONDS:.0f} s to be heard of"),
    (HTTP_API, f"{PAGE_DEFAULT} unless `limit` says otherwise, {PAGE_LIMIT} at most"),
    (HTTP_API, f'`{{"jobs": [...]}}`, {BATCH_LIMIT} at most'),
    (WORKERS, f"within {STATUS_SECONDS:.0f} s"),
    (WORKERS, f"within {EXECUTE_SECONDS:.0f} s"),
    (WORKERS, f"{FILES_PER_ATTEMPT} files and {BYTES_PER_ATTEMPT // MIB} MiB"),
    ("docs/how-to/plan-capacity.md", f"{FILES_PER_ATTEMPT} files and\n{BYTES_PER_ATTEMPT // MIB} MiB"),
    ("docs/explanation/browsers.md", f"after {ROOM_SECONDS:.0f} s the job gives its place back"),
    ("docs/explanation/browsers.md", f"costs {WARM_ANSWER_SECONDS:.0f} s at most"),
    ("docs/explanation/login-codes.md", {600: "within ten minutes"}[REJECTION_WINDOW_SECONDS]),
]


@pytest.mark.parametrize(("document", "words"), BOUNDS)
def test_a_bound_is_the_codes(document: str, words: str) -> None:
    """What prose says of seconds and sizes."""
    assert words in (ROOT / document).read_text()
