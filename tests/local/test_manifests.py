"""The manifests say what runs; the local runtime reads them as kustomize, Knative and the kubelet would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from local.environment import environment, here
from local.kustomize import ManifestError, build
from local.manifests import Manifests, Service, seconds

ROOT = Path(__file__).parents[2]
BASE = ROOT / "knative" / "base"
LOCAL = ROOT / "knative" / "overlays" / "local"
TEMPLATE = BASE / "22-secrets.template.yaml"
PUBLIC = {"submit-job", "monitor"}
SLOW = {"provision-browser": 300, "dispatch-job": 300, "issue-totp": 300}
SECRETS = {
    "submit-job": {"rpa-database", "rpa-valkey", "rpa-tokens", "rpa-admin"},
    "provision-browser": {"rpa-database", "rpa-tokens"},
    "dispatch-job": {"rpa-database", "rpa-valkey", "rpa-tokens", "rpa-totp"},
    "issue-totp": {"rpa-database", "rpa-valkey", "rpa-tokens", "rpa-totp"},
    "callback": {"rpa-database", "rpa-valkey", "rpa-tokens"},
    "notify": {"rpa-database", "rpa-ords"},
    "reap-idle": {"rpa-database"},
    "monitor": {"rpa-database", "rpa-valkey", "rpa-tokens", "rpa-ords"},
}


def documents(kind: str, group: str) -> list[dict[str, Any]]:
    return [d for d in build(BASE) if d["kind"] == kind and group in d["apiVersion"]]


def service(manifests: Manifests, name: str) -> Service:
    return next(service for service in manifests.services() if service.name == name)


@pytest.fixture
def manifests() -> Manifests:
    """With the secrets that the template names."""
    read = Manifests(LOCAL)
    for secret in yaml.safe_load_all(TEMPLATE.read_text()):
        read.lay_over({secret["metadata"]["name"]: secret["stringData"]})
    return read


def test_every_function_has_a_service() -> None:
    """One folder each, and nothing else is served."""
    folders = {path.parent.name.replace("_", "-") for path in (ROOT / "functions").glob("*/main.py")}
    assert {service.name for service in Manifests(BASE).services()} == folders == set(SECRETS)


def test_a_function_gets_only_the_secrets_that_it_needs() -> None:
    """Seeds of login codes above all."""
    for it in Manifests(BASE).services():
        named = {e["valueFrom"]["secretKeyRef"]["name"] for e in it.container["env"] if "valueFrom" in e}
        named |= {source["secretRef"]["name"] for source in it.container["envFrom"] if "secretRef" in source}
        assert named == SECRETS[it.name], it.name


def test_services_are_as_knative_and_restricted_pods_want_them() -> None:
    """Only people's functions are public; nothing is privileged, and nothing slows a cold start."""
    for document in documents("Service", "serving.knative.dev"):
        name = document["metadata"]["name"]
        visibility = document["metadata"]["labels"].get("networking.knative.dev/visibility")
        spec = document["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert (visibility is None) == (name in PUBLIC), name
        assert 60 <= spec["timeoutSeconds"] <= 300, name
        assert spec["timeoutSeconds"] == SLOW.get(name, spec["timeoutSeconds"]), name
        assert spec["serviceAccountName"] == name
        assert container["readinessProbe"] == {"httpGet": {"path": "/health/ready"}}, name
        assert container["securityContext"] == {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name
        assert {"name": "tmp", "emptyDir": {}} in spec["volumes"], name


def test_every_event_has_a_handler_and_a_last_resort() -> None:
    """Each trigger says everything about delivery, and asks no longer than its function may take."""
    read = Manifests(BASE)
    routes = {(trigger.attributes["type"], trigger.subscriber.split(".")[0]) for trigger in read.triggers()}
    assert routes == {
        ("rpa.job.submitted.v1", "http://provision-browser"),
        ("rpa.job.finished.v1", "http://provision-browser"),
        ("rpa.browser.ready.v1", "http://dispatch-job"),
        ("rpa.job.finished.v1", "http://notify"),
    }
    limits = {d["metadata"]["name"]: d["spec"]["template"]["spec"]["timeoutSeconds"]
              for d in documents("Service", "serving.knative.dev")}  # fmt: skip
    for trigger in read.triggers():
        assert trigger.retry >= 5
        assert trigger.dead_letter_sink == "http://reap-idle.rpa.svc.cluster.local"
        assert trigger.timeout_seconds <= limits[trigger.subscriber.removeprefix("http://").split(".")[0]]


def test_ticks_and_publishers() -> None:
    """The local overlay ticks faster."""
    assert {ping.name: ping.schedule for ping in Manifests(BASE).pings()} == {
        "reap-idle": "* * * * *",
        "monitor": "*/5 * * * *",
    }
    assert {ping.name: ping.schedule for ping in Manifests(LOCAL).pings()}["reap-idle"] == "*/2 * * * * *"
    publishers = {"submit-job", "provision-browser", "dispatch-job", "callback", "reap-idle"}
    assert Manifests(BASE).publishers() == publishers
    assert Manifests(BASE).broker_path() == "/rpa/default"


def test_an_environment_is_the_containers(manifests: Manifests, tmp_path: Path) -> None:
    """Values, ConfigMaps, Secrets and mounted files; addresses are this machine's."""
    manifests.lay_over({"rpa-config": {"MAX_WORKERS": "7"}, "rpa-database": {"DATABASE_URL": "postgresql://here"}})
    addresses = {"issue-totp": "http://127.0.0.1:1", "worker": "http://127.0.0.1:2"}
    found = environment(manifests, service(manifests, "dispatch-job"), tmp_path, addresses)
    assert found["FUNCTION_TARGET"] == "dispatch_job"
    assert found["MAX_WORKERS"] == "7"
    assert found["DATABASE_URL"] == "postgresql://here"
    assert found["OCTOTEL_TOTP_SECRET"] == "CHANGE-ME"
    assert found["TOTP_URL"] == "http://127.0.0.1:1"
    assert found["WORKER_URLS"] == "http://127.0.0.1:2"
    assert found["CALLBACK_URL"] == "http://callback.rpa.svc.cluster.local"
    assert "JWT_PREVIOUS_SECRET_KEYS" not in found  # optional, and not there
    providers = Path(found["PROVIDERS_DIR"])
    assert providers.is_relative_to(tmp_path)
    assert {file.name for file in providers.iterdir()} == set(manifests.config_maps["rpa-providers"])


def test_files_of_an_earlier_start_are_gone(manifests: Manifests, tmp_path: Path) -> None:
    """A provider that was removed is not read again."""
    monitor = service(manifests, "monitor")
    environment(manifests, monitor, tmp_path, {})
    del manifests.config_maps["rpa-providers"]["evotel.yaml"]
    found = environment(manifests, monitor, tmp_path, {})
    assert not (Path(found["PROVIDERS_DIR"]) / "evotel.yaml").exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """The function, the variable, and where it should come from."""
    read = Manifests(BASE)
    with pytest.raises(ManifestError, match=r"submit-job: DATABASE_URL needs the key DATABASE_URL of rpa-database"):
        environment(read, service(read, "submit-job"), tmp_path, {})
    with pytest.raises(ManifestError, match="issue-totp: secretRef names rpa-totp, which is not there"):
        environment(read, service(read, "issue-totp"), tmp_path, {})


def test_addresses_of_others_stay() -> None:
    """Only what runs here is replaced."""
    text = "http://a.rpa.svc.cluster.local/x http://b.rpa.svc.cluster.local"
    assert here(text, {"a": "http://127.0.0.1:1"}) == "http://127.0.0.1:1/x http://b.rpa.svc.cluster.local"


@pytest.mark.parametrize(("text", "value"), [("PT1S", 1), ("PT0.5S", 0.5), ("PT2M30S", 150), ("PT1H", 3600)])
def test_durations(text: str, value: float) -> None:
    """ISO 8601, as deliveries have it."""
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["1s", "PT", "P1D", "", "PT1"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """By its own text."""
    with pytest.raises(ManifestError, match="not a duration"):
        seconds(text)


def test_a_patch_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    """As kustomize does."""
    (tmp_path / "kustomization.yaml").write_text("resources: []\npatches: [{path: p.yaml}]\n")
    (tmp_path / "p.yaml").write_text("kind: ConfigMap\nmetadata: {name: nobody}\n")
    with pytest.raises(ManifestError, match="ConfigMap nobody"):
        build(tmp_path)
