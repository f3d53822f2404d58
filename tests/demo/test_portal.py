"""The demo portals: who gets in, what they answer, what they keep."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pyotp
import pytest

from demo.accounts import Account, CodeRefused
from demo.portal import Portal
from tests.serving import serving

SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
ENVIRONMENT = {
    "METROFIBER_USERNAME": "metro",
    "METROFIBER_PASSWORD": "metro-password",
    "OCTOTEL_EMAIL": "octo@example.org",
    "OCTOTEL_PASSWORD": "octo-password",
    "OCTOTEL_TOTP_SECRET": SEED,
}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(Portal(ENVIRONMENT).app) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, follow_redirects=True) as client,
    ):
        yield client


async def send(http: httpx.AsyncClient, page: httpx.Response, path: str, **fields: str) -> httpx.Response:
    """Fill the form of this page and send it."""
    (key,) = re.findall(r'name="form_key" value="([^"]+)"', page.text)
    return await http.post(path, data={"form_key": key, **fields})


async def log_in_at_metrofiber(http: httpx.AsyncClient) -> httpx.Response:
    return await send(http, await http.get("/metrofiber"), "/metrofiber", username="metro", password="metro-password")


async def give_password_at_octotel(http: httpx.AsyncClient) -> httpx.Response:
    return await send(
        http, await http.get("/octotel"), "/octotel", username="octo@example.org", password="octo-password"
    )


async def test_password_alone(http: httpx.AsyncClient) -> None:
    """Where no codes are asked for, user name and password open the form."""
    inside = await log_in_at_metrofiber(http)
    assert inside.url.path == "/metrofiber/orders"
    assert "logged in as metro" in inside.text


async def test_wrong_password(http: httpx.AsyncClient) -> None:
    """A wrong password, or that of another operator, opens nothing."""
    for password in ("wrong", "octo-password"):
        page = await http.get("/metrofiber")
        refusal = await send(http, page, "/metrofiber", username="metro", password=password)
        assert refusal.status_code == 403
        assert "not right" in refusal.text
    assert (await http.get("/metrofiber/orders")).url.path == "/metrofiber"


async def test_code_works_once(http: httpx.AsyncClient) -> None:
    """A login code opens the form once; the same one is refused at the next login, and the audit shows both."""
    code = pyotp.TOTP(SEED).now()
    page = await give_password_at_octotel(http)
    assert page.url.path == "/octotel/code"
    assert (await send(http, page, "/octotel/code", code=code)).url.path == "/octotel/orders"
    http.cookies.clear()
    page = await give_password_at_octotel(http)
    again = await send(http, page, "/octotel/code", code=code)
    assert again.status_code == 403
    assert "used before" in again.text
    audit = (await http.get("/audit")).text
    assert re.findall(r'"accepted":(\w+)', audit) == ["true", "false"]
    for secret in (code, SEED, "octo-password"):
        assert secret not in audit


async def test_code_is_needed(http: httpx.AsyncClient) -> None:
    """A password alone, or a wrong code, opens nothing where codes are asked for."""
    page = await give_password_at_octotel(http)
    refusal = await send(http, page, "/octotel/code", code="no")
    assert refusal.status_code == 403
    assert (await http.get("/octotel/orders")).url.path == "/octotel"


@pytest.mark.parametrize("action", ["validation", "cancellation"])
async def test_order(http: httpx.AsyncClient, action: str) -> None:
    """An order is confirmed with a reference."""
    inside = await log_in_at_metrofiber(http)
    done = await send(http, inside, "/metrofiber/orders", circuit="MF-<1>", action=action)
    assert 'data-outcome="done"' in done.text
    assert re.search(r'id="reference">MET-\d+<', done.text)
    assert "MF-&lt;1&gt;" in done.text


async def test_unknown_circuit(http: httpx.AsyncClient) -> None:
    """A circuit that the operator does not know is refused with a reason."""
    inside = await log_in_at_metrofiber(http)
    refusal = await send(http, inside, "/metrofiber/orders", circuit="UNKNOWN-7", action="validation")
    assert 'data-outcome="refused"' in refusal.text
    assert "does not know circuit UNKNOWN-7" in refusal.text


async def test_order_is_checked(http: httpx.AsyncClient) -> None:
    """An order without a circuit, or for something else, is asked for again."""
    inside = await log_in_at_metrofiber(http)
    for fields in ({"circuit": " ", "action": "validation"}, {"circuit": "MF-1", "action": "dance"}):
        assert (await send(http, inside, "/metrofiber/orders", **fields)).status_code == 422


async def test_foreign_form(http: httpx.AsyncClient) -> None:
    """A form that the visit's own page did not make is refused; so is a visit at another operator."""
    inside = await log_in_at_metrofiber(http)
    order = {"circuit": "MF-1", "action": "validation"}
    assert (await http.post("/metrofiber/orders", data={"form_key": "guess", **order})).status_code == 403
    assert (await send(http, inside, "/openserve/orders", **order)).status_code == 403
    assert (await http.get("/telkom")).status_code == 404


def test_clock_tolerance() -> None:
    """A code one step early or late is good; an older step than the last accepted never is again."""
    account = Account("OCTOTEL", "octo", "password", pyotp.TOTP(SEED))
    now = 30 * 1000 + 10
    codes = {step: pyotp.TOTP(SEED).generate_otp(step) for step in range(998, 1003)}
    for step in (998, 1002):
        with pytest.raises(CodeRefused, match="not right"):
            account.use_code(codes[step], now)
    assert account.use_code(codes[999], now) == 999
    assert account.use_code(codes[1001], now) == 1001
    with pytest.raises(CodeRefused, match="used before"):
        account.use_code(codes[1000], now)
