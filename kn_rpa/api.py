"""The HTTP API of submit_job and monitor, with the caller's token."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from kn_rpa import __version__
from kn_rpa.errors import Failure, NotReached
from kn_rpa.kube import Absent, Denied
from kn_rpa.target import Target
from kn_rpa.tokens import TokenCache

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 10
ANSWER_SECONDS = 60
"""A function may start from zero first."""
PAGE = 200
Item = dict[str, Any]


class Refused(Failure):
    """The function says no."""


class Api:
    """Asks the functions; signs in when it must."""

    def __init__(self, target: Target, *, patience: float = ANSWER_SECONDS, once: bool = False) -> None:
        """`patience` in seconds for each answer; with `once`, a function that did not answer is not asked again."""
        self._target = target
        self._patience = patience
        self._once = once
        self._silent: dict[str, NotReached] = {}
        self._clients: dict[str, httpx.Client] = {}
        self._token: str | None = None

    def get(self, path: str, *, of: str = "submit", **query: Any) -> Item:
        """An object or a page. Raises Refused, NotReached."""
        return self._call(of, "GET", path, params={k: v for k, v in query.items() if v is not None})

    def send(self, method: str, path: str, body: Item | None = None, *, of: str = "submit") -> Item:
        """Change something; what it is then. Raises Refused, NotReached."""
        return self._call(of, method, path, json=body)

    def items(self, path: str, *, of: str = "submit", limit: int | None = None, **query: Any) -> Iterator[Item]:
        """The items of a list, over its pages. Raises Refused, NotReached."""
        cursor, left = None, limit
        while left is None or left > 0:
            page = self.get(path, of=of, limit=min(PAGE, left or PAGE), cursor=cursor, **query)
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def answers(self, *functions: str) -> Iterator[Item]:
        """Who functions say that they are, asked all at once; needs no token. Raises Refused, NotReached."""
        from concurrent.futures import ThreadPoolExecutor

        for of in functions:  # addresses come from the cluster, whose client is for one thread
            self._client(of)
        with ThreadPoolExecutor(len(functions)) as pool:
            for response in list(pool.map(lambda of: self._send(of, "GET", "/"), functions)):
                yield _read(response)

    def _call(self, of: str, method: str, path: str, **content: Any) -> Item:
        fixed = self._target.settings.get("RPA_TOKEN")
        token = fixed or self._token or self._sign_in()
        response = self._send(of, method, path, headers={"Authorization": f"Bearer {token}"}, **content)
        if response.status_code == 401 and not fixed:  # kept from before a change of keys or passwords
            token = self._sign_in(anew=True)
            response = self._send(of, method, path, headers={"Authorization": f"Bearer {token}"}, **content)
        return _read(response)

    def _send(self, of: str, method: str, path: str, **content: Any) -> httpx.Response:
        import httpx

        if self._once and of in self._silent:
            raise self._silent[of]
        client = self._client(of)
        try:
            return client.request(method, path, **content)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            hint = "; if its name leads nowhere here, give --ingress" if isinstance(error, httpx.ConnectError) else ""
            says = f"{client.base_url} does not answer: {error or type(error).__name__}{hint}"
            self._silent[of] = NotReached(says)
            raise self._silent[of] from None

    def _client(self, of: str) -> httpx.Client:
        import httpx

        if kept := self._clients.get(of):
            return kept
        address = self._target.address(of)
        headers = {"User-Agent": f"kn-rpa/{__version__}"} | ({"Host": address.host} if address.host else {})
        timeout = httpx.Timeout(self._patience, connect=CONNECT_SECONDS)
        self._clients[of] = httpx.Client(base_url=address.url, headers=headers, timeout=timeout)
        return self._clients[of]

    def _sign_in(self, *, anew: bool = False) -> str:
        settings, address = self._target.settings, self._target.address("submit")
        username = settings.get("RPA_USERNAME") or settings.get("ADMIN_USERNAME") or ""
        cache = TokenCache(settings, f"{address.url} {address.host}", username)
        if anew:
            cache.forget()
        if not (token := cache.read()):
            name, password = self._credentials(username)
            form = {"grant_type": "password", "username": name, "password": password}
            granted = _read(self._send("submit", "POST", "/auth/token", data=form))
            token = str(granted["access_token"])
            cache.keep(token, int(granted["expires_in"]))
        self._token = token
        return token

    def _credentials(self, username: str) -> tuple[str, str]:
        settings = self._target.settings
        password = settings.get("RPA_PASSWORD") or settings.get("ADMIN_PASSWORD")
        if username and password:
            return username, password
        # The cluster's password is for the cluster's own address, not for one that somebody names beside it.
        if self._target.addresses_found and (known := self._administrator()):
            return known
        if not sys.stdin.isatty():
            raise Failure("no token: set RPA_TOKEN, or RPA_USERNAME and RPA_PASSWORD")
        name = username or click.prompt("Username", err=True)
        return name, click.prompt("Password", hide_input=True, err=True)

    def _administrator(self) -> tuple[str, str] | None:
        """What the cluster's Secret says, where the caller may read it and it is no hash."""
        try:
            secret = self._target.cluster.secret("rpa-admin")
        except (Absent, Denied):
            return None
        name, password = secret.get("ADMIN_USERNAME"), secret.get("ADMIN_PASSWORD", "$")
        return (name, password) if name and not password.startswith("$") else None


def _read(response: httpx.Response) -> Item:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.is_success and isinstance(body, dict):
        return body
    detail = body.get("detail") if isinstance(body, dict) else None
    message = str(detail or f"{response.request.url} answered {response.status_code}")
    raise NotReached(message) if response.status_code in (502, 503, 504) else Refused(message)
