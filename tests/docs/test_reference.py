"""The reference says what the code has: no more, no less."""

from __future__ import annotations

from tests.docs.documents import ROOT, code, table
from tests.settings import GUIDE, TABLE
from tests.settings import table as settings_table


def test_every_setting_is_listed() -> None:
    """With the meaning and the default that the code has; `python -m tests.settings` writes the table anew."""
    (shown,) = [match[0] for match in TABLE.finditer(GUIDE.read_text())]
    assert shown.removeprefix("<!-- settings -->\n").removesuffix("<!-- end of settings -->") == settings_table()


def test_every_overlay_is_listed() -> None:
    """And nothing else is called one."""
    overlays = {path.parent.name for path in ROOT.glob("knative/overlays/*/kustomization.yaml")}
    shown = {name for row in table("docs/reference/manifests.md", "overlay") for name in code(row[0])}
    assert shown == overlays - {"mine"}


def test_every_manifest_is_listed() -> None:
    """Each file of base that is applied, and the template."""
    files = {path.name for path in ROOT.glob("knative/base/[0-9]*.yaml")}
    assert {name for row in table("docs/reference/manifests.md", "file") for name in code(row[0])} == files
