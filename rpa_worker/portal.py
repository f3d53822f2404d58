"""A portal's account, out of the worker's own environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from rpa_worker.errors import PortalNotConfigured


@dataclass(frozen=True, slots=True)
class Portal:
    """Where to log in, and as whom."""

    url: str
    username: str
    password: str = field(repr=False)

    @classmethod
    def from_environment(
        cls, provider: str, account: str | None = None, environment: Mapping[str, str] = os.environ
    ) -> Portal:
        """The account with this prefix, the provider's own by default. Raises PortalNotConfigured."""
        prefix = provider.upper().replace("-", "_")
        account = account or prefix
        return cls(
            url=_first(environment, f"{account}_URL", f"{prefix}_URL"),
            username=_first(environment, f"{account}_USERNAME", f"{account}_EMAIL"),
            password=_first(environment, f"{account}_PASSWORD"),
        )


def _first(environment: Mapping[str, str], *names: str) -> str:
    for name in names:
        if value := environment.get(name):
            return value
    raise PortalNotConfigured(f"set {' or '.join(dict.fromkeys(names))} in the worker's environment")
