"""The accounts at the demo's portals: every account that a provider's entry names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import yaml

from local.kustomize import ManifestError
from shared.providers import Provider


@dataclass(frozen=True)
class Account:
    """One login, and the environment names that begin with its prefix."""

    provider: str
    prefix: str
    codes: bool
    """Whether its portal asks for a login code."""
    period: float
    """Seconds of a code's time step."""
    password: str = field(default="", repr=False)
    seed: str = field(default="", repr=False)

    @property
    def username(self) -> str:
        return f"robot@{self.prefix.lower().replace('_', '-')}.example"


def prefixes(entries: Mapping[str, str]) -> list[str]:
    """The prefixes of all accounts in provider entries (NAME.yaml: its text)."""
    return [account.prefix for account in accounts(entries, {})]


def accounts(entries: Mapping[str, str], secrets: Mapping[str, str]) -> list[Account]:
    """All accounts of provider entries, with what the secrets know of them. Raises ManifestError."""
    return [
        Account(
            provider.name,
            account.credentials,
            provider.totp != "none",
            provider.totp_period,
            secrets.get(f"{account.credentials.lower()}_password", ""),
            secrets.get(f"{account.credentials.lower()}_seed", ""),
        )
        for provider in _providers(entries)
        for account in provider.accounts
    ]


def logins(known: Iterable[Account], portals: str) -> dict[str, str]:
    """Where to log in, and what with but for the code, as workers have it."""
    values = {}
    for account in known:
        values[f"{account.prefix}_URL"] = f"{portals}/{account.provider}"
        values[f"{account.prefix}_USERNAME"] = account.username
        values[f"{account.prefix}_PASSWORD"] = account.password
    return values


def seeds(known: Iterable[Account]) -> dict[str, str]:
    """The seeds of the login codes; workers never have them."""
    return {f"{account.prefix}_TOTP_SECRET": account.seed for account in known if account.codes}


def periods(known: Iterable[Account]) -> dict[str, str]:
    """How long a login code lasts at each portal that has them."""
    return {f"{account.prefix}_TOTP_PERIOD": f"{account.period:g}" for account in known if account.codes}


def _providers(entries: Mapping[str, str]) -> Iterable[Provider]:
    for file, text in entries.items():
        try:
            yield Provider.model_validate({"name": file.removesuffix(".yaml"), **yaml.safe_load(text)})
        except (yaml.YAMLError, TypeError, ValueError) as error:
            raise ManifestError(f"rpa-providers, {file}: {error}") from None
