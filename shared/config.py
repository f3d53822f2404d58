"""Configuration: read once from the environment and mounted files, checked whole, every problem named.

A function declares what it needs by combining the groups below; what it does not declare it never reads.
`CONFIG_DIRS` (colon-separated) names folders of mounted Secrets and ConfigMaps: a file's name is the
setting, its content the value. The environment wins over a file.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit
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
    ValidationInfo,
    field_validator,
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
        problems = [_problem(model, e["loc"], e["type"], e["msg"]) for e in error.errors()]
        raise ConfigError("\n".join(problems)) from None


def gather(environment: Mapping[str, str]) -> dict[str, str]:
    """All values by their names: mounted files first, the environment over them."""
    values: dict[str, str] = {}
    for folder in filter(None, environment.get("CONFIG_DIRS", "").split(":")):
        for file in sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []:
            if file.is_file() and not file.name.startswith("."):
                values[file.name] = file.read_text(errors="replace").rstrip("\n")
    return values | dict(environment)


def _problem(model: type[BaseModel], location: tuple[int | str, ...], kind: str, message: str) -> str:
    name, *inside = map(str, location)
    if kind == "missing":
        message = "not set" if inside else f"not set; {model.model_fields[name].description}"
    match name, *inside:
        case "seeds", setting:
            where = [setting]
        case "providers", entry, *inside:
            where = ["PROVIDERS_DIR", f"{entry}.yaml", ".".join(inside)]
        case _:
            where = ["PROVIDERS_DIR" if name == "providers" else name.upper(), ".".join(inside)]
    return ": ".join([*filter(None, where), message.removeprefix("Value error, ")])


def _words(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an address such as http://name:8080")
    return value.rstrip("/")


def _host_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        raise ValueError("must be host:port")
    return value


def _postgres_url(value: SecretStr) -> SecretStr:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    address = value.get_secret_value()
    try:
        usable = address.startswith(("postgresql://", "postgres://")) and conninfo_to_dict(address)
    except ProgrammingError:  # its message has the whole address
        usable = {}
    if not usable:
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
    except (ZoneInfoNotFoundError, ValueError, OSError):  # `Africa` is a folder
        raise ValueError("no such time zone; give a name such as Africa/Johannesburg") from None


def _seed(value: SecretStr) -> SecretStr:
    seed = value.get_secret_value().replace(" ", "").rstrip("=").upper()
    if not seed:
        raise ValueError("not set; give the base32 seed that the portal shows when TOTP is set up")
    try:
        base64.b32decode(seed + "=" * (-len(seed) % 8))
    except ValueError:
        raise ValueError("not base32; copy the seed that the portal shows (letters A-Z and digits 2-7)") from None
    return SecretStr(seed)


BaseUrl = Annotated[str, AfterValidator(_base_url)]
BaseUrls = Annotated[tuple[BaseUrl, ...], BeforeValidator(_words)]
Quantity = Annotated[str, AfterValidator(_quantity)]
HostPort = Annotated[str, AfterValidator(_host_port)]
SigningKey = Annotated[SecretStr, AfterValidator(_signing_key)]
Seed = Annotated[SecretStr, AfterValidator(_seed)]


class BaseSettings(BaseModel):
    """What every function has."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    environment: Annotated[Mapping[str, str], Field(exclude=True, repr=False)]
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    otel_exporter_otlp_endpoint: BaseUrl | None = Field(
        None, description="where spans go, by OTLP over HTTP; without it there are none"
    )
    k_service: str = Field("", description="the function's name at the database; Knative sets it")
    k_revision: str = Field("", description="its revision, which `GET /` tells; Knative sets it")


class DatabaseSettings(BaseSettings):
    """PostgreSQL, where the truth is."""

    database_url: Annotated[SecretStr, AfterValidator(_postgres_url)] = Field(
        description="the database's address: postgresql://user:password@host:5432/name; of several hosts,"
        " separated by commas, the one that takes writes is used"
    )
    database_pool_size: int = Field(8, ge=1, le=100, description="connections of one pod at most")


class ValkeySettings(BaseSettings):
    """Valkey: one server, or a primary found through Sentinel, or a cluster."""

    valkey_sentinels: Annotated[tuple[HostPort, ...], BeforeValidator(_words)] = Field(
        (), description="host:port of each Sentinel, separated by commas"
    )
    valkey_host: str = Field("", validate_default=True, description="the server's or one cluster node's name")
    valkey_port: int = Field(6379, ge=1, le=65535)
    valkey_password: SecretStr = SecretStr("")
    valkey_tls: bool = False
    valkey_cluster: bool = False
    valkey_sentinel_service: str = Field("mymaster", description="the name Sentinel knows the primary by")
    valkey_min_replicas: int = Field(
        0, ge=0, le=10, description="replicas that must have a code's reservation before it is given"
    )

    @field_validator("valkey_host")
    @classmethod
    def _one_way_in(cls, host: str, others: ValidationInfo) -> str:
        if not host and others.data.get("valkey_sentinels") == ():
            raise ValueError("not set; give the server's name, or VALKEY_SENTINELS")
        return host

    @field_validator("valkey_cluster")
    @classmethod
    def _not_two(cls, cluster: bool, others: ValidationInfo) -> bool:
        if cluster and others.data.get("valkey_sentinels"):
            raise ValueError("cannot be combined with VALKEY_SENTINELS; choose one")
        return cluster


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
    providers: dict[str, Provider] = Field({}, validate_default=True, description="what that folder holds")

    @field_validator("providers", mode="before")
    @classmethod
    def _read(cls, _: object, others: ValidationInfo) -> dict[str, Any]:
        folder = others.data.get("providers_dir")
        return read_providers(folder) if folder else {}


class LockoutSettings(ValkeySettings):
    """When an account is paused before its portal locks it."""

    totp_max_rejections: int = Field(3, ge=1, le=100, description="refusals by the portal that pause an account")
    totp_pause: int = Field(900, ge=1, le=86400, description="seconds an account is paused after that")


class CodeSettings(BaseSettings):
    """When a code is too old to be given out."""

    totp_min_validity: int = Field(5, ge=0, le=25, description="seconds a code must still live when given out")


class TotpSettings(ProviderSettings, LockoutSettings, CodeSettings):
    """What makes login codes: one seed per account."""

    totp_max_wait: int = Field(240, ge=0, le=280, description="seconds a request waits for its turn at most")
    seeds: dict[str, Seed] = Field({}, validate_default=True, description="each account's <PREFIX>_TOTP_SECRET")

    @field_validator("seeds", mode="before")
    @classmethod
    def _find(cls, _: object, others: ValidationInfo) -> dict[str, str]:
        providers: dict[str, Provider] = others.data.get("providers", {})
        accounts = [a.credentials for p in providers.values() if p.totp != "none" for a in p.accounts]
        names = [f"{account}_TOTP_SECRET" for account in accounts]
        return {name: others.data["environment"].get(name, "") for name in names}

    def seed(self, account: str) -> str:
        """The base32 seed of an account, as the portal shows it."""
        return self.seeds[f"{account}_TOTP_SECRET"].get_secret_value()


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
    browser_service_image: str = Field("", validate_default=True, description="the image of browsers' pods")
    browser_cpu_request: Quantity = "250m"
    browser_cpu_limit: Quantity = "2"
    browser_memory_request: Quantity = "512Mi"
    browser_memory_limit: Quantity = "2Gi"
    browser_shm_size: Quantity = Field("512Mi", description="shared memory, which counts as memory of the pod")

    @field_validator("browser_service_image")
    @classmethod
    def _one_place(cls, image: str, others: ValidationInfo) -> str:
        if not image and not others.data.get("browser_node_url"):
            raise ValueError("not set; give the image of browsers' pods")
        return image


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
