"""Where the primary is: all Sentinels are asked at once, and the newest answer counts."""

from __future__ import annotations

import asyncio
from typing import Any

from valkey.asyncio.sentinel import MasterNotFoundError, Sentinel


class Sentinels(Sentinel):
    """The library's own asks one after the other, ends at the first that errs, and loses some when asked at once."""

    _search: asyncio.Task[tuple[str, int]] | None = None

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """The primary's address; connections that are opened at the same time share one search.

        Raises MasterNotFoundError where no Sentinel knows one that is up.
        """
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._newest(service_name))
        return await asyncio.shield(self._search)

    async def _newest(self, service: str) -> tuple[str, int]:
        asked = (sentinel.sentinel_master(service) for sentinel in self.sentinels)  # type: ignore[no-untyped-call]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        primaries = [it for it in answers if isinstance(it, dict) and self.check_master_state(it, service)]
        if not primaries:
            raise MasterNotFoundError(f"no Sentinel knows a primary {service!r} that is up")
        newest: dict[str, Any] = max(primaries, key=lambda it: it["config-epoch"])
        return newest["ip"], newest["port"]
