"""What people who write workers import: a decorator per provider and action, and the rest is done.

from rpa_worker import BusinessFailure, Job, Worker

worker = Worker(capacity=4)

@worker.action("octotel", "validation")
async def validate(job: Job) -> dict[str, object]:
    page = await job.page()
    await page.goto(job.portal.url)
    ...
    return {"valid": True}

if __name__ == "__main__":
    worker.run()
"""

from rpa_worker.errors import (
    AttemptOver,
    BusinessFailure,
    EvidenceRefused,
    NoLoginCode,
    PortalNotConfigured,
    TotpRejected,
    WorkerError,
)
from rpa_worker.job import Job
from rpa_worker.portal import Portal
from rpa_worker.worker import Worker

__all__ = [
    "AttemptOver",
    "BusinessFailure",
    "EvidenceRefused",
    "Job",
    "NoLoginCode",
    "Portal",
    "PortalNotConfigured",
    "TotpRejected",
    "Worker",
    "WorkerError",
]

__version__ = "0.1.0"
