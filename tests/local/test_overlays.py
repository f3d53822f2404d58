"""What each overlay makes of base, as kustomize prints it: a misspelt class or annotation changes nothing unseen."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from local.kustomize import identity
from tests.local.test_base import PUBLIC, SECRETS
from tests.local.test_manifests import kustomize, needs_kubectl

pytestmark = needs_kubectl

KNATIVE = Path(__file__).parents[2] / "knative"
REGISTRY = "image-registry.openshift-image-registry.svc:5000/rpa"
ASYNC = {"messaging.knative.dev/async-handler": "true"}
"""Understood by the in-memory channel's broker alone."""

Document = dict[str, Any]


@cache
def made(folder: str) -> tuple[Document, ...]:
    return tuple(kustomize(KNATIVE / folder))


def of(folder: str, kind: str, group: str = "") -> dict[str, Document]:
    """Documents of a kind by name."""
    return {d["metadata"]["name"]: d for d in made(folder) if d["kind"] == kind and group in d["apiVersion"]}


def changed(folder: str) -> set[str]:
    """The kinds of what an overlay adds to base or changes in it."""
    base = {identity(d): d for d in made("base")}
    assert base.keys() <= {identity(d) for d in made(folder)}
    return {d["kind"] for d in made(folder) if base.get(identity(d)) != d}


@pytest.mark.parametrize(
    ("folder", "annotations", "config", "triggers"),
    [
        ("base", ASYNC, None, None),
        ("overlays/local", ASYNC, None, None),
        ("overlays/dev", ASYNC, None, None),
        ("overlays/openshift", ASYNC, None, None),
        (
            "overlays/kafka",
            {"eventing.knative.dev/broker.class": "Kafka"},
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "kafka-broker-config", "namespace": "knative-eventing"},
            {"kafka.eventing.knative.dev/delivery.order": "unordered"},
        ),
        (
            "overlays/rabbitmq",
            {"eventing.knative.dev/broker.class": "RabbitMQBroker"},
            {"apiVersion": "eventing.knative.dev/v1alpha1", "kind": "RabbitmqBrokerConfig", "name": "default"},
            {"rabbitmq.eventing.knative.dev/parallelism": "50"},
        ),
    ],
)
def test_the_broker_is_of_the_class_that_the_overlay_is_for(
    folder: str, annotations: Document, config: Document | None, triggers: Document | None
) -> None:
    """Its Triggers deliver at once what comes at once, and are in all else those of base."""
    (broker,) = of(folder, "Broker").values()
    assert broker["metadata"] == {"name": "default", "namespace": "rpa", "annotations": annotations}
    assert broker.get("spec") == ({"config": config} if config else None)
    assert len(of(folder, "Trigger")) == 4
    for name, trigger in of(folder, "Trigger").items():
        assert trigger["metadata"].get("annotations") == triggers, name
        assert trigger["spec"] == of("base", "Trigger")[name]["spec"], name


def test_kafka_changes_nothing_else() -> None:
    """Broker and Triggers."""
    assert changed("overlays/kafka") == {"Broker", "Trigger"}


def test_rabbitmq_has_its_configuration() -> None:
    """The one that the Broker names, in its namespace: queues that outlive a node, of a cluster that exists outside."""
    assert changed("overlays/rabbitmq") == {"Broker", "Trigger", "RabbitmqBrokerConfig"}
    (config,) = of("overlays/rabbitmq", "RabbitmqBrokerConfig").values()
    assert (config["metadata"]["namespace"], config["metadata"]["name"]) == ("rpa", "default")
    assert config["spec"] == {
        "rabbitmqClusterReference": {"name": "rabbitmq", "namespace": "rabbitmq"},
        "queueType": "quorum",
    }


def test_openshift_takes_every_image_from_its_registry() -> None:
    """The browsers' too, whose namespace may pull from project rpa."""
    services = of("overlays/openshift", "Service", "serving.knative.dev").values()
    pods = [d["spec"]["template"]["spec"] for d in (*services, *of("overlays/openshift", "Job").values())]
    assert len(pods) == len(SECRETS) + 1
    assert {container["image"] for pod in pods for container in pod["containers"]} == {f"{REGISTRY}/rpa-functions:1"}
    config = of("overlays/openshift", "ConfigMap")["rpa-config"]["data"]
    assert config["BROWSER_SERVICE_IMAGE"] == f"{REGISTRY}/rpa-browser:1"
    puller = of("overlays/openshift", "RoleBinding")["browsers-pull-images"]
    assert puller["metadata"]["namespace"] == "rpa"
    assert (puller["roleRef"]["kind"], puller["roleRef"]["name"]) == ("ClusterRole", "system:image-puller")
    assert [s["name"] for s in puller["subjects"]] == ["system:serviceaccounts:rpa-browsers"]


def test_openshift_keeps_base_s_namespaces() -> None:
    """With the label without which no SinkBinding works there."""
    assert of("overlays/openshift", "Namespace") == of("base", "Namespace")
    assert of("overlays/openshift", "Namespace")["rpa"]["metadata"]["labels"]["bindings.knative.dev/include"] == "true"
    places = {d["metadata"]["namespace"] for d in made("overlays/openshift") if d["kind"] != "Namespace"}
    assert places == {"rpa", "rpa-browsers"}


def test_openshift_counts_its_proxies() -> None:
    """Three before submit-job, of which the activator is one only where it never steps aside."""
    assert of("overlays/openshift", "ConfigMap")["rpa-config"]["data"]["TRUSTED_PROXIES"] == "3"
    services = of("overlays/openshift", "Service", "serving.knative.dev")
    annotations = {name: d["spec"]["template"]["metadata"]["annotations"] for name, d in services.items()}
    bursts = {name: a.get("autoscaling.knative.dev/target-burst-capacity") for name, a in annotations.items()}
    assert {name: value for name, value in bursts.items() if value} == {"submit-job": "-1"}
    assert annotations["submit-job"]["autoscaling.knative.dev/min-scale"] == "0"
    visible = "networking.knative.dev/visibility"
    assert {name for name, d in services.items() if visible not in d["metadata"]["labels"]} == PUBLIC


def test_openshift_s_policies_name_its_kourier() -> None:
    """In place of base's namespace, which does not exist there; the directions and pods are base's."""
    policies = of("overlays/openshift", "NetworkPolicy")
    for name, policy in of("base", "NetworkPolicy").items():
        assert policies[name]["spec"]["podSelector"] == policy["spec"]["podSelector"]
        assert policies[name]["spec"]["policyTypes"] == policy["spec"]["policyTypes"]
    (rule,) = policies["functions-from-knative"]["spec"]["ingress"]
    (peer,) = rule["from"]
    (expression,) = peer["namespaceSelector"]["matchExpressions"]
    assert expression["values"] == ["knative-serving", "knative-serving-ingress"]
    (rule,) = policies["browsers-to-callback-and-totp"]["spec"]["egress"]
    assert rule["to"] == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "knative-serving-ingress"}},
            "podSelector": {"matchLabels": {"app": "3scale-kourier-gateway"}},
        }
    ]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8081}]


def test_dev_is_whole_and_small() -> None:
    """Every Secret, something to work with, and functions that go to zero within seconds."""
    assert set().union(*SECRETS.values()) <= set(of("overlays/dev", "Secret"))
    assert set(of("overlays/dev", "Deployment")) == {"postgres", "valkey", "portal", "worker", "ords"}
    for name, service in of("overlays/dev", "Service", "serving.knative.dev").items():
        annotations = service["spec"]["template"]["metadata"]["annotations"]
        assert annotations["autoscaling.knative.dev/max-scale"] == "3", name
        assert annotations["autoscaling.knative.dev/window"] == "15s", name
    assert of("overlays/dev", "PingSource")["reap-idle"]["spec"]["schedule"] == "*/5 * * * * *"
    config = of("overlays/dev", "ConfigMap")["rpa-config"]["data"]
    assert (config["MAX_WORKERS"], config["HEALTH_REPORT_ENABLED"]) == ("4", "true")
    assert config["WORKER_URLS"] == of("base", "ConfigMap")["rpa-config"]["data"]["WORKER_URLS"]
