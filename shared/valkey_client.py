"""Valkey: one client for a server, a primary behind Sentinel, or a cluster; opened on first use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from shared import logs
from shared.config import ValkeySettings
from shared.http import Unavailable

TIMEOUT_SECONDS = 2.0
LONGEST_SECONDS = 5.0
"""With all that the library tries again."""
SENTINEL_SECONDS = 1.0
"""How long one that hangs may hold up the others."""


class Valkey:
    """Runs scripts and commands; whatever goes wrong on the way is Unavailable, never a guess."""

    def __init__(self, settings: ValkeySettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._sentinels: Sequence[Any] = ()

    def _open(self) -> Any:
        import valkey.asyncio as valkey

        settings = self._settings
        options: dict[str, Any] = {
            "password": settings.valkey_password.get_secret_value() or None,
            "socket_timeout": TIMEOUT_SECONDS,
            "socket_connect_timeout": TIMEOUT_SECONDS,
            "ssl": settings.valkey_tls,
            "decode_responses": True,
        }
        if settings.valkey_cluster:
            return valkey.ValkeyCluster(host=settings.valkey_host, port=settings.valkey_port, **options)
        if settings.valkey_sentinels:
            from shared.sentinels import Sentinels

            asking = {
                "socket_timeout": SENTINEL_SECONDS,
                "socket_connect_timeout": SENTINEL_SECONDS,
                "decode_responses": True,
            }
            sentinels = [(host, int(port)) for host, _, port in (s.rpartition(":") for s in settings.valkey_sentinels)]
            known = Sentinels(sentinels, sentinel_kwargs=asking, **options)  # type: ignore[no-untyped-call]
            self._sentinels = known.sentinels
            return known.master_for(settings.valkey_sentinel_service)
        return valkey.Valkey(host=settings.valkey_host, port=settings.valkey_port, **options)

    async def script(self, source: str, keys: Sequence[str], arguments: Sequence[str | int | float]) -> Any:
        """Run a Lua script; all keys share one hash tag. Raises Unavailable."""
        return await self._run("eval", source, len(keys), *keys, *map(str, arguments))

    async def replicated(self, source: str, keys: Sequence[str], arguments: Sequence[str | int | float]) -> Any:
        """Run a script that may run twice and writes what it answers; the answer, once enough replicas have it.

        Raises Unavailable where fewer than the configured number of replicas have it in time.
        """
        needed = self._settings.valkey_min_replicas
        if not needed:
            return await self.script(source, keys, arguments)
        if self._settings.valkey_cluster:
            await self.script(source, keys, arguments)  # it finds the keys' node, wherever they went
        command = ["EVAL", source, len(keys), *keys, *map(str, arguments)]
        answer, replicas = await self._guard(lambda client: self._and_wait(client, command, keys[0], needed))
        if replicas < needed:
            raise Unavailable("enough Valkey replicas")
        return answer

    async def _and_wait(self, client: Any, command: Sequence[Any], key: str, needed: int) -> Any:
        # WAIT counts what its own connection wrote last: both commands must go through one.
        wait = ("WAIT", needed, int(TIMEOUT_SECONDS * 500))
        if self._settings.valkey_cluster:
            node = [client.get_node_from_key(key)]
            pipeline = client.pipeline()
            pipeline.execute_command(*command, target_nodes=node)
            pipeline.execute_command(*wait, target_nodes=node)
            return await pipeline.execute(allow_redirections=False)
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command(*command)
        pipeline.execute_command(*wait)
        return await pipeline.execute()

    async def command(self, name: str, *arguments: str | int) -> Any:
        """Run one command by its client method's name. Raises Unavailable."""
        return await self._run(name, *arguments)

    async def _run(self, name: str, *arguments: Any) -> Any:
        return await self._guard(lambda client: getattr(client, name)(*arguments))

    async def _guard(self, call: Callable[[Any], Awaitable[Any]]) -> Any:
        from valkey.exceptions import ValkeyClusterException

        client = self._client = self._client or self._open()
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                return await call(client)
        except Exception as error:  # the library's, and what its cluster client stumbles over while servers change
            logs.warning("Valkey unavailable", reason=type(error).__name__)
            if isinstance(error, ValkeyClusterException):
                await self._forget(client)
            raise Unavailable("Valkey") from error

    async def _forget(self, client: Any) -> None:
        # It drops servers that fail, and in the end knows none; a new one begins at VALKEY_HOST.
        if self._client is client:
            self._client = None
            await client.aclose()

    async def ping(self) -> None:
        """Raises Unavailable where Valkey does not answer."""
        await self._run("ping")

    async def aclose(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            for client in (self._client, *self._sentinels):
                await client.aclose()
            self._client = None
