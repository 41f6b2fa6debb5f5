"""Words from outside as HTML shows them."""

import html
import json
import re


def printable(words: str) -> str:
    """Words without the characters that a page cannot hold or that turn its text around."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in words
    )


def escaped(words: str) -> str:
    """Words as text of a page or of an attribute: nothing in them is obeyed."""
    return html.escape(printable(words))


def paragraphs(text: str) -> str:
    """Text as paragraphs, which an empty line parts; what stands between backticks is code."""
    parts = (re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped(part.strip())) for part in text.split("\n\n"))
    return "".join(f"<p>{part}</p>" for part in parts if part)


def embedded(key: str, value: object) -> str:
    """A JSON value as an element that the page's script reads by its id and that nothing runs."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{key}">{text}</script>'


def cut(words: str, most: int) -> str:
    """Words of at most `most` characters, with an ellipsis where some are missing."""
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"
