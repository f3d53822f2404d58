"""What a route takes and answers, said once beside its path; shared.openapi publishes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from starlette.routing import Route

BODY_LIMIT = 256 * 1024
JSON = "application/json"
WORKER = "worker"
"""Who calls with the token of an attempt, not with a scope."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries: a model's members, any JSON, or bytes of any other type."""

    model: type[BaseModel] | None = None
    media: str = JSON
    limit: int = BODY_LIMIT
    required: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: a model as JSON, bytes of a media type, or nothing; these headers always."""

    model: type[BaseModel] | None = None
    media: str | None = None
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route but for its method and path. What follows from it is not said: 401 from `who`, 413 from a body."""

    summary: str
    answers: Mapping[int, Answer]
    who: str = ""
    """The scope of a token, WORKER, or nobody in particular."""
    body: Body | None = None
    query: type[BaseModel] | None = None
    path: Mapping[str, Any] = field(default_factory=dict)
    """Types of path parameters that are not just text, nor a number called id."""
    headers: Mapping[str, Any] = field(default_factory=dict)
    """Types of headers that a request must have."""
    refuses: Sequence[int] = ()
    """Statuses of refusals beyond those that follow."""
    description: str = ""


class OperationRoute(Route):
    """A route that says what it takes and answers."""

    operation: Operation
