"""Every statement of the product that changes state, found by reading its modules, and who executes which."""

from __future__ import annotations

import importlib
import pkgutil
import re
from types import ModuleType

import functions
import shared

CHANGES = re.compile(r"\b(INSERT INTO|UPDATE \w+\s+SET|DELETE FROM)\b")
COMMIT = "COMMIT"
"""Of a transaction of several statements; every other statement is its own."""

EXECUTED_BY = {
    "submit-job": ("SUBMIT", "CHANGE", "RETRY", "END_ATTEMPT", "FORGET", COMMIT),
    "provision-browser": (
        "CLAIM_JOBS", "READY", "GIVE_BACK", "KEEP_LEASE", "REPLACE", "END_ATTEMPT", "FORGET_BROWSER", "FORGET",
        "NAME_MISSING", "WARM", "GIVE_UP", "KEEP", "DROP", COMMIT,
    ),
    "dispatch-job": ("HAND_OVER", "REFUSED", "TAKE_BACK", "ACCEPTED", "HAND_OUT", "KEEP", "DROP"),
    "issue-totp": ("HAND_OUT",),
    "callback": ("HEARTBEAT", "KEEP_EVIDENCE", "END_ATTEMPT", "FORGET"),
    "notify": ("TAKE", "ACKNOWLEDGED", "PUT_OFF", "KEEP", "DROP"),
    "monitor": ("PAUSE", "RESUME", "REPLAY", "FORGET", COMMIT),
    "reap-idle": (
        "END_ATTEMPT", "FORGET_BROWSER", "FORGET", "FORGET_JOBS", "FORGET_DEAD_LETTERS", "FORGET_STEPS", "KEEP", "DROP",
        "FOUND", "ADD_UP",
        "NAME_MISSING", "GIVE_UP", "WARM", COMMIT,
    ),
}  # fmt: skip
"""What each function is seen to execute under these faults. A statement of `statements` that is nobody's, and a pair
that is executed and stands not here, are findings of the run."""

SIDES = ("before", "after")


def statements() -> dict[str, str]:
    """The SQL of every statement that changes state, and its name. Raises ValueError where two have one name."""
    found: dict[str, str] = {}
    for module in (*_modules(functions), *_modules(shared)):
        for name, value in vars(module).items():
            if not (name.isupper() and isinstance(value, str) and CHANGES.search(value)):
                continue
            if found.setdefault(value, name) != name or list(found.values()).count(name) > 1:
                raise ValueError(f"{module.__name__}.{name}: another statement has this name; give it its own")
    return found


def _modules(package: ModuleType) -> list[ModuleType]:
    names = [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    # A function's main reads its settings at once; migrating is nobody's work here.
    return [importlib.import_module(name) for name in names if not name.endswith((".main", ".migrate"))]


def points() -> list[str]:
    """FUNCTION.STATEMENT.SIDE, all of them."""
    return [f"{function}.{name}.{side}" for function, names in EXECUTED_BY.items() for name in names for side in SIDES]
