"""Which place runs the browsers here."""

from __future__ import annotations

from shared.browsers import Browsers
from shared.config import BrowserSettings, ConfigError


def open_browsers(settings: BrowserSettings) -> Browsers:
    """The place that the configuration names. Raises ConfigError."""
    if settings.browser_node_url:
        from shared.browsers.local import LocalBrowsers

        return LocalBrowsers(settings.browser_node_url, settings.browser_node_token.get_secret_value())
    raise ConfigError("BROWSER_NODE_URL: not set; give the address of the local runtime's browser node")
