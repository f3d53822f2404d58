"""The manifests are read as Knative reads them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from local.environment import environment
from local.kustomize import ManifestError, build
from local.manifests import Manifests, Service, seconds

KNATIVE = Path(__file__).parents[2] / "knative"
EVERYTHING = {
    "rpa-database": {"DATABASE_URL": "postgresql://here/rpa"},
    "rpa-valkey": {"VALKEY_PASSWORD": "v"},
    "rpa-tokens": {"JWT_SECRET_KEY": "k"},
    "rpa-admin": {"ADMIN_USERNAME": "admin", "ADMIN_PASSWORD": "p"},
    "rpa-ords": {"CALLBACK_AUTH_TOKEN": "t"},
    "rpa-totp": {"OCTOTEL_TOTP_SECRET": "s"},
}
FUNCTIONS = {
    "submit-job", "provision-browser", "dispatch-job", "issue-totp", "callback", "notify", "reap-idle", "monitor",
}  # fmt: skip


@pytest.fixture
def manifests() -> Manifests:
    """The ones that run here, with every Secret that they name."""
    read = Manifests(KNATIVE / "overlays" / "local")
    read.lay_over(EVERYTHING)
    return read


def service(manifests: Manifests, name: str) -> Service:
    (found,) = [service for service in manifests.services() if service.name == name]
    return found


def folder(path: Path, **files: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.yaml").write_text(textwrap.dedent(text))
    return path


def test_every_function_finds_what_it_names(manifests: Manifests, tmp_path: Path) -> None:
    """No ConfigMap, Secret or key is missing."""
    assert {service.name for service in manifests.services()} == FUNCTIONS
    for found in manifests.services():
        own = environment(manifests, found, tmp_path, {})
        assert own["FUNCTION_TARGET"] == found.name.replace("-", "_")
        assert (KNATIVE.parent / own["FUNCTION_SOURCE"]).is_file()


def test_values_come_from_where_the_container_says(manifests: Manifests, tmp_path: Path) -> None:
    """Plain values, ConfigMaps, Secrets; what is optional and missing is not set."""
    own = environment(manifests, service(manifests, "submit-job"), tmp_path, {})
    assert own["DATABASE_URL"] == "postgresql://here/rpa"
    assert own["LOG_LEVEL"] == "INFO"
    assert own["FUNCTION_USE_ASGI"] == "true"
    assert "JWT_PREVIOUS_SECRET_KEYS" not in own


def test_mounted_files_are_written_and_found(manifests: Manifests, tmp_path: Path) -> None:
    """What was removed from a ConfigMap is gone from its folder too."""
    monitor = service(manifests, "monitor")
    environment(manifests, monitor, tmp_path, {})
    del manifests.config_maps["rpa-providers"]["evotel.yaml"]
    providers = Path(environment(manifests, monitor, tmp_path, {})["PROVIDERS_DIR"])
    assert {file.name for file in providers.iterdir()} == {"metrofiber.yaml", "octotel.yaml", "openserve.yaml"}
    assert "validation" in (providers / "octotel.yaml").read_text()


def test_addresses_become_those_of_this_machine(manifests: Manifests, tmp_path: Path) -> None:
    """Those that are known here; others stay the cluster's."""
    addresses = {"issue-totp": "http://127.0.0.1:1", "ords": "http://127.0.0.1:2"}
    own = environment(manifests, service(manifests, "dispatch-job"), tmp_path, addresses)
    assert own["TOTP_URL"] == "http://127.0.0.1:1"
    assert own["CALLBACK_ENDPOINT"] == "http://127.0.0.1:2/callbacks/job"
    assert own["CALLBACK_URL"] == "http://callback.rpa.svc.cluster.local"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """The function, the setting and where it was looked for."""
    bare = Manifests(KNATIVE / "base")
    with pytest.raises(ManifestError, match=r"submit-job: DATABASE_URL needs the key DATABASE_URL of rpa-database"):
        environment(bare, service(bare, "submit-job"), tmp_path, {})


def test_events_have_their_way(manifests: Manifests) -> None:
    """Each trigger says everything that Knative would otherwise take from nowhere."""
    ways = {(trigger.attributes["type"], trigger.subscriber) for trigger in manifests.triggers()}
    cluster = "http://{}.rpa.svc.cluster.local".format
    assert ways == {
        ("rpa.job.submitted.v1", cluster("provision-browser")),
        ("rpa.job.finished.v1", cluster("provision-browser")),
        ("rpa.browser.ready.v1", cluster("dispatch-job")),
        ("rpa.job.finished.v1", cluster("notify")),
    }
    for trigger in manifests.triggers():
        assert trigger.retry
        assert trigger.backoff_seconds == 0.5
        assert trigger.dead_letter_sink == cluster("reap-idle")
    assert manifests.broker_path() == "/rpa/default"


def test_an_overlay_changes_what_it_names() -> None:
    """The rest stays as base has it."""
    base, local = Manifests(KNATIVE / "base"), Manifests(KNATIVE / "overlays" / "local")
    assert {tick.name: tick.schedule for tick in base.pings()} == {"reap-idle": "* * * * *", "monitor": "*/5 * * * *"}
    assert {tick.name: tick.schedule for tick in local.pings()}["reap-idle"] == "*/2 * * * * *"
    assert local.config_maps["rpa-config"]["TOTP_URL"] == base.config_maps["rpa-config"]["TOTP_URL"]
    assert local.config_maps["rpa-config"]["MAX_WORKERS"] != base.config_maps["rpa-config"]["MAX_WORKERS"]


def test_a_patch_of_nothing_is_refused(tmp_path: Path) -> None:
    """A misspelt name must not pass unseen."""
    folder(
        tmp_path,
        kustomization="{resources: [one.yaml], patches: [{path: two.yaml}]}",
        one="{kind: ConfigMap, metadata: {name: rpa-config}}",
        two="{kind: ConfigMap, metadata: {name: rpa-confg}}",
    )
    with pytest.raises(ManifestError, match="ConfigMap rpa-confg, which is not there"):
        build(tmp_path)


def test_secrets_are_decoded(tmp_path: Path) -> None:
    """`data` is base64, `stringData` is not and wins."""
    folder(
        tmp_path,
        kustomization="{resources: [secret.yaml]}",
        secret="""
            {apiVersion: v1, kind: Secret, metadata: {name: s}, data: {A: b25l, B: b25l}, stringData: {B: two}}
        """,
    )
    assert Manifests(tmp_path).secrets == {"s": {"A": "one", "B": "two"}}


@pytest.mark.parametrize(("text", "expected"), [("PT0.5S", 0.5), ("PT1M30S", 90), ("PT1H", 3600)])
def test_durations(text: str, expected: float) -> None:
    """ISO 8601, as deliveries have them."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["5s", "PT", "P1D", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Before an event waits on it."""
    with pytest.raises(ManifestError, match="not a duration"):
        seconds(text)


def test_schedules_can_be_changed(manifests: Manifests) -> None:
    """A tick that is not there is refused."""
    manifests.reschedule({"monitor": "*/3 * * * * *"})
    assert {tick.name: tick.schedule for tick in manifests.pings()}["monitor"] == "*/3 * * * * *"
    with pytest.raises(ManifestError, match="no PingSource reaper; there are reap-idle, monitor"):
        manifests.reschedule({"reaper": "* * * * *"})
