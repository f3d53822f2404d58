"""Which deployment is meant: the options that every command takes, and the way to its two functions."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from kn_rpa.errors import Failure
from kn_rpa.kube import Absent, Cluster

NAMESPACE = "rpa"
FUNCTIONS = {"submit": "submit-job", "monitor": "monitor"}
SERVICES = "/apis/serving.knative.dev/v1/namespaces/{namespace}/services/{name}"


@dataclass(frozen=True)
class Address:
    """Where a function answers; `host` is its name where the way leads over an ingress."""

    url: str
    host: str | None = None


@dataclass
class Target:
    """What the options and the environment say."""

    namespace: str | None = None
    kubeconfig: str | None = None
    context: str | None = None
    url: str | None = None
    monitor_url: str | None = None
    ingress: str | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _cluster: Cluster | None = None

    @property
    def local(self) -> Mapping[str, str]:
        """What `make up` says of its system, where one runs in this folder and no other is named."""
        if self.url or self.names_cluster or "SUBMIT_URL" in self.environment:
            return {}
        file = Path(self.environment.get("RPA_LOCAL", ".local")) / "env"
        try:
            words = shlex.split(file.read_text())
        except OSError:
            return {}
        return dict(word.partition("=")[::2] for word in words)

    @property
    def names_cluster(self) -> bool:
        """Whether the caller named a cluster or a namespace of it."""
        return bool(self.namespace or self.kubeconfig or self.context)

    @property
    def on_cluster(self) -> bool:
        """Whether there is a cluster behind it, as far as anybody said."""
        return self.names_cluster or not (self.url or self.local or "SUBMIT_URL" in self.environment)

    @property
    def addresses_found(self) -> bool:
        """Whether the cluster itself says where the functions answer, and nobody else."""
        return not (self.url or self.settings.get("SUBMIT_URL"))

    @property
    def settings(self) -> Mapping[str, str]:
        """The environment over what `make up` says."""
        return {**self.local, **self.environment}

    @property
    def cluster(self) -> Cluster:
        """Its Kubernetes API. Raises Failure where there is no way to it."""
        if self._cluster is None:
            self._cluster = Cluster.connect(self.kubeconfig, self.context, self.namespace or NAMESPACE)
        return self._cluster

    def address(self, function: str) -> Address:
        """Where `submit` or `monitor` answers. Raises Failure."""
        if self.url:
            return Address((self.monitor_url if function == "monitor" else None) or self.url)
        if function == "monitor" and self.monitor_url:
            return Address(self.monitor_url)
        if url := self.settings.get(f"{function.upper()}_URL"):
            return Address(url)
        return self._found(FUNCTIONS[function])

    def _found(self, service: str) -> Address:
        path = SERVICES.format(namespace=self.cluster.namespace, name=service)
        try:
            url = str(self.cluster.get(path).get("status", {}).get("url", ""))
        except Absent:
            url = ""
        if not url:
            raise Failure(
                f"there is no service {service} with an address in namespace {self.cluster.namespace}: "
                "name the namespace with -n, or the system itself with --url"
            )
        if self.ingress:
            return Address(self.ingress, url.partition("://")[2])
        return Address(url)


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        setattr(context.ensure_object(Target), parameter.name or "", value)


def options(*, environment: bool) -> list[click.Parameter]:
    """The options of every command; the root's alone read the environment, so that a command's own win."""

    def option(*names: str, env: str | None = None, text: str) -> click.Option:
        return click.Option(
            names, envvar=env if environment else None, show_envvar=True, expose_value=False, callback=_store,
            help=f"{text} (env {env})" if env and not environment else text,
        )  # fmt: skip

    return [
        option("-n", "--namespace", env="RPA_NAMESPACE", text=f"Namespace of the deployment, {NAMESPACE} by default."),
        option("--kubeconfig", text="Kubeconfig file (env KUBECONFIG)."),
        option("--context", text="Context of the kubeconfig."),
        option("--url", env="RPA_URL", text="Address of submit_job (and of monitor), instead of the cluster's."),
        option("--monitor-url", env="RPA_MONITOR_URL", text="Address of monitor."),
        option("--ingress", env="RPA_INGRESS", text="Address of the cluster's ingress, where names lead nowhere."),
    ]


class Command(click.Command):
    """A command that takes the options of every command."""

    def __init__(self, name: str | None, *, params: list[click.Parameter] | None = None, **more: Any) -> None:
        super().__init__(name, params=[*(params or []), *options(environment=False)], **more)


class Group(click.Group):
    """A noun; its verbs are Commands."""

    command_class = Command
    group_class = type
