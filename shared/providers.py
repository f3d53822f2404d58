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
    def _one_account(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            raise ValueError("must be a YAML mapping with at least `actions`")
        prefix = str(values.get("name", "")).upper().replace("-", "_")
        return {"accounts": [{"credentials": prefix}], **values}

    @model_validator(mode="after")
    def _accounts_usable(self) -> Provider:
        names = [account.credentials for account in self.accounts]
        if len(set(names)) < len(names):
            raise ValueError("accounts: credentials stand there twice; give each account once")
        if self.totp != "none" and not names:
            raise ValueError("accounts: none, so no login code can be made; leave the line out or name one")
        return self

    @property
    def binds_accounts(self) -> bool:
        """Whether a job gets its account at admission, because an account has a limit of its own."""
        return any(account.max_sessions for account in self.accounts)


def read_providers(folder: Path) -> dict[str, Any]:
    """The entries of a folder of NAME.yaml files, not yet validated; what is no YAML stays text.

    Raises ValueError where there is none, or it cannot be read.
    """
    try:
        entries = {file.stem: _entry(file) for file in sorted(folder.glob("*.yaml"))}
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}; the function's user must be able to read it") from None
    if not entries:
        raise ValueError(f"no NAME.yaml in {folder}; add one entry for each portal")
    return entries


def _entry(file: Path) -> Any:
    import yaml

    text = file.read_text(errors="replace")
    try:
        entry = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # a date that is none, too many digits, too deep
        return text
    return {**entry, "name": file.stem} if isinstance(entry, dict) else entry
