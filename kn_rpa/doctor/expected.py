"""What a deployment of this version consists of; a test compares it with the manifests."""

FUNCTIONS = (
    "submit-job", "provision-browser", "dispatch-job", "issue-totp", "callback", "notify", "reap-idle", "monitor",
)  # fmt: skip
PUBLISHERS = ("submit-job", "provision-browser", "dispatch-job", "callback", "reap-idle", "monitor")
"""Functions that need the broker's address, from a SinkBinding."""
SUBSCRIPTIONS = (
    ("rpa.job.submitted.v1", "provision-browser"),
    ("rpa.job.finished.v1", "provision-browser"),
    ("rpa.browser.ready.v1", "dispatch-job"),
    ("rpa.job.finished.v1", "notify"),
)
TICKED = ("reap-idle", "monitor")
"""Functions that a PingSource calls."""
BROWSER_RIGHTS = {
    "provision-browser": ("create", "get", "watch", "delete"),
    "reap-idle": ("create", "get", "list", "watch", "delete"),
}
"""What ServiceAccounts may do with browsers' pods."""
NEEDED_KEYS = {
    "rpa-database": {"DATABASE_URL"},
    "rpa-tokens": {"JWT_SECRET_KEY"},
    "rpa-admin": {"ADMIN_USERNAME", "ADMIN_PASSWORD"},
    "rpa-ords": {"CALLBACK_AUTH_TOKEN"},
}
"""Secrets without which some function does not start, besides the seeds of login codes."""
SEEDS = "rpa-totp"
CONFIG_MAPS = ("rpa-config", "rpa-providers")
PLACEHOLDER = "CHANGE-ME"
"""What 22-secrets.template.yaml has for values to fill in."""
