"""Kinds of values that several models share."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds the character NUL, which the database cannot keep; remove it")
    return value


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("holds NaN or Infinity, which JSON does not know; send null") from None
    if "\\u0000" in text:
        raise ValueError("holds the character NUL, which the database cannot keep; remove it")
    return value


Text = Annotated[str, AfterValidator(_text)]
"""Text that the database can keep."""

JsonObject = Annotated[dict[str, Any], AfterValidator(_storable)]
"""A JSON object that the database can keep."""
