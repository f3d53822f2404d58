"""A complete system in an empty cluster, applied by one command.

First of all, so that its functions fall back to zero while others test something else.
"""

from __future__ import annotations

import pytest

from kn_rpa.doctor.expected import FUNCTIONS
from tests.cluster.knative import NAMESPACE, System
from tests.cluster.kube import items

pytestmark = pytest.mark.timeout(400)


async def test_every_function_is_ready(system: System) -> None:  # noqa: ARG001 - it must be there
    """In its newest revision."""
    services = {service["metadata"]["name"]: service["status"] for service in await items("ksvc", NAMESPACE)}
    assert set(services) == set(FUNCTIONS)
    for name, status in services.items():
        assert status["latestReadyRevisionName"] == status["latestCreatedRevisionName"], name
