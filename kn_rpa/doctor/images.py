"""The functions' Services and the images that they and the browsers run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kn_rpa.doctor.deployment import SERVING, Deployment, not_ready
from kn_rpa.doctor.expected import FUNCTIONS
from kn_rpa.doctor.finding import Finding, Mark, bad, good
from kn_rpa.kube import Absent, Denied, Thing

PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
STUCK = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff")
SERVICE, REVISION = "serving.knative.dev/service", "serving.knative.dev/revision"


@dataclass(frozen=True)
class Trouble:
    """A container that does not come up."""

    function: str
    image: str
    reason: str
    message: str


def check_functions(deployment: Deployment) -> Iterator[Finding]:
    """Each is there, and its newest revision is ready. What is wrong with an image is said of the image."""
    try:
        services = deployment.services()
    except Absent:
        yield bad("functions", "Knative Serving is not installed: its resources are unknown to this cluster")
        return
    missing = [name for name in FUNCTIONS if name not in services]
    if missing:
        yield bad("functions", f"Service {', '.join(missing)} is missing", deployment.apply())
    troubles = {trouble.function: trouble for trouble in _troubles(deployment, services)}
    broken = False
    for name in FUNCTIONS:
        trouble = troubles.get(name)
        if name in missing or (trouble and trouble.reason in PULL):
            continue
        if trouble:
            broken = True
            yield bad("functions", f"{name}: {trouble.reason}: {_last_words(trouble.message)}", _look(deployment, name))
        elif problem := not_ready(services[name]):
            broken = True
            yield bad("functions", f"{name} is not ready: {_last_words(problem)}", _look(deployment, name))
    if not missing and not broken and not any(trouble.reason in PULL for trouble in troubles.values()):
        yield good("functions", f"{len(FUNCTIONS)} Services are ready")


def _look(deployment: Deployment, name: str) -> str:
    return deployment.kubectl(f"logs -l {SERVICE}={name} -c user-container --tail=20")


def _last_words(log: str) -> str:
    """Why a process ended, by the last lines that it printed: an exception without its traceback, or the last line."""
    # uvicorn's own lines name nothing.
    lines = [line for line in log.strip().splitlines() if not line.startswith("ERROR:")]
    inner = [n for n, line in enumerate(lines) if line.startswith(" ")]
    words = "; ".join(lines[inner[-1] + 1 :]) if inner else ""
    return (words or "".join(lines[-1:]).strip())[:300]


def _troubles(deployment: Deployment, services: dict[str, Thing]) -> Iterator[Trouble]:
    newest = {name: it.get("status", {}).get("latestCreatedRevisionName") for name, it in services.items()}
    for pod in deployment.all("/api/v1", "pods").values():
        labels = pod["metadata"].get("labels", {})
        name = labels.get(SERVICE)
        if name in newest and labels.get(REVISION) == newest[name] and "deletionTimestamp" not in pod["metadata"]:
            yield from _of_pod(name, pod)


def _of_pod(name: str, pod: Thing) -> Iterator[Trouble]:
    images = {it["name"]: it["image"] for it in pod["spec"]["containers"]}
    for status in pod.get("status", {}).get("containerStatuses", []):
        waiting = status["state"].get("waiting", {})
        ended = status["state"].get("terminated") or status.get("lastState", {}).get("terminated", {})
        image = images[status["name"]]
        if waiting.get("reason") in (*PULL, *STUCK):
            yield Trouble(name, image, waiting["reason"], ended.get("message") or waiting.get("message", ""))
        elif ended.get("exitCode") and not status.get("ready"):
            yield Trouble(name, image, f"exit code {ended['exitCode']}", ended.get("message", ""))


def check_images(deployment: Deployment) -> Iterator[Finding]:
    """Nodes can get them."""
    try:
        services = deployment.services()
    except Absent:
        return
    broken = [trouble for trouble in _troubles(deployment, services) if trouble.reason in PULL]
    told = set()
    for trouble in broken:
        if trouble.function not in told:
            told.add(trouble.function)
            says = f"{trouble.function}: {trouble.reason}: {trouble.image}"
            yield bad("image", says, _other_image(deployment, services, trouble))
    browser = list(_browser_image(deployment))
    yield from browser
    if not broken:
        images = Counter(_image(service) for service in services.values())
        yield good("image", "functions run " + ", ".join(sorted(images)))


def _image(service: Thing) -> str:
    return str(service["spec"]["template"]["spec"]["containers"][0]["image"])


def _other_image(deployment: Deployment, services: dict[str, Thing], trouble: Trouble) -> str:
    """The image that this function ran before, else the one that the others run, else the manifests'."""
    before = services[trouble.function].get("status", {}).get("latestReadyRevisionName")
    known = {name: it for name, it in deployment.all(SERVING, "revisions").items() if name == before}
    images = [str(it["spec"]["containers"][0]["image"]) for it in known.values()]
    images += [image for image, _ in Counter(map(_image, services.values())).most_common()]
    for image in images:
        if image != trouble.image:
            return deployment.kn(f"service update {trouble.function} --image {image}")
    return deployment.apply()


def _browser_image(deployment: Deployment) -> Iterator[Finding]:
    image = deployment.config().get("BROWSER_SERVICE_IMAGE", "")
    if not image:
        return  # without its ConfigMap, which the check of these says
    pods: Iterable[Thing] = deployment.all("/api/v1", "pods", deployment.browsers).values()
    for trouble in [it for pod in pods for it in _of_pod("browser", pod) if it.reason in PULL]:
        says = f"browsers: {trouble.reason}: {trouble.image} (BROWSER_SERVICE_IMAGE of rpa-config)"
        yield bad("image", says, deployment.apply())
        return
    try:
        present = _on_a_node(deployment, image)
    except Denied:
        return
    if present:
        yield good("image", f"browsers run {image}")
    else:
        says = f"browsers: no node has {image} yet; whether one can get it shows when the first browser starts"
        yield Finding("image", Mark.WARNING, says)


def _on_a_node(deployment: Deployment, image: str) -> bool:
    nodes = deployment.cluster.items("/api/v1/nodes")
    names = {name for node in nodes for it in node["status"].get("images", []) for name in it.get("names") or []}
    return image in names or f"docker.io/{image}" in names or f"docker.io/library/{image}" in names
