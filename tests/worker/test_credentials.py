"""A portal's account, out of the environment."""

from __future__ import annotations

import pytest

from rpa_worker import Portal, PortalNotConfigured

ENVIRONMENT = {
    "OCTOTEL_URL": "https://octotel.example",
    "OCTOTEL_EMAIL": "one@example.org",
    "OCTOTEL_PASSWORD": "first-password",
    "OCTOTEL_2_USERNAME": "two",
    "OCTOTEL_2_PASSWORD": "second-password",
}


def test_provider_account() -> None:
    """Without an account the provider's own is meant; an e-mail address is a user name."""
    portal = Portal.from_environment("octotel", None, ENVIRONMENT)
    assert (portal.url, portal.username, portal.password) == (
        "https://octotel.example",
        "one@example.org",
        "first-password",
    )


def test_second_account() -> None:
    """A second account has its own name and password, and the provider's address."""
    portal = Portal.from_environment("octotel", "OCTOTEL_2", ENVIRONMENT)
    assert (portal.url, portal.username) == ("https://octotel.example", "two")


def test_missing() -> None:
    """What is missing is named."""
    with pytest.raises(PortalNotConfigured, match="OCTOTEL_3_USERNAME or OCTOTEL_3_EMAIL"):
        Portal.from_environment("octotel", "OCTOTEL_3", ENVIRONMENT)


def test_repr() -> None:
    """The password does not show."""
    assert "password" not in repr(Portal.from_environment("octotel", None, ENVIRONMENT))
