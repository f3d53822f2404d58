"""Asking again: exponential backoff with jitter, within a bound."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long to ask again; all in seconds."""

    first: float = 0.5
    longest: float = 15.0
    give_up_after: float = 300.0

    def delay(self, tries: int) -> float:
        """Wait after so many tries: full jitter, so that many workers do not come back as one."""
        bound: float = min(self.longest, self.first * 2.0 ** min(tries - 1, 30))
        return bound * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret


ENDLESS = Patience(give_up_after=math.inf)


async def persist(ask: Callable[[], Awaitable[httpx.Response]], patience: Patience) -> httpx.Response:
    """The answer that settles the matter: neither 429 nor 5xx. Raises httpx.HTTPError when patience ends."""
    started = asyncio.get_running_loop().time()
    tries = 0
    while True:
        tries += 1
        try:
            response = await ask()
            if not _worth_another_try(response):
                return response
            problem: httpx.HTTPError = _refusal(response)
            delay = max(_retry_after(response), patience.delay(tries))
        except httpx.TransportError as error:
            problem, delay = error, patience.delay(tries)
        if asyncio.get_running_loop().time() + delay - started > patience.give_up_after:
            raise problem
        await asyncio.sleep(delay)


def _worth_another_try(response: httpx.Response) -> bool:
    return response.status_code == TOO_MANY_REQUESTS or response.status_code >= SERVER_ERROR


def _refusal(response: httpx.Response) -> httpx.HTTPStatusError:
    message = f"{response.request.url.path} answered {response.status_code}"
    return httpx.HTTPStatusError(message, request=response.request, response=response)


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the answer asks for; 0 where it says nothing that makes sense."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0
