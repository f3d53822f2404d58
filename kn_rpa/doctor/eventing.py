"""The broker, who publishes to it, who is called by it, and the ticks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kn_rpa.doctor.deployment import EVENTING, SOURCES, Deployment, not_ready
from kn_rpa.doctor.expected import PUBLISHERS, SUBSCRIPTIONS, TICKED
from kn_rpa.doctor.finding import Finding, Mark, bad, good
from kn_rpa.kube import Absent, Thing

EVENTING_MISSING = "Knative Eventing is not installed: its resources are unknown to this cluster"


def broker_name(deployment: Deployment) -> str:
    """The broker that the bindings lead to; `default`, where there are none."""
    sinks = [_sink(binding) for binding in deployment.all(SOURCES, "sinkbindings").values()]
    return next((name for kind, name in sinks if kind == "Broker"), "default")


def _sink(thing: Thing) -> tuple[str, str]:
    reference = thing["spec"]["sink"].get("ref", {})
    return str(reference.get("kind", "")), str(reference.get("name", ""))


def check_broker(deployment: Deployment) -> Iterator[Finding]:
    """It is there and ready, and those who publish have its address."""
    try:
        brokers, bindings = deployment.all(EVENTING, "brokers"), deployment.all(SOURCES, "sinkbindings")
    except Absent:
        yield bad("broker", EVENTING_MISSING)
        return
    name = broker_name(deployment)
    if name not in brokers:
        yield bad("broker", f"Broker {name} is missing; events wait in the outbox", deployment.new_broker(name))
        return
    if problem := not_ready(brokers[name]):
        yield bad("broker", f"Broker {name} is not ready: {problem}", deployment.kubectl(f"describe broker {name}"))
        return
    problems = list(_without_address(deployment, bindings.values()))
    yield from problems or [good("broker", f"{name} is ready, and {len(PUBLISHERS)} functions have its address")]


def _without_address(deployment: Deployment, bindings: Iterable[Thing]) -> Iterator[Finding]:
    """Functions that publish and do not know where."""
    bound = {binding["spec"]["subject"].get("name"): binding for binding in bindings}
    lost = [function for function in PUBLISHERS if function not in bound]
    if lost:
        says = f"SinkBinding missing for {', '.join(lost)}: their events wait in the outbox"
        yield bad("broker", says, deployment.apply())
    waiting = {function: not_ready(bound[function]) for function in PUBLISHERS if function in bound}
    stuck = {function: problem for function, problem in waiting.items() if problem}
    if stuck:
        says = f"SinkBinding of {', '.join(stuck)} is not ready: {next(iter(stuck.values()))}"
        yield bad("broker", says, deployment.rebind())


def check_triggers(deployment: Deployment) -> Iterator[Finding]:
    """Each event reaches each of its subscribers, whatever the Triggers are called."""
    try:
        triggers, brokers = deployment.all(EVENTING, "triggers"), deployment.all(EVENTING, "brokers")
    except Absent:
        yield bad("triggers", EVENTING_MISSING)
        return
    name = broker_name(deployment)
    broken = False
    for kind, subscriber in SUBSCRIPTIONS:
        found = [it for it in triggers.values() if _delivers(it, name, kind, subscriber)]
        if not found:
            broken = True
            yield bad("triggers", f"no Trigger brings {kind} to {subscriber}", deployment.apply())
        elif name in brokers and all(not_ready(it) for it in found):
            broken = True
            trigger = found[0]["metadata"]["name"]
            says = f"Trigger {trigger} is not ready: {not_ready(found[0])}"
            yield bad("triggers", says, deployment.kubectl(f"describe trigger {trigger}"))
    if name not in brokers:
        yield Finding("triggers", Mark.UNKNOWN, f"they wait for the broker {name}")
    elif not broken:
        yield good("triggers", f"{len(SUBSCRIPTIONS)} subscriptions are ready")


def _delivers(trigger: Thing, broker: str, kind: str, subscriber: str) -> bool:
    spec = trigger["spec"]
    reference = spec.get("subscriber", {}).get("ref", {})
    wanted = spec.get("filter", {}).get("attributes", {}).get("type")
    return (spec.get("broker"), wanted, reference.get("name")) == (broker, kind, subscriber)


def check_ticks(deployment: Deployment) -> Iterator[Finding]:
    """Without ticks nothing that was lost is found again."""
    try:
        sources = deployment.all(SOURCES, "pingsources")
    except Absent:
        yield bad("ticks", EVENTING_MISSING)
        return
    called = {_sink(source)[1]: source for source in sources.values()}
    broken = False
    for function in TICKED:
        if function not in called:
            broken = True
            yield bad("ticks", f"no PingSource calls {function}", deployment.apply())
        elif problem := not_ready(called[function]):
            broken = True
            source = called[function]["metadata"]["name"]
            says = f"PingSource {source} is not ready: {problem}"
            yield bad("ticks", says, deployment.kubectl(f"describe pingsource {source}"))
    if not broken:
        yield good("ticks", ", ".join(f"{name} at {called[name]['spec']['schedule']}" for name in TICKED))
