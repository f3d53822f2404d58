"""The Kubernetes API over the official client's connection: plain paths and JSON, no typed models.

Its generated classes would cost every cold start a second of imports.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from shared.browsers.api_errors import ApiError, ApiUnreachable, check, error_of
from shared.closing import End, at_the_end, closed

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient, Configuration

CALL_SECONDS = 10.0
WATCH_SECONDS = 15
"""A watch is renewed this often, so that a connection that died unnoticed delays nobody for long."""
SILENCE_SECONDS = WATCH_SECONDS + 5.0
TRIES = 3
LONGEST_PAUSE_SECONDS = 3.0


async def connect() -> ApiClient:
    """A client with this pod's ServiceAccount, or outside of a cluster with KUBECONFIG's user."""
    from kubernetes.aio.client import ApiClient
    from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

    configuration = unlimited()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            # It reads the token again every minute: bound tokens rotate.
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise ApiUnreachable(f"no way to the Kubernetes API: {error}") from None
    return ApiClient(configuration)


def unlimited() -> Configuration:
    """A configuration that names no cluster yet. Each browser that starts holds a connection: there is no limit."""
    from kubernetes.aio.client import Configuration

    return Configuration(connection_pool_maxsize=0, client_session_kwargs={"trust_env": False})


class Api:
    """What browsers need of the API; connects when first used."""

    def __init__(self, connect: Callable[[], Awaitable[ApiClient]] = connect) -> None:
        self._connect = connect
        self._connecting = asyncio.Lock()
        self._client: ApiClient | None = None
        self._end: End | None = None

    async def call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The answer's JSON; what may pass is tried again shortly. Raises ApiError, ApiUnreachable."""
        for tries_left in reversed(range(TRIES)):
            pause = 0.2 * 2 ** (TRIES - 1 - tries_left)
            try:
                return await self._call_once(method, path, query, body)
            except ApiUnreachable:
                if not tries_left:
                    raise
            except ApiError as error:
                if not (error.passing and tries_left):
                    raise
                if error.retry_after is not None:
                    pause = min(error.retry_after, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(1.0, 1.5))  # noqa: S311 (spreads the load, guards nothing)
        raise AssertionError("unreachable")

    async def _call_once(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        import aiohttp

        try:
            async with await self._request(method, path, query, body, aiohttp.ClientTimeout(CALL_SECONDS)) as response:
                await check(response)
                answer: dict[str, Any] = json.loads(await response.read())
                return answer
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiUnreachable(f"the Kubernetes API does not answer ({type(error).__name__})") from None

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[dict[str, Any], None]:
        """Events until the server ends the watch, which is normal. Raises ApiError, ApiUnreachable."""
        import aiohttp

        query = {**query, "watch": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        patience = aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS, sock_read=SILENCE_SECONDS)
        try:
            async with await self._request("GET", path, query, None, patience) as response:
                await check(response)
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise error_of(event["object"])
                    yield event
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiUnreachable(f"the Kubernetes API does not answer ({type(error).__name__})") from None

    async def _request(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None, timeout: Any
    ) -> Any:
        client = await self._connected()
        method, url, headers, content, _ = await client.param_serialize(
            method, path, query_params=list((query or {}).items()), body=body, auth_settings=["BearerToken"]
        )
        return (await client.call_api(method, url, headers, content, _request_timeout=timeout)).response

    async def _connected(self) -> ApiClient:
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
                self._end = at_the_end(self._client.close)
            return self._client

    async def aclose(self) -> None:
        """Give the connections back."""
        if self._client is not None and self._end is not None:
            await closed(self._end)
            self._client = None
