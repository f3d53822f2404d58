"""Which place runs the browsers here."""

from __future__ import annotations

from shared.browsers import Browsers
from shared.config import BrowserSettings


def open_browsers(settings: BrowserSettings) -> Browsers:
    """The place that the configuration names; connects to it when first used."""
    if settings.browser_node_url:
        from shared.browsers.local import LocalBrowsers

        return LocalBrowsers(settings.browser_node_url, settings.browser_node_token.get_secret_value())
    from shared.browsers.kubernetes import KubernetesBrowsers

    return KubernetesBrowsers(settings)
