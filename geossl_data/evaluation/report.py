"""The HTML page about a dataset: facts, tables and pictures in one file that opens anywhere, also without a network.

Sections are plain data; each stage brings its own. Whatever they hold is shown as text: names of strata and ids come
from outside, and a page may be opened by somebody else.
"""

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from geossl_data.errors import DatasetError
from geossl_data.files import write_text
from geossl_data.version import VERSION

REPORT_NAME = "report.html"

_PNG = b"\x89PNG\r\n\x1a\n"
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f23; --muted: #5c646b; --rule: #d5dadd; --page: #fff; --band: #f3f6f8;
  --link: #004488; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e6e8; --muted: #9aa4ab; --rule: #3a4248; --page: #15191c;
  --band: #1e2428; --link: #8fbbe8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--rule);
  overflow-wrap: anywhere; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: 0; padding: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: 0 0 1.25rem; }
dt { color: var(--muted); max-width: 40vw; }
dd { margin: 0; }
dt, dd, td, th { overflow-wrap: anywhere; unicode-bidi: isolate; }
td, thead th { white-space: nowrap; }
tbody th { min-width: 8rem; max-width: 24rem; }
.scroll { overflow-x: auto; margin: 0 0 1.25rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding-bottom: .35rem; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; font-weight: normal; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--muted); vertical-align: bottom; }
figure { margin: 0 0 1.5rem; }
img { display: block; max-width: 100%; height: auto; border-radius: 4px; background: #fff; }
figcaption, footer { color: var(--muted); font-size: .9rem; margin-top: .4rem; }
footer { margin-top: 3rem; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A PNG with what it shows."""

    png: bytes = field(repr=False)
    """The file's bytes."""
    caption: str
    """Shown below it; what to see in it."""
    alt: str
    """Said in its place to those who do not see it."""

    def __post_init__(self) -> None:
        if not self.png.startswith(_PNG):
            raise DatasetError(f"the picture {self.caption!r} is not a PNG file; draw it again")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int.from_bytes(self.png[16:20], "big"), int.from_bytes(self.png[20:24], "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A header row and rows of text, as in a stage's report."""

    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of the page: its facts, then its text, tables and pictures, in this order."""

    title: str
    facts: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Name → number or short text; whole numbers get thousands separators."""
    text: str = ""
    """A paragraph."""
    tables: tuple[Table, ...] = ()
    """Those without rows are left out."""
    pictures: tuple[Picture, ...] = ()


def write_report(path: Path, sections: Sequence[Section], *, title: str = "Dataset") -> None:
    """Replace `path` by the page of `sections`, whole or not at all; StorageError where it cannot be written."""
    write_text(path, page(sections, title=title))


def page(sections: Sequence[Section], *, title: str = "Dataset") -> str:
    """The page as HTML that asks for nothing outside itself; the same sections give the same text.

    A content security policy allows its own style and images within it, nothing else: no script runs, whatever a name
    holds.
    """
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    links = [f'<li><a href="#s{number}">{_text(section.title)}</a></li>' for number, section in enumerate(sections, 1)]
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{_text(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{_text(title)}</h1>",
        *(["<nav><ul>", *links, "</ul></nav>"] if len(sections) > 1 else []),
        "<main>",
        *(_section(section, number) for number, section in enumerate(sections, 1)),
        "</main>",
        f"<footer>geossl {_text(VERSION)}</footer>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _section(section: Section, number: int) -> str:
    facts = [f"<dt>{_text(name)}</dt><dd>{_text(_shown(value))}</dd>" for name, value in section.facts.items()]
    lines = [
        f'<section id="s{number}">',
        f"<h2>{_text(section.title)}</h2>",
        *(["<dl>", *facts, "</dl>"] if facts else []),
        *([f"<p>{_text(section.text)}</p>"] if section.text else []),
        *(_table(table) for table in section.tables if len(table.rows)),
        *(_picture(picture) for picture in section.pictures),
        "</section>",
    ]
    return "\n".join(lines)


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in table.rows[0])
    rows = [
        f'<tr><th scope="row">{_text(first)}</th>{"".join(f"<td>{_text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in table.rows[1:]
    ]
    lines = [
        '<div class="scroll"><table>',
        *([f"<caption>{_text(table.caption)}</caption>"] if table.caption else []),
        f"<thead><tr>{heads}</tr></thead>",
        "<tbody>",
        *rows,
        "</tbody>",
        "</table></div>",
    ]
    return "\n".join(lines)


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    width, height = picture.size
    return (
        f'<figure><img width="{width}" height="{height}" alt="{_text(picture.alt)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_text(picture.caption)}</figcaption></figure>"
    )


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _text(words: str) -> str:
    """Words as HTML shows them: escaped, without the characters that a page cannot hold."""
    kept = (letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in words)
    return html.escape("".join(kept))
