"""Who is visiting a portal: sessions by cookie, forms that only their own page can send."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from demo.accounts import Account

COOKIE = "visit"


@dataclass(slots=True)
class Visit:
    """One browser at one portal."""

    operator: str
    form_key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    account: Account | None = None
    """Whose password was right."""
    logged_in: bool = False


class Visits:
    """All visits, for as long as the portal runs."""

    def __init__(self) -> None:
        self._visits: dict[str, Visit] = {}

    def of(self, request: Request) -> Visit | None:
        """The visit that this request belongs to, at this operator's portal."""
        visit = self._visits.get(request.cookies.get(COOKIE, ""))
        return visit if visit and visit.operator == request.path_params["operator"] else None

    def begin(self, visit: Visit, response: Response) -> None:
        """Give the visit a new cookie, as must happen at each login."""
        key = secrets.token_urlsafe(24)
        self._visits[key] = visit
        response.set_cookie(COOKIE, key, httponly=True, samesite="strict", path=f"/{visit.operator}")


def is_own_form(visit: Visit | None, form: dict[str, str]) -> bool:
    """Whether the form was made for this visit."""
    return visit is not None and hmac.compare_digest(visit.form_key, form.get("form_key", ""))
