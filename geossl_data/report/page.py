"""The HTML page about a dataset: one file that opens anywhere, also without a network.

Sections are plain data and hold parts, which know how to show themselves. Whatever they hold is shown as text: names
of strata and ids come from outside, and a page may be opened by somebody else.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from geossl_data.files import write_text
from geossl_data.report.numbers import shown
from geossl_data.report.words import escaped, paragraphs
from geossl_data.version import VERSION

REPORT_NAME = "report.html"
_LONG_FACT = 80
"""Characters; a longer value gets a row of its own."""


class Part(Protocol):
    """Something that a section shows."""

    def html(self, key: str) -> str:
        """The part as HTML; key: begins the ids of its elements, unique in the page. Empty where nothing is to show."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One topic of the page: its facts, then its text and its parts, in this order."""

    title: str
    facts: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Name → number or short text, shown as `numbers.shown` says."""
    text: str = ""
    """Paragraphs, an empty line between them."""
    parts: tuple[Part, ...] = ()
    folded: bool = False
    """Only the title shows until it is opened."""


def write_report(path: Path, sections: Sequence[Section], *, title: str, note: str = "") -> None:
    """Replace `path` by the page of `sections`, whole or not at all; StorageError where it cannot be written."""
    write_text(path, page(sections, title=title, note=note))


def page(sections: Sequence[Section], *, title: str, note: str = "") -> str:
    """The page as HTML that asks for nothing outside itself; the same sections give the same text.

    note: a line below the title. A content security policy allows the page's own style and script by their hashes, and
    images within it, nothing else: whatever a name holds, it does not run. Without its script the page shows all that
    is static.
    """
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    links = [
        f'<li><a href="#s{number}">{escaped(section.title)}</a></li>' for number, section in enumerate(sections, 1)
    ]
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        '<link rel="icon" href="data:,">',
        f"<title>{escaped(title)}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        "<header>",
        f"<h1>{escaped(title)}</h1>",
        *([f"<p>{escaped(note)}</p>"] if note else []),
        "</header>",
        *(['<nav aria-label="Sections"><ul>', *links, "</ul></nav>"] if len(sections) > 1 else []),
        "<main>",
        *(_section(section, number) for number, section in enumerate(sections, 1)),
        "</main>",
        f"<footer>geossl {escaped(VERSION)}</footer>",
        f"<script>{script}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def facts_list(facts: Mapping[str, object]) -> str:
    """Facts as a list of names and values; empty without any."""
    rows = "".join(_fact(name, shown(value)) for name, value in facts.items())
    return f"<dl>{rows}</dl>" if rows else ""


def _fact(name: str, value: str) -> str:
    wide = ' class="wide"' if len(value) > _LONG_FACT else ""
    return f"<div{wide}><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>"


def _section(section: Section, number: int) -> str:
    heading = f"<h2>{escaped(section.title)}</h2>"
    parts = [part.html(f"s{number}-p{place}") for place, part in enumerate(section.parts, 1)]
    body = [
        *([facts_list(section.facts)] if section.facts else []),
        *([paragraphs(section.text)] if section.text else []),
        *(['<div class="parts">', *filter(None, parts), "</div>"] if any(parts) else []),
    ]
    body = [f"<details><summary>{heading}</summary>", *body, "</details>"] if section.folded else [heading, *body]
    return "\n".join([f'<section id="s{number}">', *body, "</section>"])


@lru_cache
def _asset(name: str) -> str:
    """A file of the page's own, as it stands in the page."""
    return files("geossl_data.report").joinpath("assets", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
