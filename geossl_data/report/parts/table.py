"""A table that its reader can sort."""

from collections.abc import Sequence
from dataclasses import dataclass

from geossl_data.report.words import escaped

MOST_ROWS = 1000
"""Rows of a table that are shown; a page stays small whatever a dataset holds."""
_TALL_FROM = 40
"""Rows from which a table scrolls in a window of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A header row and rows of text, all of the same length."""

    rows: Sequence[Sequence[str]]
    """The first is the header; without any the table is left out."""
    caption: str = ""
    words: bool = False
    """Cells hold words, not numbers: all stand to the left and may break into lines."""

    def html(self, key: str) -> str:
        """The table below its caption, in a frame that scrolls where it does not fit; empty without rows."""
        if not len(self.rows):
            return ""
        heads = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in self.rows[0])
        body = self.rows[1 : MOST_ROWS + 1]
        rows = [
            f'<tr><th scope="row">{escaped(first)}</th>{"".join(f"<td>{escaped(cell)}</td>" for cell in rest)}</tr>'
            for first, *rest in body
        ]
        left_out = len(self.rows) - 1 - len(body)
        caption = " ".join(
            filter(None, (self.caption, f"The first {len(body):,} rows; {left_out:,} more." * bool(left_out)))
        )
        tall = len(body) > _TALL_FROM
        name = f'aria-labelledby="{key}-c"' if caption else 'aria-label="table"'
        return "\n".join(
            [
                f'<div class="scroll{" tall" if tall else ""}" tabindex="0" role="region" {name}>',
                f'<table class="sortable{" words" if self.words else ""}">',
                *([f'<caption id="{key}-c">{escaped(caption)}</caption>'] if caption else []),
                f"<thead><tr>{heads}</tr></thead>",
                "<tbody>",
                *rows,
                "</tbody></table></div>",
            ]
        )
