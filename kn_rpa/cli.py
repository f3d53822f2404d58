"""`kn rpa`: nouns and verbs, and what becomes of errors."""

from __future__ import annotations

import sys
from typing import Any

import click

from kn_rpa import __version__
from kn_rpa.browsers import browser
from kn_rpa.dead_letters import deadletter
from kn_rpa.doctor.command import doctor
from kn_rpa.errors import Failure, NotGood
from kn_rpa.jobs import job
from kn_rpa.switches import provider, totp
from kn_rpa.target import Group, Target, options

SHELLS = ("bash", "zsh", "fish")
HELP = """Jobs, browsers, login codes and the health of an RPA deployment.

Runs as `kn rpa`, and alone as `kn-rpa`. The deployment is found through the cluster of your kubeconfig, or named by
--url. Who you are: RPA_TOKEN, or RPA_USERNAME and RPA_PASSWORD, or the cluster's Secret rpa-admin, or you are asked.

Exit codes: 0 done; 1 could not be done; 2 done, and the answer is bad (a job failed, a deployment is broken).
"""


@click.group("kn-rpa", cls=Group, help=HELP, params=options(environment=True))
@click.version_option(__version__, prog_name="kn-rpa")
@click.pass_context
def root(context: click.Context) -> None:
    """The root of all commands."""
    context.ensure_object(Target)


@root.command
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a shell's completion: source <(kn-rpa completion bash)"""
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    if complete is None:
        raise Failure(f"no completion for {shell}")
    click.echo(complete(root, {}, "kn-rpa", "_KN_RPA_COMPLETE").source())


for group in (job, browser, totp, provider, deadletter, doctor):
    root.add_command(group)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit code."""
    try:
        code: Any = root.main(arguments, prog_name="kn-rpa", standalone_mode=False, complete_var="_KN_RPA_COMPLETE")
    except (click.Abort, KeyboardInterrupt):
        return 130
    except click.UsageError as error:
        help_of = error.ctx.command_path if error.ctx else "kn-rpa"
        click.echo(f"Error: {error.format_message()}\nRun '{help_of} --help' for usage", err=True)
        return 1
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        return 1
    except (Failure, NotGood) as error:
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # `kn rpa job list | head` has seen enough
        return 1
    return code if isinstance(code, int) else 0
