"""The Kubernetes API as the caller's kubeconfig gives it: plain paths and JSON.

Absent   there is no such thing, or no such kind of thing
Denied   the caller may not look
"""

from __future__ import annotations

import base64
import functools
import json
from typing import TYPE_CHECKING, Any, Self

from kn_rpa.errors import Failure, NotReached

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

SECONDS = 10
Thing = dict[str, Any]


class Absent(Failure):
    """The API server does not know it."""


class Denied(Failure):
    """The API server does not let this caller look."""


class Cluster:
    """One namespace and what surrounds it. What was read is kept until `look_anew`."""

    def __init__(self, client: ApiClient, namespace: str, server: str) -> None:
        self._client = client
        self.namespace = namespace
        self.server = server
        self.get = functools.cache(self._get)

    @classmethod
    def connect(cls, kubeconfig: str | None, context: str | None, namespace: str) -> Self:
        """As kubectl would. Raises Failure."""
        from kubernetes import config

        try:
            client = config.new_client_from_config(config_file=kubeconfig, context=context)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError) as error:
            raise Failure(f"no way to a cluster: {error}; name one with --kubeconfig, or a system with --url") from None
        return cls(client, namespace, str(client.configuration.host))

    def look_anew(self) -> None:
        """Forget what was read."""
        self.get.cache_clear()

    def _get(self, path: str) -> Thing:
        """An object. Raises Absent, Denied, NotReached."""
        return self._call("GET", path)

    def items(self, path: str) -> list[Thing]:
        """The objects of a list. Raises Absent, Denied, NotReached."""
        found: list[Thing] = self.get(path)["items"]
        return found

    def secret(self, name: str) -> dict[str, str]:
        """What a Secret of the namespace holds. Raises Absent, Denied, NotReached."""
        data = self.get(f"/api/v1/namespaces/{self.namespace}/secrets/{name}").get("data") or {}
        return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}

    def may(self, account: str, verb: str, resource: str, namespace: str) -> bool:
        """Whether a ServiceAccount of the namespace has a right. Raises Absent, Denied, NotReached."""
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated"]
        spec = {
            "user": f"system:serviceaccount:{self.namespace}:{account}",
            "groups": groups,
            "resourceAttributes": {"namespace": namespace, "verb": verb, "resource": resource},
        }
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = self._call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    def _call(self, method: str, path: str, body: Thing | None = None) -> Thing:
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        request = self._client.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            response = self._client.call_api(*request, _request_timeout=SECONDS)
            content: bytes = response.read()  # type: ignore[no-untyped-call]
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise NotReached(f"the cluster at {self.server} does not answer: {reason}") from None
        if response.status >= 400:
            raise _refused(response.status, content, path)
        answer: Thing = json.loads(content)
        return answer


def _refused(status: int, body: bytes, path: str) -> Failure:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError):
        message = f"{path}: {status}"
    match status:
        case 404:
            return Absent(message)
        case 401 | 403:
            return Denied(message)
    return NotReached(message)
