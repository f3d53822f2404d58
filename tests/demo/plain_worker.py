"""A worker after the contract alone: plain HTTP with the standard library, and Playwright for the browser."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from playwright.sync_api import sync_playwright

PAGE = "data:text/html,<h1>Circuit</h1>"


def call(order: dict[str, Any], method: str, url: str, body: bytes, content_type: str) -> dict[str, Any]:
    """One call with the order's token."""
    headers = {"Authorization": f"Bearer {order['token']}", "Content-Type": content_type}
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 - http only
    with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
        return json.load(answer)


def perform(order: dict[str, Any]) -> None:
    """Heartbeat, login code, browser, evidence, completion."""
    ids = {"job_id": order["job_id"], "attempt": order["attempt"]}
    back = order["orchestrator_callback"]

    def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
        return call(order, "POST", url, json.dumps(body).encode(), "application/json")

    post(f"{back}/callbacks/heartbeat", {**ids, "phase": "looking"})
    code = post(f"{order['totp_url']}/totp/{order['provider']}", {})["code"]
    with sync_playwright() as playwright:
        page = playwright.firefox.connect(order["browser_service_url"]).new_page()
        page.goto(PAGE)
        title, picture = page.inner_text("h1"), page.screenshot()
    call(order, "PUT", f"{back}/callbacks/evidence/page.png", picture, "image/png")
    result = {"title": title, "digits": len(code)}
    report = {"status": "completed", "result": result, "evidence": ["page.png"], "totp_used": True}
    post(f"{back}/callbacks/job-complete", {**ids, **report})


class Handler(BaseHTTPRequestHandler):
    """The two routes that an orchestrator needs."""

    def do_GET(self) -> None:
        self._answer({"available": True})

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        threading.Thread(target=perform, args=[order], daemon=True).start()
        self._answer({"status": "accepted"})

    def _answer(self, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
