"""The pod that Kubernetes is asked for."""

from __future__ import annotations

import pytest

from shared.browsers import BrowserSpec
from shared.browsers.kubernetes import KubernetesBrowsers
from shared.browsers.local import LocalBrowsers
from shared.browsers.manifest import manifest, secret_path_of
from shared.browsers.place import open_browsers
from shared.config import BrowserSettings, ConfigError, load

SPEC = BrowserSpec("rpa-browser-7-2", "/secret-path-of-the-tests", 2405, 7, 2)
IMAGE = {"BROWSER_SERVICE_IMAGE": "registry.example/rpa-browser:3"}


def settings(**changes: str) -> BrowserSettings:
    """Settings of browsers as pods."""
    return load(BrowserSettings, IMAGE | changes)


def test_kubernetes_ends_it_by_itself() -> None:
    """Whoever else is dead: once, and it is not started again."""
    pod = manifest(SPEC, settings())["spec"]
    assert (pod["activeDeadlineSeconds"], pod["restartPolicy"]) == (2405, "Never")


def test_it_may_do_nothing() -> None:
    """As the `restricted` level wants it, and no way from the pod to the Kubernetes API."""
    pod = manifest(SPEC, settings())["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_its_size_is_configured() -> None:
    """Shared memory counts as memory, so it has a limit of its own."""
    pod = manifest(
        SPEC,
        settings(
            BROWSER_CPU_REQUEST="100m",
            BROWSER_CPU_LIMIT="1.5",
            BROWSER_MEMORY_REQUEST="600Mi",
            BROWSER_MEMORY_LIMIT="3G",
            BROWSER_SHM_SIZE="256Mi",
        ),
    )["spec"]
    assert pod["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "600Mi"},
        "limits": {"cpu": "1.5", "memory": "3G"},
    }
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}} in pod["volumes"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]  # noqa: S108
    assert pod["containers"][0]["image"] == IMAGE["BROWSER_SERVICE_IMAGE"]


def test_its_secret_path_is_in_its_environment_only() -> None:
    """It can be read back to recognise a browser, and is in no name, label or annotation."""
    pod = manifest(SPEC, settings())
    assert secret_path_of(pod) == SPEC.secret_path
    assert SPEC.secret_path not in str(pod["metadata"])
    assert str(pod).count(SPEC.secret_path) == 1


@pytest.mark.parametrize("size", ["1 Gi", "-1", "1GB", "", "lots"])
def test_a_size_that_kubernetes_would_not_read_is_named_at_start(size: str) -> None:
    """And an empty one is the default."""
    if not size:
        assert settings(BROWSER_MEMORY_LIMIT=size).browser_memory_limit == "2Gi"
        return
    with pytest.raises(ConfigError, match="BROWSER_MEMORY_LIMIT: must be an amount"):
        settings(BROWSER_MEMORY_LIMIT=size)


def test_a_namespace_that_cannot_be_is_named_at_start() -> None:
    """It becomes a part of the API's addresses."""
    with pytest.raises(ConfigError, match="NAMESPACE"):
        settings(NAMESPACE="../kube-system")


def test_browsers_run_where_the_configuration_says() -> None:
    """At the local node where there is one, else as pods, and these need an image."""
    assert isinstance(open_browsers(load(BrowserSettings, {"BROWSER_NODE_URL": "http://node"})), LocalBrowsers)
    assert isinstance(open_browsers(settings()), KubernetesBrowsers)
    with pytest.raises(ConfigError, match="BROWSER_SERVICE_IMAGE: not set"):
        load(BrowserSettings, {})
