"""Kinds of values that several models share."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator


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


def _storable_time(value: datetime) -> datetime:
    # At the ends of the calendar a time zone moves a time out of what PostgreSQL and Python can tell each other.
    if not 1970 <= value.year < 3000:
        raise ValueError("must lie between the years 1970 and 2999")
    return value


def _digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdecimal() and len(value) <= 19):
        raise ValueError("must be a number")
    return value


Text = Annotated[str, AfterValidator(_text)]
"""Text that the database can keep."""

JsonObject = Annotated[dict[str, Any], AfterValidator(_storable)]
"""A JSON object that the database can keep."""

Time = Annotated[AwareDatetime, AfterValidator(_storable_time)]
"""A time, with its time zone, that the database can keep."""

Digits = Annotated[int, BeforeValidator(_digits)]
"""A number in a query, in decimal digits alone."""
