"""What the README shows is true."""

from __future__ import annotations

from rpa_worker import Worker
from tests.docs.documents import blocks


def test_the_workers_example_runs() -> None:
    """It is a worker that knows octotel's validation and is ready for a job."""
    scope: dict[str, object] = {"__name__": "example"}
    (example,) = [it.text for it in blocks("python") if it.document == "README.md"]
    exec(example, scope)  # noqa: S102 - our own README
    worker = scope["worker"]
    assert isinstance(worker, Worker)
    assert worker.status()["available"] is True
    assert worker._find("octotel", "validation") is scope["validate"]
