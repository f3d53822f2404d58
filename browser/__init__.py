"""The browser service: Playwright's own server with Firefox, as the one container of a browser's pod."""
