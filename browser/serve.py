"""PID 1 of a browser's pod: `python -m browser.serve`.

Starts Playwright's server with Firefox, says on a health port whether it accepts connections, ends both within
seconds of SIGTERM, and leaves the reason where Kubernetes reads it when the browser dies by itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from playwright._impl._driver import compute_driver_executable

from browser.ending import why_it_ended

EVERYWHERE = "0.0.0.0"  # noqa: S104 - a container's port is reached from outside
FIREFOX = os.environ.get("FIREFOX", "/usr/bin/firefox-esr")
PORT = int(os.environ.get("PORT", "3000"))
HEALTH_PORT = int(os.environ.get("HEALTH_PORT", "8081"))
TERMINATION_LOG = Path(os.environ.get("TERMINATION_LOG", "/dev/termination-log"))
GRACE_SECONDS = 4
HEALTH_SECONDS = 3
"""A probe is answered once there is something to say: kubelets ask once a second."""
LINES_KEPT = 200


class Server:
    """Playwright's server and its browser."""

    def __init__(self, secret_path: str) -> None:
        self._secret_path = secret_path
        self._config = Path(os.environ.get("TMPDIR", "/tmp")) / "launch-server.json"  # noqa: S108 - the pod's own
        self._said: deque[str] = deque(maxlen=LINES_KEPT)
        self._process: subprocess.Popen[str] | None = None
        self._stopping = False
        self._announced = threading.Event()

    def run(self) -> str | None:
        """Serve until told to stop, or until the browser dies: then the reason."""
        signal.signal(signal.SIGTERM, self._stop)  # PID 1 has no defaults
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        self._config.touch(0o600)
        self._config.write_text(json.dumps(self._options()))
        self._process = process = self._start()
        threading.Thread(target=self._announce, args=[process.stdout], daemon=True).start()
        listener = threading.Thread(target=self._listen, args=[process.stderr], daemon=True)
        listener.start()
        code = _outlive(process.pid)
        self._config.unlink(missing_ok=True)
        if self._stopping:
            return None
        listener.join(timeout=1)
        return why_it_ended(list(self._said), code, self._secret_path)

    def _options(self) -> dict[str, object]:
        # Debian's Firefox is driven over WebDriver BiDi.
        program = {"channel": "moz-firefox", "executablePath": FIREFOX, "headless": True}
        return {**program, "host": EVERYWHERE, "port": PORT, "wsPath": self._secret_path}

    def _start(self) -> subprocess.Popen[str]:
        node, cli = compute_driver_executable()
        return subprocess.Popen(  # noqa: S603 - its arguments are ours
            [node, cli, "launch-server", "--browser", "firefox", "--config", self._config],
            env={**os.environ, "MOZ_CRASHREPORTER_DISABLE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def _announce(self, output: TextIO) -> None:
        for _address in output:  # one line, once it has read its configuration and listens
            self._config.unlink(missing_ok=True)
            self._announced.set()
            _say("ready")

    def _listen(self, output: TextIO) -> None:
        for line in output:
            said = line.rstrip("\n").replace(self._secret_path, "/…")
            self._said.append(said)
            _say(said)

    def accepts(self) -> bool:
        """Whether it accepts connections; until it does, that is waited for a while."""
        self._announced.wait(HEALTH_SECONDS)
        try:
            with socket.create_connection(("127.0.0.1", PORT), timeout=0.5):
                return True
        except OSError:
            return False

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._process is None:
            sys.exit(0)
        os.kill(self._process.pid, signal.SIGTERM)  # it closes its browser, and so every session
        signal.alarm(GRACE_SECONDS)

    def _kill(self, _signal: int, _frame: FrameType | None) -> None:
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)


def _outlive(child: int) -> int:
    """Wait for the child, and as PID 1 for every process that lost its parent; the child's exit code."""
    while True:
        pid, status = os.wait()
        if pid == child:
            signal.alarm(0)
            return os.waitstatus_to_exitcode(status)


class Health(BaseHTTPRequestHandler):
    """GET /health: 200 while the server accepts connections."""

    def __init__(self, server: Server, *args: Any) -> None:
        self._server = server
        super().__init__(*args)

    def do_GET(self) -> None:
        self.send_response(404 if self.path != "/health" else 200 if self._server.accepts() else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """A line for each probe helps nobody."""


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> int:
    """Serve until told to stop, which is a good end, or until the browser dies, which is not."""
    secret_path = os.environ.pop("WS_PATH", "")  # the browser's own environment need not have it
    if not secret_path.startswith("/"):
        _say("WS_PATH: not set; give the WebSocket's secret path, starting with /")
        return 2
    server = Server(secret_path)
    health = ThreadingHTTPServer((EVERYWHERE, HEALTH_PORT), partial(Health, server))
    threading.Thread(target=health.serve_forever, daemon=True).start()
    reason = server.run()
    if reason is None:
        return 0
    _say(reason)
    TERMINATION_LOG.write_text(reason)
    return 1


if __name__ == "__main__":
    sys.exit(main())
