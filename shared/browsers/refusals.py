"""What the Kubernetes API's refusals mean for browsers, and what an operator is to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from shared import logs
from shared.browsers import BrowserError, BrowserFailed, BrowsersUnavailable
from shared.browsers.api_errors import MESSAGE_LIMIT, ApiError, ApiUnreachable

_MISSING_RIGHT = re.compile(r'User "([^"]+)" cannot (\w+) resource "pods"')
_ACCOUNT = "system:serviceaccount:"


@contextmanager
def explained(namespace: str, *, secret: str = "") -> Iterator[None]:
    """Raise what the API says as BrowserError, without the secret; an operator's task is logged as an error."""
    try:
        yield
    except ApiUnreachable as unreachable:
        raise BrowsersUnavailable(str(unreachable)) from None
    except ApiError as error:
        message = error.message.replace(secret, "/…") if secret else error.message
        explanation, task = explain(ApiError(error.status, error.reason, message), namespace)
        if task:
            logs.error("browsers misconfigured", reason=explanation.reason)
        raise explanation from None


def explain(error: ApiError, namespace: str) -> tuple[BrowserError, bool]:
    """What a refusal means, and whether only an operator can mend it.

    Jobs wait for an operator rather than fail: a missing right must not cost them. A pod that is not valid is
    the one thing that waiting cannot help.
    """
    said = (error.message or error.reason or str(error.status))[:MESSAGE_LIMIT]
    if error.status == 403 and "exceeded quota" in said:
        return BrowsersUnavailable(f"no room in namespace {namespace}: {said}"), False
    if error.status == 403 and (match := _MISSING_RIGHT.search(said)):
        return BrowsersUnavailable(_missing(match[1], match[2], namespace)), True
    if error.status == 403:
        return BrowsersUnavailable(f"namespace {namespace} does not admit the pod: {said}"), True
    if error.status == 401:
        return BrowsersUnavailable(f"the Kubernetes API does not take our token: {said}"), True
    if error.status == 404:
        return BrowsersUnavailable(f"namespace {namespace}: {said}"), True
    if error.status in (400, 422):
        return BrowserFailed(f"Kubernetes refuses the pod: {said}"), True
    return BrowsersUnavailable(f"the Kubernetes API answers {error.status}: {said}"), False


def _missing(user: str, verb: str, namespace: str) -> str:
    who = f"the ServiceAccount {user.removeprefix(_ACCOUNT)}" if user.startswith(_ACCOUNT) else f"the user {user}"
    return (
        f"{who} may not {verb} pods in namespace {namespace}; "
        f"grant it the verb `{verb}` on `pods` there with a Role and a RoleBinding"
    )
