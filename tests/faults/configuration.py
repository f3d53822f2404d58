"""The settings of a faulty system: short leases, a tick every other second, portals of every kind."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

LOST_SECONDS = 5.0
"""How old an event must be before reap_idle takes it for lost; a constant of the product that is left as it is."""
MAX_WORKERS = 50
HEARTBEAT_TIMEOUT = 4
UNCLEAR_SECONDS = 6.0
CALLBACK_TIMEOUT = 1.0

ACTIONS = ["validation"]
PROVIDERS: dict[str, dict[str, Any]] = {
    "plain": {"actions": ACTIONS, "browser": False, "max_sessions": 16},
    "bound": {
        "actions": ACTIONS,
        "browser": False,
        "max_sessions": 5,
        "accounts": [{"credentials": "BOUND_A", "max_sessions": 2}, {"credentials": "BOUND_B", "max_sessions": 3}],
    },
    "codes": {
        "actions": ACTIONS,
        "browser": False,
        "totp": "on_request",
        "totp_period": 1.0,
        "totp_digits": 8,
        "max_sessions": 8,
        "accounts": [{"credentials": "CODES_A"}, {"credentials": "CODES_B"}],
    },
    "gate": {
        "actions": ACTIONS,
        "browser": False,
        "totp": "at_dispatch",
        "totp_period": 1.0,
        "totp_digits": 8,
        "max_sessions": 3,
    },
    "light": {"actions": ACTIONS, "max_sessions": 12},
    "firefox": {"actions": ACTIONS, "max_sessions": 3},
}
WEIGHTS = {"plain": 36, "bound": 10, "codes": 14, "gate": 8, "light": 31, "firefox": 1}
"""Of a hundred jobs. A browser of `light` is a small process with a browser's contract, one of `firefox` is Firefox."""

TIMES: dict[str, dict[str, dict[str, float]]] = {
    "dispatch-job": {
        "functions.dispatch_job.handler": {"UNCLEAR_SECONDS": UNCLEAR_SECONDS},
        "functions.dispatch_job.workers": {"EXECUTE_SECONDS": 2.0, "STATUS_SECONDS": 1.0},
    },
    "provision-browser": {
        "functions.provision_browser.bring_up": {"LEASE_SECONDS": 6.0, "NO_ROOM_SECONDS": 2.0},
        "shared.browsers.local": {"CALL_SECONDS": 2.0},
    },
}
"""Constants that no setting makes shorter; whoever waits for them longer waits for them the same way."""


def entries(scale: int) -> dict[str, dict[str, Any]]:
    """The providers, with `scale` times their limits; real browsers stay as few as a machine can run."""
    scaled = deepcopy(PROVIDERS)
    for name, entry in scaled.items():
        for limited in [entry, *entry.get("accounts", [])] if name != "firefox" else []:
            if "max_sessions" in limited:
                limited["max_sessions"] *= scale
    return scaled


def overrides(folder: Path, python_path: str, scale: int) -> dict[str, dict[str, str]]:
    """What is laid over the local system's ConfigMaps; what lies in wait in the functions comes by PYTHONPATH."""
    return {
        "rpa-config": {
            "PYTHONPATH": python_path,
            "RPA_FAULTS": str(folder),
            "MAX_WORKERS": str(MAX_WORKERS * scale),
            "DATABASE_POOL_SIZE": "6",
            "WORKER_TIMEOUT": "12",
            "HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT),
            "BROWSER_START_TIMEOUT": "12",
            "BROWSER_IDLE_TIMEOUT": "0.25",
            "BROWSER_WARM_POOL": "1",
            "RETRY_BACKOFF": "1",
            "RETRY_BACKOFF_MAX": "2",
            "CALLBACK_TIMEOUT": str(CALLBACK_TIMEOUT),
            "TOTP_MAX_WAIT": "20",
            "TOTP_MIN_VALIDITY": "1",
            "HEALTH_REPORT_ENABLED": "false",
        },
        "rpa-providers": {f"{name}.yaml": yaml.safe_dump(entry) for name, entry in entries(scale).items()},
    }


SCHEDULES = {"reap-idle": "*/2 * * * * *", "monitor": "*/10 * * * * *"}
