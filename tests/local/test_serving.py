"""Ports of a local system are its own from before its children run."""

from __future__ import annotations

import socket

import pytest

from local.serving import listen, reserve, url


def test_a_reserved_port_goes_to_nobody_but_who_asks_for_it() -> None:
    """Its owner can listen there, again and again; until then callers are refused."""
    with reserve() as holder:
        port = holder.getsockname()[1]
        assert url(holder) == f"http://127.0.0.1:{port}"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
        for _ in range(2):
            with socket.create_server(("127.0.0.1", port)):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
        others = [reserve() for _ in range(200)]
        assert port not in {other.getsockname()[1] for other in others}
        for other in others:
            other.close()


def test_who_calls_before_anybody_serves_waits() -> None:
    """As Knative's callers do while a pod starts."""
    with listen() as listener, socket.create_connection(listener.getsockname(), timeout=1) as caller:
        caller.sendall(b"hello")
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"


def test_an_answer_is_not_held_back() -> None:
    """An answer's head and body are written apart, and the body must not wait until the head has arrived."""
    with listen() as listener, socket.create_connection(listener.getsockname(), timeout=1):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
