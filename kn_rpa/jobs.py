"""`kn rpa job`"""

from __future__ import annotations

import json
from typing import Any

import click

from kn_rpa.api import Api, Item
from kn_rpa.arguments import JobId, Parameters, pair
from kn_rpa.output import View, age, moment, no_headers_option, output_option, show, show_description, show_list
from kn_rpa.target import Group, Target
from kn_rpa.timeline import told
from kn_rpa.watching import watch_jobs

STATES = ("pending", "provisioning", "dispatching", "running", "completed", "failed", "cancelled")


def _reason(job: Item) -> str:
    error = job["error"]
    return f"{error['kind']} {error['code']}" if error else ""


VIEW = View(
    "job",
    "jobs",
    {
        "ID": lambda it: it["id"],
        "EXTERNAL ID": lambda it: it["external_job_id"] or "",
        "PROVIDER": lambda it: it["provider"],
        "ACTION": lambda it: it["action"],
        "PRIORITY": lambda it: it["priority"],
        "STATUS": lambda it: it["status"],
        "ATTEMPT": lambda it: f"{it['attempt']}/{it['max_retries'] + 1}",
        "AGE": lambda it: age(it["created_at"]),
        "REASON": _reason,
    },
    lambda it: it["id"],
)


job_argument = click.argument("job_id", metavar="ID", type=JobId())
jobs_argument = click.argument("job_ids", metavar="ID...", type=JobId(), nargs=-1, required=True)


@click.group(cls=Group)
def job() -> None:
    """Jobs: submit, follow, cancel, retry."""


@job.command()
@click.argument("provider")
@click.argument("action")
@click.option("-p", "--param", "pairs", metavar="NAME=VALUE", multiple=True, help="One parameter, a text. Repeatable.")
@click.option("--parameters", type=Parameters(), default="{}", help="All parameters: JSON, @FILE, or - for stdin.")
@click.option("--priority", type=click.IntRange(0, 10), help="0 to 10, 5 by default.")
@click.option("--max-retries", type=click.IntRange(0, 20), help="0 to 20, 3 by default.")
@click.option("--external-id", "external_job_id", help="Your id: submitted again, it is the same job.")
@click.option("--run-after", metavar="TIME", help="Not before, such as 2026-12-01T06:00:00Z.")
@click.option("--deadline", metavar="TIME", help="Failed if not done by then.")
@click.option("--watch", is_flag=True, help="Follow it to its end.")
@output_option
@click.pass_obj
def submit(
    target: Target, /, provider: str, action: str, pairs: tuple[str, ...], parameters: dict[str, Any],
    watch: bool, output: str | None, **wishes: Any,
) -> None:  # fmt: skip
    """Submit a job: kn rpa job submit octotel validation -p circuit=OCT-1"""
    body = {"provider": provider, "action": action, "parameters": parameters | dict(map(pair, pairs))}
    api = Api(target)
    made = api.send("POST", "/jobs", body | {name: wish for name, wish in wishes.items() if wish is not None})
    if output:
        show(made, VIEW, output)
    else:
        click.echo(f"Job {made['id']} submitted.")
    if watch:
        watch_jobs(api, [made["id"]])


@job.command("list")
@click.option("--status", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--provider", help="Only those of this portal.")
@click.option("--external-id", "external_job_id", help="Only those of this id of yours.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most, newest first.")
@output_option
@no_headers_option
@click.pass_obj
def list_jobs(target: Target, /, output: str | None, no_headers: bool, **filters: Any) -> None:
    """List jobs, newest first."""
    show_list(Api(target).items("/jobs", **filters), VIEW, output, no_headers=no_headers)


@job.command()
@job_argument
@output_option
@click.pass_obj
def describe(target: Target, job_id: int, output: str | None) -> None:
    """Show one job with all that happened to it."""
    found = Api(target).get(f"/jobs/{job_id}")
    if output:
        show(found, VIEW, output)
        return
    show_description(_description(found))
    click.echo("\nHistory:")
    for entry in told(found["history"], found["created_at"]):
        click.echo(f"  {entry.line()}")
    if found["evidence"]:
        click.echo("\nEvidence:")
        for file in found["evidence"]:
            click.echo(f"  {file['name']}   attempt {file['attempt']}, {file['content_type']}, {file['size']} bytes")


def _description(found: Item) -> dict[str, Any]:
    error = found["error"]
    return {
        "Job": found["id"],
        "External ID": found["external_job_id"],
        "Retry of": found["retry_of"],
        "Provider": found["provider"],
        "Action": found["action"],
        "Parameters": json.dumps(found["parameters"], ensure_ascii=False),
        "Priority": found["priority"],
        "Status": found["status"],
        "Attempt": f"{found['attempt']} of {found['max_retries'] + 1}",
        "Account": found["account"],
        "Created": moment(found["created_at"]),
        "Deadline": moment(found["deadline"]),
        "Finished": moment(found["finished_at"]),
        "Reported": moment(found["reported_at"]),
        "Report error": None if found["reported_at"] else found["report_error"],
        "Result": json.dumps(found["result"], ensure_ascii=False) if found["result"] else None,
        "Error": f"{error['kind']} {error['code']}: {error['message']}" if error else None,
    }


@job.command()
@jobs_argument
@click.pass_obj
def watch(target: Target, job_ids: tuple[int, ...]) -> None:
    """Follow jobs to their end. Exit code 2 if one did not complete."""
    watch_jobs(Api(target), list(dict.fromkeys(job_ids)))


@job.command()
@jobs_argument
@click.pass_obj
def cancel(target: Target, job_ids: tuple[int, ...]) -> None:
    """Cancel jobs, wherever they are."""
    api = Api(target)
    for job_id in job_ids:
        api.send("DELETE", f"/jobs/{job_id}")
        click.echo(f"Job {job_id} cancelled.")


@job.command()
@jobs_argument
@click.option("--watch", is_flag=True, help="Follow the new jobs to their end.")
@output_option
@click.pass_obj
def retry(target: Target, job_ids: tuple[int, ...], watch: bool, output: str | None) -> None:
    """Submit failed or cancelled jobs again, as new ones."""
    api = Api(target)
    made = []
    for job_id in job_ids:
        made.append(api.send("POST", f"/jobs/{job_id}:retry"))
        if output:
            show(made[-1], VIEW, output)
        else:
            click.echo(f"Job {made[-1]['id']} retries job {job_id}.")
    if watch:
        watch_jobs(api, [it["id"] for it in made])
