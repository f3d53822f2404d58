"""What ends a command: the message goes to stderr after `Error:`.

Failure      nothing could be done, exit code 1
NotReached   ... because nobody answered; asking again may help
NotGood      the answer is there and it is bad: a job failed, a deployment is broken; exit code 2
"""

from __future__ import annotations


class Failure(Exception):
    """The command could not do what it was asked; the message says why."""

    exit_code = 1


class NotReached(Failure):
    """Nobody answered, or only to say that it is too early."""


class NotGood(Exception):
    """The command did what it was asked, and what it found is bad."""

    exit_code = 2
