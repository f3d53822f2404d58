"""Pages as trees, and what stands in them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree.ElementTree import Element, TreeBuilder

EMPTY = {"br", "hr", "img", "input", "link", "meta"}
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tree = TreeBuilder()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tree.start(tag, {name: value or "" for name, value in attrs})
        if tag in EMPTY:
            self.tree.end(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tree.start(tag, {name: value or "" for name, value in attrs})
        self.tree.end(tag)

    def handle_endtag(self, tag: str) -> None:
        self.tree.end(tag)

    def handle_data(self, data: str) -> None:
        self.tree.data(data)


def part(page: str, identity: str) -> Element:
    """The element of a page that has this id."""
    parser = _Page()
    parser.feed(page)
    found = parser.tree.close().find(f".//*[@id='{identity}']")
    assert found is not None, identity
    return found


def words(element: Element) -> str:
    """An element's text as people read it."""
    return " ".join(" ".join(element.itertext()).split())


def facts(element: Element) -> dict[str, str]:
    """What stands in a list of terms, by term."""
    terms, values = element.findall(".//dt"), element.findall(".//dd")
    return dict(zip(map(words, terms), map(words, values), strict=True))


def rows(table: Element) -> list[dict[str, str]]:
    """A table's rows, their cells by the head of the column; a foot is the last one."""
    heads = [words(it) for it in table.findall("thead/tr/th")]
    cells = [[words(it) for it in row] for row in [*table.findall("tbody/tr"), *table.findall("tfoot/tr")]]
    return [dict(zip(heads, row, strict=True)) for row in cells]


def seconds(text: str) -> float:
    """A length of time as pages write it, such as `3 m 25 s`."""
    found = re.findall(r"([\d.]+) ([dhms])\b", text)
    assert found, text
    return sum(float(amount) * UNITS[unit] for amount, unit in found)
