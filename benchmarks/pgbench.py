"""PostgreSQL alone: the statements of a submission, as the function sends them, from PostgreSQL's own benchmark."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from benchmarks.figures import Sample, pace
from functions.submit_job.models import JobRequest
from functions.submit_job.queries import SUBMIT
from local.datastores import POSTGRES_BIN_PATH
from shared.events import Type
from shared.migrate import migrate
from shared.outbox import FORGET

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def make_database(database_url: str, batch: int) -> str:
    """The address of a second database on the server, with the same schema and nothing in it."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE reference")
    url = database_url.removesuffix("/rpa") + "/reference"
    migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        # A batch's ids follow one another, so that the last one tells pgbench, which keeps no lists, all of them.
        connection.execute(f"ALTER SEQUENCE jobs_id_seq CACHE {batch}".encode())
    return url


def script(batch: int) -> str:
    """What one submission says to the database."""
    submitted = f"{_named(SUBMIT)}\\aset\n"
    if batch == 1:
        return submitted + _named(FORGET.replace("%(jobs)s", "ARRAY[:id]")) + ";\n"
    ids = "(SELECT array_agg(n) FROM generate_series(:id::bigint - :batch::bigint + 1, :id::bigint) n)"
    return f"BEGIN;\n{submitted}COMMIT;\n{_named(FORGET.replace('%(jobs)s', ids))};\n"


def _named(statement: str) -> str:
    return re.sub(r"%\((\w+)\)s", r":\1", statement).strip()


def variables(job: JobRequest, batch: int) -> Mapping[str, str]:
    """What the script's variables stand for."""
    wanted = [{"n": n, **job.model_dump(mode="json"), "content_digest": job.digest().hex()} for n in range(batch)]
    return {
        "jobs": json.dumps(wanted),
        "traceparent": TRACEPARENT,
        "created_by": "admin",
        "batch": str(batch),
        "types": "{" + ",".join([Type.JOB_SUBMITTED.value] * batch) + "}",
        "attempts": "{" + ",".join(["1"] * batch) + "}",
    }


async def run(database_url: str, job: JobRequest, batch: int, clients: int, seconds: int) -> Sample:
    """So many clients for so long. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="rpa-pgbench-") as folder:
        file = Path(folder) / "submit.sql"
        file.write_text(script(batch))
        options = ["-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", str(seconds)]
        options += ["-f", str(file), "-l", f"--log-prefix={folder}/took"]
        options += [word for name, value in variables(job, batch).items() for word in ("-D", f"{name}={value}")]
        await _run(options, database_url)
        took, ended = _transactions(Path(folder))
    # pgbench's own seconds have the making of its connections in them, ours have not.
    begun = min(end - milliseconds / 1000 for end, milliseconds in zip(ended, took, strict=True))
    return pace(took, max(ended) - begun, batch)


def _transactions(folder: Path) -> tuple[list[float], list[float]]:
    """The milliseconds of each transaction and the second at which it ended, from pgbench's logs."""
    words = [line.split() for log in folder.glob("took.*") for line in log.read_text().splitlines()]
    return [int(word[2]) / 1000 for word in words], [int(word[4]) + int(word[5]) / 1e6 for word in words]


async def _run(options: Sequence[str], database_url: str) -> None:
    place = urlsplit(database_url)
    environment = os.environ | {
        "PGHOST": str(place.hostname), "PGPORT": str(place.port), "PGDATABASE": place.path.strip("/"),
        "PGUSER": str(place.username), "PGPASSWORD": str(place.password),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        str(POSTGRES_BIN_PATH / "pgbench"), *options, env=environment, stdout=-1, stderr=-1
    )
    _, complaint = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"pgbench: {complaint.decode().strip()}")
