"""Trying one action on this machine, without an orchestrator: `rpa-worker run`."""
