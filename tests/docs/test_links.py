"""Links lead somewhere, and what documents name is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.documents import ROOT, anchors, documents, links, names, table, tokens

EXAMPLES = ("NNNN", "NAME", "mine", "*", "{")
"""What stands for a name that readers choose."""
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}


def problem(document: str, link: str) -> str | None:
    """What is wrong with a link, or None. Of other sites only the address is looked at."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None if parts.scheme == "https" and "." in parts.netloc else "no address such as https://example.org"
    path = (ROOT / document).parent / unquote(parts.path) if parts.path else ROOT / document
    if not path.resolve().is_relative_to(ROOT) or not path.exists():
        return "no such file"
    known = anchors(str(path.resolve().relative_to(ROOT))) if path.suffix == ".md" else set()
    return None if not parts.fragment or parts.fragment in known else "no such heading"


@pytest.mark.parametrize("document", documents())
def test_every_link_leads_somewhere(document: str) -> None:
    """To a file that is here and a heading that it has; or it is an address of another site."""
    assert {link: found for link in links(document) if (found := problem(document, link))} == {}


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ("CONTRIBUTING.md", None),
        ("CONTRIBUTING.md#a-new-migration", None),
        ("#faults", None),
        ("docs/dashboard.png", None),
        ("https://semver.org/", None),
        ("CONTRIBUTING.md#an-old-migration", "no such heading"),
        ("#fault", "no such heading"),
        ("OPERATING.md", "no such file"),
        ("../", "no such file"),
        ("http://semver.org/", "no address such as https://example.org"),
        ("https:semver", "no address such as https://example.org"),
    ],
)
def test_a_bad_link_is_found(link: str, found: str | None) -> None:
    """In the README."""
    assert problem("README.md", link) == found


@pytest.mark.parametrize("document", documents())
def test_every_picture_says_what_it_shows(document: str) -> None:
    """To those who cannot see it."""
    assert [token.attrGet("src") for token in tokens(document) if token.type == "image" and not token.content] == []


def test_every_page_is_in_the_index() -> None:
    """And the README leads to the index."""
    index = {str((Path("docs") / link).as_posix()) for link in links("docs/README.md")}
    pages = {document for document in documents() if document.startswith("docs/")} - {"docs/README.md"}
    assert pages <= index
    assert "docs/README.md" in links("README.md")


def test_an_operator_finds_every_guide() -> None:
    """From one page, and what goes wrong with an installation among the guides."""
    guides = {f"how-to/{path.name}" for path in (ROOT / "docs" / "how-to").iterdir()}
    assert guides <= set(links("docs/operations.md"))
    whys = {why.partition(";")[0] for _, why, _ in table("docs/how-to/troubleshoot.md", "seen")}
    assert whys > {
        "a Secret is missing", "Valkey is away", "a right is missing", "the functions' image is missing",
        "the browsers' image is missing", "functions have no `K_SINK`",
    }  # fmt: skip


@pytest.mark.parametrize("document", documents())
def test_every_path_exists(document: str) -> None:
    """Files and folders that are named are there, but for those that readers make."""
    named = [name for name in names(document) if name.partition("/")[0] in FOLDERS and "/" in name and " " not in name]
    missing = [name for name in named if not (ROOT / name).exists()]
    assert [name for name in missing if not any(example in name for example in EXAMPLES)] == []


@pytest.mark.parametrize("document", documents())
def test_every_test_exists(document: str) -> None:
    """A document claims nothing that no test shows."""
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    named = {name for name in names(document) if re.fullmatch(r"test_\w+", name)}
    assert sorted(name for name in named if f"def {name}(" not in tests) == []


def test_security_names_its_tests() -> None:
    """Nearly every row does."""
    assert len([name for name in names("docs/security.md") if name.startswith("test_")]) > 30


@pytest.mark.parametrize("document", documents())
def test_every_habit_exists(document: str) -> None:
    """What is said of make is a target of the Makefile that `make help` lists."""
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"^  make ([a-z0-9]+)", said, re.MULTILINE))
    texts = [token.content for token in tokens(document) if token.type in ("code_inline", "fence", "code_block")]
    lines = re.findall(r"^ *make ((?:[a-z0-9]+ ?)+)(?=$| |\n)", "\n".join(texts), re.MULTILINE)
    assert {word for line in lines for word in line.split()} <= listed


@pytest.mark.parametrize("document", documents())
def test_every_table_is_whole(document: str) -> None:
    """Each row has as many cells as its head: of what is too much nothing would be shown."""
    lines = (ROOT / document).read_text().splitlines()
    heads = [token.map for token in tokens(document) if token.type == "table_open" and token.map]
    for first, last in heads:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines[first:last]}
        assert len(widths) == 1, lines[first]
