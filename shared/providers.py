"""Providers are data: one entry per network operator's portal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,49}$")]
Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,49}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+[^\s]*$")]


class Account(BaseModel):
    """One login at the portal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    credentials: Prefix
    """Prefix of its settings: `<PREFIX>_USERNAME`, `_PASSWORD`, `_TOTP_SECRET`. Also the account's name."""
    max_sessions: int | None = Field(None, ge=1, le=1000)
    """Jobs at once under this login. With it, an account is chosen when the job is admitted."""


class Provider(BaseModel):
    """One portal: what can be done there, and within which limits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    actions: tuple[Name, ...] = Field(min_length=1)
    browser: bool = True
    totp: Literal["none", "on_request", "at_dispatch"] = "none"
    totp_period: float = Field(30, gt=0, le=300)
    """Seconds of a time step, as the portal has it."""
    totp_digits: int = Field(6, ge=6, le=8)
    max_sessions: int = Field(1000, ge=1, le=1000)
    """Jobs at once at this portal."""
    workers: tuple[Url, ...] = ()
    """Workers that know this portal; none: those of WORKER_URLS."""
    accounts: tuple[Account, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_account(cls, values: dict[str, Any]) -> dict[str, Any]:
        prefix = str(values.get("name", "")).upper().replace("-", "_")
        return {"accounts": [{"credentials": prefix}], **values}

    @property
    def binds_accounts(self) -> bool:
        """Whether a job gets its account at admission, because an account has a limit of its own."""
        return any(account.max_sessions for account in self.accounts)


def read_providers(folder: Path) -> dict[str, Any]:
    """The entries of a folder of NAME.yaml files, not yet validated. Raises ValueError that names the file."""
    import yaml

    entries: dict[str, Any] = {}
    for file in sorted(folder.glob("*.yaml")):
        try:
            entry = yaml.safe_load(file.read_text())
        except yaml.YAMLError as error:
            raise ValueError(f"PROVIDERS_DIR: {file.name} is not YAML: {error}") from None
        if not isinstance(entry, dict):
            raise ValueError(f"PROVIDERS_DIR: {file.name} must be a mapping with at least `actions`")
        entries[file.stem] = {"name": file.stem, **entry}
    if not entries:
        raise ValueError(f"PROVIDERS_DIR: no NAME.yaml in {folder}; add one entry for each portal")
    return entries
