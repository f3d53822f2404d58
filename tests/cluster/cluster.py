"""A cluster as its administrator sees it, for what tests need besides browsers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from kubernetes.aio.client import ApiClient

from shared.browsers.api import Api, connect, unlimited
from shared.browsers.api_errors import ApiError

Connect = Callable[[], Awaitable[ApiClient]]
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


class Cluster:
    """Makes what a test needs, and removes its namespaces in the end."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._namespaces: list[str] = []

    async def make_namespace(self) -> str:
        """A namespace that admits restricted pods only."""
        name = f"rpa-test-{secrets.token_hex(4)}"
        await self.api.call("POST", "/api/v1/namespaces", body={"metadata": {"name": name, "labels": RESTRICTED}})
        self._namespaces.append(name)
        return name

    async def make_account(self, namespace: str, name: str, verbs: Sequence[str]) -> str:
        """A ServiceAccount that may do this with pods; its token."""
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        await self.api.call("POST", accounts, body={"metadata": {"name": name}})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": list(verbs)}]
        subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
        if verbs:
            await self.api.call("POST", f"{rbac}/roles", body={"metadata": {"name": name}, "rules": rules})
            binding = {"metadata": {"name": name}, "roleRef": role, "subjects": subjects}
            await self.api.call("POST", f"{rbac}/rolebindings", body=binding)
        answer = await self.api.call("POST", f"{accounts}/{name}/token", body={"spec": {"expirationSeconds": 3600}})
        return str(answer["status"]["token"])

    def connects_with(self, token: str, host: str | None = None) -> Connect:
        """Connects with a token, to the API itself or to what stands before it."""

        async def connect_with() -> ApiClient:
            own = await connect()
            configuration = unlimited()
            configuration.host = host or own.configuration.host
            configuration.ssl_ca_cert = own.configuration.ssl_ca_cert
            configuration.api_key["BearerToken"] = f"Bearer {token}"
            await own.close()
            return ApiClient(configuration)

        return connect_with

    async def pods(self, namespace: str) -> list[Mapping[str, Any]]:
        """Every pod of a namespace."""
        pods: list[Mapping[str, Any]] = (await self.api.call("GET", f"/api/v1/namespaces/{namespace}/pods"))["items"]
        return pods

    async def clean(self) -> None:
        """Have the namespaces removed; nobody waits for it."""
        for namespace in self._namespaces:
            await self.api.call("DELETE", f"/api/v1/namespaces/{namespace}")


async def eventually(condition: Callable[[], Awaitable[object]], *, within: float = 20.0) -> None:
    """Wait for a condition of the cluster; TimeoutError when it does not come true."""
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 - the condition may be anything
            await asyncio.sleep(0.1)


async def gone(api: Api, path: str) -> bool:
    """Whether an object is there no more."""
    try:
        await api.call("GET", path)
    except ApiError as error:
        return error.status == 404
    return False
