"""Browsers as processes of this machine, started and ended by the local runtime's browser node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from shared.browsers import Browser, BrowserFailed, BrowserSpec, BrowsersUnavailable, Phase
from shared.http_client import HttpClient, Silence

CALL_SECONDS = 10.0


class LocalBrowsers:
    """The node's API as a place that runs browsers."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._http = HttpClient()

    async def create(self, spec: BrowserSpec) -> Browser:
        """Start a browser, or adopt the one that has the name already."""
        order = {
            "name": spec.name,
            "secret_path": spec.secret_path,
            "lifetime_seconds": spec.lifetime_seconds,
            "job_id": spec.job_id,
            "attempt": spec.attempt,
        }
        return _browser(await self._call("POST", "/browsers", json=order))

    async def wait_ready(self, name: str, *, timeout: float) -> Browser:
        """The browser once it accepts connections."""
        answer = await self._call("GET", f"/browsers/{name}", seconds=timeout + CALL_SECONDS, params={"wait": timeout})
        if answer is None:
            raise BrowserFailed("the browser is gone")
        browser = _browser(answer)
        if browser.phase is Phase.FAILED:
            raise BrowserFailed(browser.reason or "the browser ended")
        if browser.phase is Phase.STARTING:
            raise BrowserFailed(f"not ready within {timeout:g} s")
        return browser

    async def delete(self, name: str) -> None:
        """End the browser; one that is gone is fine."""
        await self._call("DELETE", f"/browsers/{name}")

    async def list(self) -> AsyncIterator[Browser]:
        """Every browser, page by page."""
        cursor: str | None = ""
        while cursor is not None:
            page = await self._call("GET", "/browsers", params={"cursor": cursor}) or {"items": [], "next_cursor": None}
            for item in page["items"]:
                yield _browser(item)
            cursor = page["next_cursor"]

    async def _call(self, method: str, path: str, *, seconds: float = CALL_SECONDS, **options: Any) -> Any:
        try:
            answer = await self._http.call(
                method, f"{self._url}{path}", seconds=seconds, headers=self._headers, **options
            )
        except Silence as silence:
            raise BrowsersUnavailable(f"the browser node does not answer ({silence})") from None
        if answer.status == 404:
            return None
        if answer.status == 422:
            raise BrowserFailed(f"the browser node refuses the order: {answer.json()['reason']}")
        if not answer.ok:
            raise BrowsersUnavailable(f"the browser node answered {answer.status}")
        return answer.json()

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._http.aclose()


def _browser(item: dict[str, Any]) -> Browser:
    return Browser(
        item["name"],
        Phase(item["phase"]),
        datetime.fromisoformat(item["created_at"]),
        item["address"],
        item["reason"],
        item["job_id"],
        item["attempt"],
    )
