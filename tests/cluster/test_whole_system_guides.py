"""What the guides for operators show, done on a cluster.

On the installation that test_whole_system leaves; each test leaves it whole.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from tests.cluster.knative import NAMESPACE, ROOT, System
from tests.cluster.test_whole_system_doctor import all_well, shell
from tests.docs.documents import commands, sentence

pytestmark = pytest.mark.timeout(400)

SECRET = f"""
apiVersion: v1
kind: Secret
metadata: {{name: of-the-guide, namespace: {NAMESPACE}}}
"""


async def do(script: str, folder: Path = ROOT) -> None:
    """Every command, in a folder."""
    code, said = await shell(f"cd {shlex.quote(str(folder))}\nset -e\n{script}")
    assert code == 0, said


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose `mine` is the trial that is installed."""
    shutil.copytree(ROOT / "knative", tmp_path / "knative", ignore=shutil.ignore_patterns("mine"))
    mine = tmp_path / "knative" / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text("resources: [../dev]\n")
    (tmp_path / "my-secrets.yaml").write_text(SECRET)
    return tmp_path


async def test_a_trial_is_applied_as_often_as_one_likes(system: System) -> None:  # noqa: ARG001 - it must be there
    """From the README, and from the guide."""
    await do(commands("README.md", "kubectl apply -k knative/overlays/dev"))
    await do(commands("docs/how-to/deploy.md", "kubectl apply -k knative/overlays/dev"))
    await all_well()


async def test_an_overlay_is_applied_in_steps(system: System, checkout: Path) -> None:  # noqa: ARG001
    """Namespaces, Secrets, the rest; then the schema is there."""
    await do(commands("docs/how-to/deploy.md", "kubectl apply -f knative/base/00-namespace.yaml"), checkout)
    await all_well()


async def test_a_new_version_is_applied(system: System, checkout: Path) -> None:  # noqa: ARG001
    """The Job of the version before is no hindrance; its log is there for those who look by hand."""
    await do(commands("docs/how-to/roll-out.md", "kubectl delete job migrate"), checkout)
    await do(f"kubectl wait -n {NAMESPACE} --for=condition=Complete job/migrate --timeout=300s")
    await do(commands("docs/how-to/troubleshoot.md", "kn service list"))
    await do(sentence("docs/how-to/troubleshoot.md", "kubectl annotate sinkbinding"))
    await all_well()


async def test_one_function_is_rolled_out_and_back(system: System) -> None:
    """A tenth of its requests, all, none; every revision takes jobs. Then all goes to the newest."""
    script = commands("docs/how-to/roll-out.md", "kn revision list")
    try:
        await do(script.replace("registry.example/rpa-functions:8", "dev.local/rpa-functions:1"))
        assert (await system.job(await system.submit("openserve", "GUIDE-2")))["status"]
    finally:
        await do(f"kn service update submit-job -n {NAMESPACE} --traffic @latest=100")
    await all_well()


async def test_settings_are_read_at_once(system: System) -> None:
    """Pods are replaced, and answer."""
    await do(commands("docs/how-to/roll-out.md", "kubectl delete pod"))
    assert (await system.job(await system.submit("openserve", "GUIDE-1")))["status"]
    await all_well()


async def test_an_examples_worker_is_applied(system: System, tmp_path: Path) -> None:  # noqa: ARG001
    """Its Secret and its Deployment; the image is one's own to build."""
    build, _, script = commands("examples/library_worker/README.md", "docker build").partition("\n")
    assert build.startswith("docker build ")
    (tmp_path / "octotel.env").write_text("OCTOTEL_URL=http://portal.example/\n")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    made = "secret/octotel-login deployment/octotel-worker service/octotel-worker"
    try:
        await do(script, tmp_path)
        await do(f"kubectl get -n {NAMESPACE} {made}")
    finally:
        await do(f"kubectl delete -n {NAMESPACE} --ignore-not-found {made}")
