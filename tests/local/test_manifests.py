"""The manifests are read as Knative reads them."""

from __future__ import annotations

import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

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
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl to compare with")
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


@pytest.mark.parametrize("name", ["submit-job", "dispatch-job", "issue-totp", "callback", "monitor"])
def test_valkey_may_be_a_secret_altogether(manifests: Manifests, name: str, tmp_path: Path) -> None:
    """Address and Sentinels too, before those of the ConfigMap; without the Secret these and no password are left."""
    sentinels = {"VALKEY_SENTINELS": "a:26379,b:26379", "VALKEY_HOST": "elsewhere", "VALKEY_PASSWORD": "v"}
    manifests.lay_over({"rpa-valkey": sentinels})
    assert environment(manifests, service(manifests, name), tmp_path, {}).items() >= sentinels.items()
    del manifests.secrets["rpa-valkey"]
    own = environment(manifests, service(manifests, name), tmp_path, {})
    assert {key: value for key, value in own.items() if key.startswith("VALKEY_")} == {
        "VALKEY_HOST": "valkey",
        "VALKEY_PORT": "6379",
    }


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
        one="{apiVersion: v1, kind: ConfigMap, metadata: {name: rpa-config, namespace: rpa}}",
        two="{apiVersion: v1, kind: ConfigMap, metadata: {name: rpa-confg, namespace: rpa}}",
    )
    with pytest.raises(ManifestError, match="ConfigMap rpa-confg in rpa, which is not there"):
        build(tmp_path)


def test_a_patch_changes_its_namesake_of_another_namespace_or_group_not(tmp_path: Path) -> None:
    """A Service of Knative and one of Kubernetes may have one name."""
    folder(
        tmp_path,
        kustomization="{resources: [all.yaml], patches: [{path: change.yaml}]}",
        all="""
            {apiVersion: v1, kind: Service, metadata: {name: worker, namespace: a}}
            ---
            {apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: worker, namespace: a}}
            ---
            {apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: worker, namespace: b}}
        """,
        change="{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: worker, namespace: b}, spec: 1}",
    )
    assert [document.get("spec") for document in build(tmp_path)] == [None, None, 1]


def kustomize(path: Path) -> list[dict[str, Any]]:
    """What the real one makes of a folder."""
    argv = ["kubectl", "kustomize", str(path)]
    return list(yaml.safe_load_all(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout))


@needs_kubectl
@pytest.mark.parametrize("name", ["base", "overlays/local"])
def test_kustomize_makes_the_same_of_it(name: str) -> None:
    """So what runs here is what a cluster would be given, in the same order."""
    assert build(KNATIVE / name) == kustomize(KNATIVE / name)


@needs_kubectl
def test_an_image_is_named_in_one_place(tmp_path: Path) -> None:
    """`kustomize edit set image` in an overlay changes it in Services, Jobs and the browsers' ConfigMap."""
    shutil.copytree(KNATIVE, tmp_path / "knative")
    folder(
        tmp_path / "knative" / "overlays" / "mine",
        kustomization="""
            resources: [../../base]
            images:
              - {name: dev.local/rpa-functions, newName: registry.example/functions, newTag: "7"}
              - {name: dev.local/rpa-browser, newName: registry.example/browser, newTag: "8"}
        """,
    )
    made = kustomize(tmp_path / "knative" / "overlays" / "mine")
    images = [d["spec"]["template"]["spec"]["containers"][0]["image"] for d in made if d["kind"] in ("Service", "Job")]
    assert images == ["registry.example/functions:7"] * 9
    (config,) = [d["data"] for d in made if d["metadata"]["name"] == "rpa-config"]
    assert config["BROWSER_SERVICE_IMAGE"] == "registry.example/browser:8"


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
