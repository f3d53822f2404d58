"""The repository's documents, parsed: headings, links, names in code, blocks."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PARSER = MarkdownIt("commonmark").enable("table")
OTHERS = re.compile(r"\.|node_modules$")
"""Folders of what is made or installed here."""
NO_SLUG = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Block:
    """A block of code: its document, language (none where it is only indented), what stands behind that, and text."""

    document: str
    language: str
    remark: str
    text: str


@functools.cache
def documents() -> tuple[str, ...]:
    """All *.md, by their paths from the root."""
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return tuple(sorted(str(path) for path in paths if not any(OTHERS.match(part) for part in path.parts)))


@functools.cache
def tokens(document: str) -> tuple[Token, ...]:
    """What the parser makes of a document; inline tokens follow the one that holds them."""
    found: list[Token] = []
    for token in PARSER.parse((ROOT / document).read_text()):
        found += [token, *(token.children or ())]
    return tuple(found)


def links(document: str) -> list[str]:
    """Where its links and pictures lead."""
    found = [token.attrGet("href") or token.attrGet("src") for token in tokens(document)]
    return [str(target) for target in found if target is not None]


def anchors(document: str) -> set[str]:
    """What may follow `#` in a link to it, as GitHub makes it of headings."""
    found: dict[str, int] = {}
    for before, token in zip(tokens(document), tokens(document)[1:], strict=False):
        if before.type == "heading_open":
            slug = NO_SLUG.sub("", token.content.replace("`", "").lower()).replace(" ", "-")
            found[slug] = found.get(slug, -1) + 1
    return {slug if n == 0 else f"{slug}-{n}" for slug, times in found.items() for n in range(times + 1)}


def names(document: str) -> list[str]:
    """Its words in `code`."""
    return [token.content for token in tokens(document) if token.type == "code_inline"]


def tables(document: str) -> Iterator[list[list[str]]]:
    """Its tables: rows of cells, the head first; a cell is its Markdown."""
    rows: list[list[str]] = []
    inside = False
    for token in tokens(document):
        match token.type:
            case "table_open":
                rows = []
            case "tr_open":
                rows.append([])
            case "th_open" | "td_open":
                inside = True
            case "inline" if inside:
                rows[-1].append(token.content)
                inside = False
            case "table_close":
                yield rows


def table(document: str, head: str) -> list[list[str]]:
    """The rows of its one table whose first column has this head."""
    ((_, *rows),) = [rows for rows in tables(document) if rows[0][0] == head]
    return rows


def code(cell: str) -> list[str]:
    """The words in `code` of a cell."""
    return re.findall(r"`([^`]+)`", cell)


def story(document: str) -> list[Block]:
    """The blocks of a document in their order; calling for it in a test says that the test does all of them."""
    found = [it for it in tokens(document) if it.type in ("fence", "code_block")]
    parts = [(it.info.partition(" "), it.content) for it in found]
    return [Block(document, language, remark, text) for (language, _, remark), text in parts]


def blocks(*languages: str) -> list[Block]:
    """The blocks of all documents, or those in these languages."""
    found = [it for document in documents() for it in story(document)]
    return [it for it in found if not languages or it.language in languages]


def commands(document: str, begins: str) -> str:
    """A document's one block of commands that begins so, for a test that tries it.

    Called with texts, in the test itself: tests/docs/test_commands.py looks for the blocks that no test calls for.
    """
    (found,) = [it.text for it in blocks("sh") if it.document == document and it.text.startswith(begins)]
    return found


def sentence(document: str, begins: str) -> str:
    """The one command that a document's text names and that begins so, for a test that tries it; as `commands`."""
    (found,) = {name for name in names(document) if name.startswith(begins)}
    return found
