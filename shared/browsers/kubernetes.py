"""Browsers as pods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from shared.browsers import Browser, BrowserFailed, BrowserSpec, BrowsersUnavailable, Phase
from shared.browsers.api import Api, connect
from shared.browsers.api_errors import ApiError
from shared.browsers.manifest import NAME, NAME_LABEL, manifest, secret_path_of
from shared.browsers.pod import Pod, browser_of, ending
from shared.browsers.readiness import Waiting
from shared.browsers.refusals import explained
from shared.config import BrowserSettings

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

PAGE = 200


class KubernetesBrowsers:
    """The Kubernetes API as a place that runs browsers."""

    def __init__(self, settings: BrowserSettings, connect: Callable[[], Awaitable[ApiClient]] = connect) -> None:
        self._settings = settings
        self._namespace = settings.namespace
        self._pods = f"/api/v1/namespaces/{settings.namespace}/pods"
        self._api = Api(connect)

    async def create(self, spec: BrowserSpec) -> Browser:
        """Start a browser, or adopt the one that has the name already."""
        with explained(self._namespace, secret=spec.secret_path):
            try:
                return browser_of(await self._api.call("POST", self._pods, body=manifest(spec, self._settings)))
            except ApiError as error:
                if (error.status, error.reason) != (409, "AlreadyExists"):
                    raise
            return await self._adopt(spec, await self._api.call("GET", f"{self._pods}/{spec.name}"))

    async def _adopt(self, spec: BrowserSpec, pod: Pod) -> Browser:
        if ending(pod):
            raise BrowsersUnavailable("an earlier browser of this name is still ending")
        if secret_path_of(pod) != spec.secret_path:  # made with another signing key
            await self.delete(spec.name)
            raise BrowsersUnavailable("an earlier browser of this name had another secret path; it is deleted")
        browser = browser_of(pod)
        if browser.phase is Phase.FAILED:
            raise BrowserFailed(browser.reason or "the pod failed")
        return browser

    async def wait_ready(self, name: str, *, timeout: float) -> Browser:
        """The browser once it accepts connections."""
        with explained(self._namespace):
            return await Waiting(self._api, self._pods, name, timeout).ready()

    async def delete(self, name: str) -> None:
        """End the browser; one that is gone is fine."""
        with explained(self._namespace):
            try:
                # The pod's own grace period is short.
                await self._api.call("DELETE", f"{self._pods}/{name}", body={"propagationPolicy": "Background"})
            except ApiError as error:
                if error.status != 404:
                    raise

    async def list(self) -> AsyncIterator[Browser]:
        """Every browser, page by page."""
        seen: set[str] = set()
        query = {"labelSelector": f"{NAME_LABEL}={NAME}", "limit": str(PAGE)}
        token: str | None = ""
        while token is not None:
            page, token = await self._page(query, token)
            for browser in map(browser_of, page):
                if browser.name not in seen:
                    seen.add(browser.name)
                    yield browser

    async def _page(self, query: dict[str, str], token: str) -> tuple[Sequence[Pod], str | None]:
        """Pods, and the next page's token."""
        with explained(self._namespace):
            try:
                answer = await self._api.call("GET", self._pods, {**query, "continue": token})
            except ApiError as error:
                if error.status != 410 or not token:
                    raise
                return [], ""  # the token is too old: begin again
            return answer["items"], answer["metadata"].get("continue") or None

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._api.aclose()
