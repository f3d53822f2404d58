"""Valkey: one client for a server, a primary behind Sentinel, or a cluster; opened on first use."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, cast

from shared.config import ValkeySettings
from shared.http import Unavailable

TIMEOUT_SECONDS = 2.0


class Valkey:
    """Runs scripts and commands; whatever goes wrong on the way is Unavailable, never a guess."""

    def __init__(self, settings: ValkeySettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._sentinels: Sequence[Any] = ()

    def _open(self) -> Any:
        import valkey.asyncio as valkey
        from valkey.asyncio.sentinel import Sentinel

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
            sentinels = [(host, int(port)) for host, _, port in (s.rpartition(":") for s in settings.valkey_sentinels)]
            sentinel = Sentinel(sentinels, **options)  # type: ignore[no-untyped-call]
            self._sentinels = sentinel.sentinels
            return sentinel.master_for(settings.valkey_sentinel_service)
        return valkey.Valkey(host=settings.valkey_host, port=settings.valkey_port, **options)

    async def script(self, source: str, keys: Sequence[str], arguments: Sequence[str | int | float]) -> Any:
        """Run a Lua script; all keys share one hash tag. Raises Unavailable."""
        return await self._run("eval", source, len(keys), *keys, *map(str, arguments))

    async def command(self, name: str, *arguments: str | int) -> Any:
        """Run one command by its client method's name. Raises Unavailable."""
        return await self._run(name, *arguments)

    async def _run(self, name: str, *arguments: Any) -> Any:
        from valkey.exceptions import ValkeyError

        self._client = self._client or self._open()
        try:
            return await cast("Awaitable[Any]", getattr(self._client, name)(*arguments))
        except (ValkeyError, OSError, TimeoutError) as error:
            raise Unavailable("Valkey") from error

    async def replicated(self) -> None:
        """Wait until the configured number of replicas has our last write. Raises Unavailable."""
        needed = self._settings.valkey_min_replicas
        if needed and await self._run("wait", needed, int(TIMEOUT_SECONDS * 500)) < needed:
            raise Unavailable("enough Valkey replicas")

    async def ping(self) -> None:
        """Raises Unavailable where Valkey does not answer."""
        await self._run("ping")

    async def aclose(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            for client in (self._client, *self._sentinels):
                await client.aclose()
            self._client = None
