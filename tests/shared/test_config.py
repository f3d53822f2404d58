"""Configuration: every problem named at start, all at once, without a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr

from shared.config import (
    BaseSettings,
    BaseUrls,
    ConfigError,
    DatabaseSettings,
    EventSettings,
    LeaseSettings,
    ProviderSettings,
    TokenSettings,
    TotpSettings,
    ValkeySettings,
    load,
)
from tests.functions.stage import FUNCTIONS, SEED, SIGNING_KEY, Ords, Place, Worker, environment, load_function

NEEDED = {
    "submit_job": "DATABASE_URL VALKEY_HOST JWT_SECRET_KEY PROVIDERS_DIR ADMIN_USERNAME ADMIN_PASSWORD",
    "provision_browser": "DATABASE_URL JWT_SECRET_KEY PROVIDERS_DIR BROWSER_SERVICE_IMAGE",
    "dispatch_job": "DATABASE_URL VALKEY_HOST JWT_SECRET_KEY PROVIDERS_DIR TOTP_URL CALLBACK_URL",
    "issue_totp": "DATABASE_URL VALKEY_HOST JWT_SECRET_KEY PROVIDERS_DIR",
    "callback": "DATABASE_URL VALKEY_HOST JWT_SECRET_KEY",
    "notify": "DATABASE_URL CALLBACK_ENDPOINT CALLBACK_AUTH_TOKEN",
    "reap_idle": "DATABASE_URL JWT_SECRET_KEY PROVIDERS_DIR BROWSER_SERVICE_IMAGE",
    "monitor": "DATABASE_URL VALKEY_HOST JWT_SECRET_KEY PROVIDERS_DIR",
}
VALKEY = {"VALKEY_HOST": "valkey"}


def problems(model: type[BaseSettings], **given: str) -> dict[str, str]:
    """What is wrong, by the setting that it is wrong with."""
    with pytest.raises(ConfigError) as caught:
        load(model, given)
    found: dict[str, list[str]] = {}
    for line in str(caught.value).splitlines():
        name, _, message = line.partition(": ")
        found.setdefault(name, []).append(message)
    return {name: "\n".join(messages) for name, messages in found.items()}


def folder(path: Path, **entries: str) -> str:
    """A folder of provider entries."""
    path.mkdir(exist_ok=True)
    for name, entry in entries.items():
        (path / f"{name}.yaml").write_text(entry)
    return str(path)


# All at once


def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(" ".join(NEEDED.values()).split()) | {"CONFIG_DIRS"}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_names_all_that_it_needs(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started with nothing, a function says every setting that it lacks and what each is, in one go."""
    clear(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        load_function(function, {}, Place())
    lines = str(caught.value).splitlines()
    named = {line.partition(": ")[0] for line in lines}
    assert named == set(NEEDED[function].split())
    assert all("not set; " in line for line in lines)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_needs_no_more_than_that(function: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With those settings it starts; what it does not declare it never reads."""
    clear(monkeypatch)
    every = environment("postgresql://db/rpa", VALKEY, tmp_path / "p", Worker("http://worker"), Ords("http://ords"))
    needed = {name: value for name, value in every.items() if name in NEEDED[function].split() or "TOTP_SEC" in name}
    _, module = load_function(function, {**needed, "MAX_SESSIONS": "x", "ENVIRONMENT": "production"}, Place())
    assert module.SETTINGS.log_level == "INFO"


def test_different_kinds_of_problems_are_named_together(tmp_path: Path) -> None:
    """A missing setting, a bad number, a bad entry and a bad combination do not hide each other."""
    folder(tmp_path, octotel="actions: []\ntotp: sometimes\n", evotel="actions: [a]\ntotp: on_request\n", bad="[")

    class Settings(TotpSettings, DatabaseSettings, TokenSettings):
        """Much."""

    found = problems(
        Settings, PROVIDERS_DIR=str(tmp_path), TOTP_MIN_VALIDITY="soon", JWT_SECRET_KEY="short", VALKEY_SENTINELS="s"
    )
    assert set(found) == {"PROVIDERS_DIR", "TOTP_MIN_VALIDITY", "JWT_SECRET_KEY", "VALKEY_SENTINELS", "DATABASE_URL"}


# Secrets


@pytest.mark.parametrize(
    "settings",
    [
        {"DATABASE_URL": "mysql://user:hunter2@db/rpa"},
        {"DATABASE_URL": "postgresql://user:hunter2@[db/rpa"},
        {"DATABASE_URL": "postgresql://db/rpa?pasword=hunter2"},
        {"JWT_SECRET_KEY": "hunter2"},
        {"JWT_PREVIOUS_SECRET_KEYS": f"{SIGNING_KEY} hunter2"},
        {"OCTOTEL_TOTP_SECRET": "hunter2!"},
        {"API_CLIENTS": '{"ords": hunter2}'},
        {"API_CLIENTS": '{"ords": {"secret": ["hunter2"], "scopes": []}}'},
        {"API_CLIENTS": '{"ords": {"secret": "hunter2", "scopes": ["everything"]}}'},
    ],
    ids=str,
)
def test_no_message_has_a_secret(settings: dict[str, str], tmp_path: Path) -> None:
    """A bad secret is named, never shown."""
    every = environment("postgresql://db/rpa", VALKEY, tmp_path / "p", Worker("http://worker"), Ords("http://ords"))
    function = "dispatch_job" if "OCTOTEL_TOTP_SECRET" in settings else "submit_job"
    with pytest.raises(ConfigError, match=f"^{next(iter(settings))}: ") as caught:
        load_function(function, every | settings, Place())
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_no_repr_has_a_secret(tmp_path: Path) -> None:
    """Settings that end in a log or a traceback show no secret."""

    class Settings(TotpSettings, DatabaseSettings, TokenSettings):
        """Much."""

    secrets = {
        "DATABASE_URL": "postgresql://user:hunter2@db/rpa",
        "JWT_SECRET_KEY": f"hunter2{SIGNING_KEY}",
        "JWT_PREVIOUS_SECRET_KEYS": f"hunter2{SIGNING_KEY}",
        "VALKEY_PASSWORD": "hunter2",
        "OCTOTEL_TOTP_SECRET": "HUNTER22",
    }
    entries = folder(tmp_path / "p", octotel="actions: [a]\ntotp: on_request\n")
    shown = repr(load(Settings, {**VALKEY, **secrets, "PROVIDERS_DIR": entries}))
    assert "hunter" not in shown.lower()


# Values


class Urls(BaseSettings):
    worker_urls: BaseUrls = ()


@pytest.mark.parametrize(
    "url", ["ftp://a", "worker:8080", "http://", "http://a:port", "http://a:99999", "http://[a", "//a"]
)
def test_an_address_is_one(url: str) -> None:
    """What no request could be sent to is refused at start."""
    assert "http://name:8080" in problems(Urls, WORKER_URLS=f"http://fine {url}")["WORKER_URLS"]


def test_lists_are_separated_by_commas_or_space() -> None:
    """Addresses in a list, with the slash at their end left out."""
    urls = load(Urls, {"WORKER_URLS": " http://a:1/ ,http://b/x/\nhttps://c,"}).worker_urls
    assert urls == ("http://a:1", "http://b/x", "https://c")


@pytest.mark.parametrize(
    ("model", "setting", "value"),
    [
        (BaseSettings, "LOG_LEVEL", "LOUD"),
        (LeaseSettings, "WORKER_TIMEOUT", "0"),
        (LeaseSettings, "BROWSER_IDLE_TIMEOUT", "five"),
        (LeaseSettings, "RETRY_BACKOFF", "-1"),
        (EventSettings, "K_SINK", "broker"),
        (ValkeySettings, "VALKEY_PORT", "70000"),
        (ValkeySettings, "VALKEY_CLUSTER", "perhaps"),
        (ValkeySettings, "VALKEY_SENTINELS", "a:1,b"),
        (ValkeySettings, "VALKEY_SENTINELS", "a:99999"),
        (ValkeySettings, "VALKEY_MIN_REPLICAS", "11"),
    ],
)
def test_a_bad_value_is_named(model: type[BaseSettings], setting: str, value: str) -> None:
    """Its setting and what would be right."""
    assert set(problems(model, **{**VALKEY, setting: value})) == {setting}


def test_there_is_one_way_to_valkey() -> None:
    """A server, or Sentinels, or a cluster; not two."""
    assert load(ValkeySettings, {"VALKEY_SENTINELS": "a:1, b:2"}).valkey_sentinels == ("a:1", "b:2")
    assert load(ValkeySettings, {**VALKEY, "VALKEY_CLUSTER": "true"}).valkey_cluster
    found = problems(ValkeySettings, VALKEY_SENTINELS="a:1", VALKEY_CLUSTER="true")
    assert "choose one" in found["VALKEY_CLUSTER"]


def test_a_health_report_needs_an_address(tmp_path: Path) -> None:
    """Reports that are wished but have nowhere to go are a problem, not silence."""
    every = environment("postgresql://db/rpa", VALKEY, tmp_path / "p", Worker("http://worker"), Ords("http://ords"))
    with pytest.raises(ConfigError, match=r"^HEALTH_REPORT_ENDPOINT: not set; "):
        load_function("monitor", {**every, "HEALTH_REPORT_ENABLED": "true"}, Place())


# Mounted files


class Mounted(BaseSettings):
    admin_password: SecretStr = Field(description="a password")


def test_settings_are_read_from_mounted_files(tmp_path: Path) -> None:
    """A file's name is the setting; the last folder wins; Kubernetes' own entries and what is no text do not matter."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ADMIN_PASSWORD").write_text(f"from {name}\n")
    (tmp_path / "a" / "..data").mkdir()
    (tmp_path / "a" / ".hidden").write_text("x")
    (tmp_path / "a" / "KEYSTORE").write_bytes(b"\xff\xfe")
    folders = f"{tmp_path / 'a'}:{tmp_path / 'b'}:{tmp_path / 'not there'}:"
    assert load(Mounted, {"CONFIG_DIRS": folders}).admin_password.get_secret_value() == "from b"


def test_the_environment_wins(tmp_path: Path) -> None:
    """Over any file."""
    (tmp_path / "ADMIN_PASSWORD").write_text("from a file")
    given = {"CONFIG_DIRS": str(tmp_path), "ADMIN_PASSWORD": "from the environment"}
    assert load(Mounted, given).admin_password.get_secret_value() == "from the environment"


def test_an_empty_setting_is_none(tmp_path: Path) -> None:
    """An empty file or variable is not set."""
    (tmp_path / "ADMIN_PASSWORD").write_text("\n")
    assert problems(Mounted, CONFIG_DIRS=str(tmp_path)) == {"ADMIN_PASSWORD": "not set; a password"}


# Providers and seeds


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ("actions: [", "YAML mapping"),
        ("- a", "YAML mapping"),
        ("", "YAML mapping"),
        ("max_sessions: 1", "actions: not set"),
        ("actions: []", "actions: "),
        ("actions: [Validation]", "actions.0: "),
        ("actions: [a]\ntotp: sometimes", "totp: "),
        ("actions: [a]\nmax_sessions: 0", "max_sessions: "),
        ("actions: [a]\nworkers: [worker]", "workers.0: "),
        ("actions: [a]\nurl: http://x", "url: "),
        ("actions: [a]\naccounts: [{credentials: lower}]", "accounts.0.credentials: "),
        ("actions: [a]\naccounts: [{}]", "accounts.0.credentials: not set"),
        ("actions: [a]\naccounts: [{credentials: A}, {credentials: A}]", "accounts: "),
        ("actions: [a]\ntotp: on_request\naccounts: []", "accounts: "),
    ],
)
def test_a_bad_entry_is_named(entry: str, where: str, tmp_path: Path) -> None:
    """The file, the field and what would be right."""
    folder(tmp_path, metrofiber="actions: [a]", octotel=entry)
    found = problems(ProviderSettings, PROVIDERS_DIR=str(tmp_path))
    assert set(found) == {"PROVIDERS_DIR"}
    assert found["PROVIDERS_DIR"].startswith("octotel.yaml: ")
    assert where in found["PROVIDERS_DIR"]


def test_every_bad_entry_is_named(tmp_path: Path) -> None:
    """Not only the first."""
    folder(tmp_path, one="[", two="actions: []", **{"Bad Name": "actions: [a]\naccounts: []"})
    with pytest.raises(ConfigError) as caught:
        load(ProviderSettings, {"PROVIDERS_DIR": str(tmp_path)})
    for line in (
        "PROVIDERS_DIR: one.yaml: ",
        "PROVIDERS_DIR: two.yaml: actions: ",
        "PROVIDERS_DIR: Bad Name.yaml: name: ",
    ):
        assert line in str(caught.value)


def test_a_folder_without_entries_is_named(tmp_path: Path) -> None:
    """Missing or empty."""
    for path in (tmp_path, tmp_path / "not there"):
        assert "no NAME.yaml in" in problems(ProviderSettings, PROVIDERS_DIR=str(path))["PROVIDERS_DIR"]


def test_an_entry_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """By the path that the system names, and its reason."""
    (tmp_path / "octotel.yaml").mkdir()
    found = problems(ProviderSettings, PROVIDERS_DIR=str(tmp_path))["PROVIDERS_DIR"]
    assert f"{tmp_path}/octotel.yaml: Is a directory; the function's user must" in found


def test_an_entry_may_be_short(tmp_path: Path) -> None:
    """Actions alone make a provider: a browser, no login codes, one account named after it."""
    entries = folder(tmp_path, **{"metro-fiber": "actions: [a, b]"})
    provider = load(ProviderSettings, {"PROVIDERS_DIR": entries}).providers["metro-fiber"]
    assert (provider.name, provider.actions, provider.browser, provider.totp) == (
        "metro-fiber",
        ("a", "b"),
        True,
        "none",
    )
    assert [account.credentials for account in provider.accounts] == ["METRO_FIBER"]
    assert not provider.binds_accounts


ENTRY = "actions: [a]\ntotp: on_request\naccounts: [{credentials: OCTOTEL}, {credentials: OCTOTEL_2}]"


@pytest.mark.parametrize("bad", ["", "not base32!", "A", "é", "01890189"])
def test_every_missing_seed_is_named(bad: str, tmp_path: Path) -> None:
    """For each account of each provider with login codes; where there are none no seed is needed."""
    folder(tmp_path, octotel=ENTRY, metrofiber="actions: [a]")
    seeds = {"OCTOTEL_TOTP_SECRET": bad, "OCTOTEL_2_TOTP_SECRET": bad}
    found = problems(TotpSettings, **VALKEY, PROVIDERS_DIR=str(tmp_path), **seeds)
    assert set(found) == set(seeds)
    assert all("the portal shows" in message for message in found.values())


def test_a_seed_is_taken_as_the_portal_shows_it(tmp_path: Path) -> None:
    """In groups, in small letters, with or without padding."""
    folder(tmp_path, octotel=ENTRY)
    groups = " ".join(SEED[n : n + 4] for n in range(0, 32, 4)).lower()
    seeds = {"OCTOTEL_TOTP_SECRET": groups, "OCTOTEL_2_TOTP_SECRET": "MFRGG==="}
    settings: Any = load(TotpSettings, {**VALKEY, "PROVIDERS_DIR": str(tmp_path), **seeds})
    assert (settings.seed("OCTOTEL"), settings.seed("OCTOTEL_2")) == (SEED, "MFRGG")
