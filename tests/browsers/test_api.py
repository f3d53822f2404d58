"""What the Kubernetes API's answers mean, where no cluster is needed to know."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared.browsers import BrowserFailed, BrowsersUnavailable
from shared.browsers.api_errors import ApiError
from shared.browsers.kubernetes import KubernetesBrowsers
from shared.browsers.refusals import explained
from shared.config import BrowserSettings, load


@pytest.mark.parametrize("before", range(350, 401, 10))
def test_what_the_api_repeats_of_a_pod_is_not_passed_on(before: int) -> None:
    """A webhook's message may quote the pod's environment; nor is a part of it where the message is cut."""
    message = f'webhook "nosy" denied: {"x" * (before - 24)} WS_PATH=/secret-path is not allowed'
    with pytest.raises(BrowsersUnavailable) as told, explained("rpa-browsers", secret="/secret-path"):
        raise ApiError(403, "Forbidden", message)
    assert "nosy" in told.value.reason
    assert "/sec" not in told.value.reason
    assert len(told.value.reason) < 500


def test_a_user_of_a_kubeconfig_lacks_a_right() -> None:
    """It is named as a user."""
    message = 'pods is forbidden: User "ann" cannot watch resource "pods" in API group "" in the namespace "x"'
    told = pytest.raises(BrowsersUnavailable, match="the user ann may not watch pods in namespace x; grant")
    with told, explained("x"):
        raise ApiError(403, "Forbidden", message)


def test_browser_errors_pass() -> None:
    """They are explained already."""
    with pytest.raises(BrowserFailed, match="as it was"), explained("x"):
        raise BrowserFailed("as it was")


async def test_no_cluster_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Neither a ServiceAccount nor a kubeconfig: said when first used."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none")
    browsers = KubernetesBrowsers(load(BrowserSettings, {"BROWSER_SERVICE_IMAGE": "rpa-browser:1"}))
    with pytest.raises(BrowsersUnavailable, match="no way to the Kubernetes API"):
        await browsers.delete("rpa-browser-1-1")
    await browsers.aclose()


def test_a_cold_start_does_not_pay_for_the_client() -> None:
    """It is imported when first used, and its generated classes never."""
    program = (
        "import sys\n"
        "import shared.browsers.kubernetes\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('kubernetes', 'aiohttp')]\n"
        "from kubernetes.aio.client import ApiClient\n"
        "from shared.browsers.api import unlimited\n"
        "assert ApiClient and unlimited()\n"
        "assert not [name for name in sys.modules if '.client.models.' in name or '.client.api.' in name]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
