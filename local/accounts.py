"""The accounts at the demo's portals: every account that a provider's entry names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import yaml

from shared.providers import Provider


@dataclass(frozen=True)
class Account:
    """One login, and the environment names that begin with its prefix."""

    provider: str
    prefix: str
    codes: bool
    """Whether its portal asks for a login code."""
    password: str = field(default="", repr=False)
    seed: str = field(default="", repr=False)

    @property
    def login(self) -> dict[str, str]:
        """What logs in, but for the code."""
        username = f"robot@{self.prefix.lower().replace('_', '-')}.example"
        return {f"{self.prefix}_USERNAME": username, f"{self.prefix}_PASSWORD": self.password}

    @property
    def code(self) -> dict[str, str]:
        """The seed of its codes; workers never have it."""
        return {f"{self.prefix}_TOTP_SECRET": self.seed} if self.codes else {}


def prefixes(entries: Mapping[str, str]) -> list[str]:
    """The prefixes of all accounts in provider entries (NAME.yaml: its text)."""
    return [account.prefix for account in accounts(entries, {})]


def accounts(entries: Mapping[str, str], secrets: Mapping[str, str]) -> list[Account]:
    """All accounts of provider entries, with what the secrets know of them."""
    return [
        Account(
            provider.name,
            account.credentials,
            provider.totp != "none",
            secrets.get(f"{account.credentials.lower()}_password", ""),
            secrets.get(f"{account.credentials.lower()}_seed", ""),
        )
        for provider in _providers(entries)
        for account in provider.accounts
    ]


def _providers(entries: Mapping[str, str]) -> Iterable[Provider]:
    for file, text in entries.items():
        yield Provider.model_validate({"name": file.removesuffix(".yaml"), **yaml.safe_load(text)})
