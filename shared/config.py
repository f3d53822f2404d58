"""Configuration: read once from the environment and mounted files, checked whole, every problem named.

A function declares what it needs by combining the groups below; what it does not declare it never reads.
`CONFIG_DIRS` (colon-separated) names folders of mounted Secrets and ConfigMaps: a file's name is the
setting, its content the value. The environment wins over a file.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    model_validator,
)

from shared.browsers.pool_hours import PoolHours, parse_pool_hours
from shared.providers import Provider, read_providers

Settings = TypeVar("Settings", bound="BaseSettings")


class ConfigError(Exception):
    """The configuration has problems; the message has one line for each."""


def load(model: type[Settings], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of one function. Raises ConfigError that names every problem and no secret value."""
    values = gather(environment)
    fields = {name: values[name.upper()] for name in model.model_fields if values.get(name.upper(), "") != ""}
    try:
        return model.model_validate({**fields, "environment": values})
    except ValidationError as error:
        problems = "\n".join(_problem(model, e["loc"], e["type"], e["msg"]) for e in error.errors())
        raise ConfigError(problems) from None


def gather(environment: Mapping[str, str]) -> dict[str, str]:
    """All values by their names: mounted files first, the environment over them."""
    values: dict[str, str] = {}
    for folder in filter(None, environment.get("CONFIG_DIRS", "").split(":")):
        for file in sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []:
            if file.is_file() and not file.name.startswith("."):
                values[file.name] = file.read_text().rstrip("\n")
    return values | dict(environment)


def _problem(model: type[BaseModel], location: tuple[int | str, ...], kind: str, message: str) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    name = str(location[0])
    field = model.model_fields.get(name)
    if kind == "missing":
        meaning = field.description if field else ""
        return f"{name.upper()}: not set; {meaning}"
    return f"{name.upper()}: {message.removeprefix('Value error, ')}"


def _words(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _base_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return value.rstrip("/")


def _postgres_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a PostgreSQL address: postgresql://user:password@host:5432/name")
    return value


def _quantity(value: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?(m|[kMGT]i?)?", value, re.ASCII):
        raise ValueError("must be an amount as Kubernetes writes it, such as 500m, 2 or 512Mi")
    return value


def _signing_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value().encode()) < 32:
        raise ValueError("must have 32 bytes or more; make one with: openssl rand -base64 48")
    return value


def _zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError("no such time zone; give a name such as Africa/Johannesburg") from None


BaseUrl = Annotated[str, AfterValidator(_base_url)]
BaseUrls = Annotated[tuple[BaseUrl, ...], BeforeValidator(_words)]
Quantity = Annotated[str, AfterValidator(_quantity)]
SigningKey = Annotated[SecretStr, AfterValidator(_signing_key)]


class BaseSettings(BaseModel):
    """What every function has."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    environment: Annotated[Mapping[str, str], Field(exclude=True, repr=False)]
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    k_service: str = Field("", description="the function's name at the database; Knative sets it")
    k_revision: str = Field("", description="its revision, which `GET /` tells; Knative sets it")


class DatabaseSettings(BaseSettings):
    """PostgreSQL, where the truth is."""

    database_url: Annotated[SecretStr, AfterValidator(_postgres_url)] = Field(
        description="the database's address: postgresql://user:password@host:5432/name"
    )
    database_pool_size: int = Field(8, ge=1, le=100, description="connections of one pod at most")


class ValkeySettings(BaseSettings):
    """Valkey: one server, or a primary found through Sentinel, or a cluster."""

    valkey_host: str = Field("", description="the server's or one cluster node's name")
    valkey_port: int = Field(6379, ge=1, le=65535)
    valkey_password: SecretStr = SecretStr("")
    valkey_tls: bool = False
    valkey_cluster: bool = False
    valkey_sentinels: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        (), description="host:port of each Sentinel, separated by commas"
    )
    valkey_sentinel_service: str = Field("mymaster", description="the name Sentinel knows the primary by")
    valkey_min_replicas: int = Field(
        0, ge=0, le=10, description="replicas that must have a code's reservation before it is given"
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> ValkeySettings:
        if not self.valkey_host and not self.valkey_sentinels:
            raise ValueError("VALKEY_HOST: not set; give the server's name, or VALKEY_SENTINELS")
        if self.valkey_cluster and self.valkey_sentinels:
            raise ValueError("VALKEY_CLUSTER: cannot be combined with VALKEY_SENTINELS; choose one")
        return self


class TokenSettings(BaseSettings):
    """Keys that sign and check tokens."""

    jwt_secret_key: SigningKey = Field(description="the signing key, 32 bytes or more: openssl rand -base64 48")
    jwt_previous_secret_keys: Annotated[tuple[SigningKey, ...], BeforeValidator(_words)] = Field(
        (), description="keys whose tokens are still taken during a rotation"
    )


class EventSettings(BaseSettings):
    """Where events go."""

    k_sink: BaseUrl | None = Field(
        None, description="the broker's address, set by a SinkBinding; without it events wait in the outbox"
    )


class ProviderSettings(BaseSettings):
    """The portals, one entry each; a new portal needs no code."""

    providers_dir: Path = Field(description="the folder of provider entries, NAME.yaml each (a mounted ConfigMap)")
    providers: dict[str, Provider] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: dict[str, Any]) -> dict[str, Any]:
        if "providers_dir" in values:
            values["providers"] = read_providers(Path(values["providers_dir"]))
        return values


class LockoutSettings(ValkeySettings):
    """When an account is paused before its portal locks it."""

    totp_max_rejections: int = Field(3, ge=1, le=100, description="refusals by the portal that pause an account")
    totp_pause: int = Field(900, ge=1, le=86400, description="seconds an account is paused after that")


class TotpSettings(ProviderSettings, LockoutSettings):
    """What makes login codes: one seed per account."""

    totp_min_validity: int = Field(5, ge=0, le=25, description="seconds a code must still live when given out")
    totp_max_wait: int = Field(240, ge=0, le=280, description="seconds a request waits for its turn at most")

    @model_validator(mode="after")
    def _seeds_usable(self) -> TotpSettings:
        problems = [p for account in self._totp_accounts() if (p := _seed_problem(account, self.environment))]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _totp_accounts(self) -> list[str]:
        return [a.credentials for p in self.providers.values() if p.totp != "none" for a in p.accounts]

    def seed(self, account: str) -> str:
        """The base32 seed of an account, as the portal shows it."""
        return _plain_seed(self.environment[f"{account}_TOTP_SECRET"])


def _plain_seed(value: str) -> str:
    return value.replace(" ", "").rstrip("=").upper()


def _seed_problem(account: str, environment: Mapping[str, str]) -> str | None:
    name = f"{account}_TOTP_SECRET"
    seed = _plain_seed(environment.get(name, ""))
    if not seed:
        return f"{name}: not set; give the base32 seed that the portal shows when TOTP is set up"
    try:
        base64.b32decode(seed + "=" * (-len(seed) % 8))
    except binascii.Error:
        return f"{name}: not base32; copy the seed that the portal shows (letters A-Z and digits 2-7)"
    return None


LIFETIME_MARGIN_SECONDS = 300


class LeaseSettings(BaseSettings):
    """How long each phase of an attempt may stay silent. Seconds, but for BROWSER_IDLE_TIMEOUT."""

    worker_timeout: int = Field(1800, ge=1, le=86400, description="seconds a worker may take for one attempt")
    heartbeat_timeout: int = Field(
        60, ge=1, le=3600, description="silence that costs a worker that has sent a heartbeat"
    )
    browser_start_timeout: int = Field(60, ge=1, le=600, description="seconds a browser may take to be ready")
    browser_idle_timeout: float = Field(5, gt=0, le=1440, description="minutes a ready browser may wait for a worker")
    retry_backoff: float = Field(10, ge=0, le=3600, description="seconds before the first retry; doubles each time")
    retry_backoff_max: float = Field(600, ge=0, le=86400, description="seconds between retries at most")

    @property
    def idle_seconds(self) -> float:
        """BROWSER_IDLE_TIMEOUT in seconds."""
        return self.browser_idle_timeout * 60

    @property
    def longest_attempt(self) -> float:
        """Seconds from the claim to the end of the longest attempt."""
        return self.browser_start_timeout + self.idle_seconds + self.worker_timeout

    @property
    def browser_lifetime(self) -> int:
        """Seconds after which the place itself ends a browser, whoever else is dead."""
        return int(self.longest_attempt) + LIFETIME_MARGIN_SECONDS


class BrowserSettings(BaseSettings):
    """Where browsers run: at the local runtime's browser node, or as pods of their own namespace."""

    browser_node_url: BaseUrl | None = Field(
        None, description="the local runtime's browser node; without it browsers are pods"
    )
    browser_node_token: SecretStr = SecretStr("")
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")] = Field(
        "rpa-browsers", description="the namespace that browsers' pods run in, and nothing else"
    )
    browser_service_image: str = Field("", description="the image of browsers' pods")
    browser_cpu_request: Quantity = "250m"
    browser_cpu_limit: Quantity = "1"
    browser_memory_request: Quantity = "512Mi"
    browser_memory_limit: Quantity = "2Gi"
    browser_shm_size: Quantity = Field("512Mi", description="shared memory, which counts as memory of the pod")

    @model_validator(mode="after")
    def _one_place(self) -> BrowserSettings:
        if not self.browser_node_url and not self.browser_service_image:
            raise ValueError("BROWSER_SERVICE_IMAGE: not set; give the image of browsers' pods")
        return self


class WarmPoolSettings(BaseSettings):
    """Browsers started before anybody needs them."""

    browser_warm_pool: Annotated[PoolHours, PlainValidator(parse_pool_hours)] = Field(
        PoolHours(0), description="how many; `1 5@07:30-18:00` is 5 in these hours and 1 otherwise"
    )
    browser_warm_pool_zone: Annotated[ZoneInfo, PlainValidator(_zone)] = Field(
        ZoneInfo("UTC"), description="the time zone of these hours, such as Africa/Johannesburg"
    )

    def wanted_warm(self, now: datetime) -> int:
        """How many there should be now."""
        return self.browser_warm_pool.at(now.astimezone(self.browser_warm_pool_zone).time())
