"""What operators see and do: providers, accounts and dead letters."""

from __future__ import annotations

from collections.abc import Mapping

from functions.monitor import letters, pauses
from functions.monitor.accounts import account_states
from functions.monitor.models import AccountState, DeadLetters, DeadLetterWithEvent, ProviderState, Replayed
from functions.monitor.pauses import Kind
from shared import logs
from shared.db import Database
from shared.http import Problem
from shared.lockout import key
from shared.outbox import Publisher
from shared.providers import Provider
from shared.valkey_client import Valkey


class Operators:
    """Each deed takes the name of who does it."""

    def __init__(
        self,
        database: Database,
        valkey: Valkey,
        publisher: Publisher,
        providers: Mapping[str, Provider],
        least_validity: float,
    ) -> None:
        self._database = database
        self._valkey = valkey
        self._publisher = publisher
        self._providers = providers
        self._least_validity = least_validity

    async def providers(self) -> list[ProviderState]:
        """All by name."""
        async with self._database.connection() as connection:
            return await pauses.provider_states(connection, self._providers.values())

    async def pause_provider(self, name: str, reason: str, by: str) -> ProviderState:
        """Nothing new starts at the portal; what runs goes on. Raises Problem 404."""
        provider = self._provider(name)
        async with self._database.connection() as connection:
            await pauses.pause(connection, Kind.PROVIDER, name, reason, by)
            (state,) = await pauses.provider_states(connection, [provider])
        logs.info("provider paused", provider=name, by=by)
        return state

    async def resume_provider(self, name: str, by: str) -> ProviderState:
        """What waits there starts. Raises Problem 404."""
        provider = self._provider(name)
        async with self._database.connection() as connection:
            bells = await pauses.resume(connection, Kind.PROVIDER, name, [name])
            (state,) = await pauses.provider_states(connection, [provider])
        await self._publisher.publish(bells)
        logs.info("provider resumed", provider=name, by=by)
        return state

    def _provider(self, name: str) -> Provider:
        if name not in self._providers:
            detail = f"name: no provider {name} is configured; GET /providers lists them"
            raise Problem(404, detail, code="unknown_provider")
        return self._providers[name]

    async def accounts(self) -> list[AccountState]:
        """All by name. Raises Unavailable."""
        async with self._database.connection() as connection:
            paused = await pauses.paused_accounts(connection)
        return await account_states(self._valkey, self._providers.values(), paused, self._least_validity)

    async def pause_account(self, name: str, reason: str, by: str) -> AccountState:
        """Nothing new starts under this login, and it gets no codes. Raises Problem 404, Unavailable."""
        self._users(name)
        async with self._database.connection() as connection:
            await pauses.pause(connection, Kind.ACCOUNT, name, reason, by)
        logs.info("account paused", account=name, by=by)
        return await self._account(name)

    async def resume_account(self, name: str, by: str) -> AccountState:
        """The lockout guard's pause ends too, and it counts from nought. Raises Problem 404, Unavailable."""
        users = self._users(name)
        for provider in users:  # before the row goes, for Valkey may be away
            await self._valkey.command("delete", key(provider, "paused", name), key(provider, "rejections", name))
        async with self._database.connection() as connection:
            bells = await pauses.resume(connection, Kind.ACCOUNT, name, users)
        await self._publisher.publish(bells)
        logs.info("account resumed", account=name, by=by)
        return await self._account(name)

    def _users(self, name: str) -> list[str]:
        users = [p.name for p in self._providers.values() if name in (a.credentials for a in p.accounts)]
        if not users:
            detail = f"account: no provider has {name}; GET /accounts lists them"
            raise Problem(404, detail, code="unknown_account")
        return users

    async def _account(self, name: str) -> AccountState:
        return next(state for state in await self.accounts() if state.account == name)

    async def dead_letters(self, limit: int, cursor: str | None) -> DeadLetters:
        """One page, newest first. Raises Problem 422 for a bad cursor."""
        async with self._database.connection() as connection:
            return await letters.page(connection, limit, cursor)

    async def dead_letter(self, letter_id: int) -> DeadLetterWithEvent:
        """One with its event. Raises Problem 404."""
        async with self._database.connection() as connection:
            return await letters.get(connection, letter_id)

    async def replay(self, letter_id: int, by: str) -> DeadLetterWithEvent:
        """Send what it announces again, once until it comes back. Raises Problem 404 or 409."""
        async with self._database.connection() as connection:
            letter, bells = await letters.replay(connection, letter_id, by)
        await self._publisher.publish(bells)
        logs.info("dead letter replayed", letter=letter_id, by=by)
        return letter

    async def replay_all(self, by: str) -> Replayed:
        """Replay the oldest that can be, 100 at most."""
        async with self._database.connection() as connection:
            replayed, bells = await letters.replay_all(connection, by)
        await self._publisher.publish(bells)
        logs.info("dead letters replayed", letters=replayed.replayed, by=by)
        return replayed
