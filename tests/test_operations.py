"""What the guide for operators shows is true."""

from __future__ import annotations

import re

from tests.settings import GUIDE, ROOT, TABLE, table

TEXT = GUIDE.read_text()


def test_every_setting_is_listed() -> None:
    """With the meaning and the default that the code has; `python -m tests.settings` writes the table anew."""
    (shown,) = [match[0] for match in TABLE.finditer(TEXT)]
    assert shown.removeprefix("<!-- settings -->\n").removesuffix("<!-- end of settings -->") == table()


def test_every_overlay_is_listed() -> None:
    """And nothing else is called one."""
    overlays = {path.parent.name for path in ROOT.glob("knative/overlays/*/kustomization.yaml")}
    assert set(re.findall(r"^\| `([a-z]+)` \|", TEXT, re.MULTILINE)) == overlays


def test_every_manifest_that_is_named_exists() -> None:
    """But for the overlay that readers make."""
    named = set(re.findall(r"knative/[\w./-]+", TEXT))
    assert [path for path in named if not (ROOT / path).exists() and "mine" not in path] == []
