"""A browser of a few milliseconds: one line that says where it is, a WebSocket's handshake at its secret path."""

import json
import socket
import sys
import time

config = json.load(open(sys.argv[1]))  # noqa: PTH123, SIM115 - every import costs a browser's start
if config["starts_after"] is None:
    sys.exit("it cannot start")
time.sleep(config["starts_after"])
listener = socket.create_server(("127.0.0.1", 0))
print(f"ws://127.0.0.1:{listener.getsockname()[1]}{config['wsPath']}", flush=True)  # noqa: T201
listener.settimeout(config["lives"])
while True:
    try:
        visitor, _ = listener.accept()
    except TimeoutError:
        sys.exit("it crashed")
    with visitor:
        visitor.settimeout(1)
        try:
            asked = visitor.recv(4096).split(b" ")
            ours = len(asked) > 1 and asked[1] == config["wsPath"].encode()
            visitor.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" if ours else b"HTTP/1.1 404 Not Found\r\n\r\n")
        except OSError:
            pass
