"""Where the primary is: all Sentinels are asked at once, and the newest answer counts."""

from __future__ import annotations

import asyncio
from typing import Any

from valkey.asyncio.sentinel import MasterNotFoundError, Sentinel

Address = tuple[str, int]


class Sentinels(Sentinel):
    """The library's own asks one after the other, ends at the first that errs, and loses some when asked at once."""

    _search: asyncio.Task[Address] | None = None

    async def discover_master(self, service_name: str) -> Address:
        """The primary's address; connections that are opened at the same time share one search.

        Raises MasterNotFoundError where no Sentinel knows one that is up.
        """
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._newest(service_name))
        return await asyncio.shield(self._search)

    async def _newest(self, service: str) -> Address:
        told = await asyncio.gather(*(self._ask(sentinel, service) for sentinel in self.sentinels))
        answers = [it for it in told if it]
        if not answers or not max(answers)[1]:
            raise MasterNotFoundError(f"no Sentinel knows a primary {service!r} that is up")
        return max(answers)[2]

    async def _ask(self, sentinel: Any, service: str) -> tuple[int, bool, Address] | None:
        """The configuration's age, whether its primary is up, and where that is; None where it does not say."""
        try:
            state = await sentinel.sentinel_master(service)
            address = await sentinel.sentinel_get_master_addr_by_name(service)
            # While replicas are told of a new primary, the state is still that of the old one.
            promoted = address != (state["ip"], state["port"])
            return state["config-epoch"], promoted or self.check_master_state(state, service), address
        except Exception:  # whatever it is, another may know
            return None
