"""What is not as it should be: one line each, fit to show whatever the files hold."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from geossl_data.scenes.redaction import redact_text

MOST_FINDINGS = 20
"""Findings that are shown of one shard, or of the manifest; the rest are counted."""
LONGEST = 400
"""Characters of a finding; what hostile files say of themselves is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    severity: Literal["error", "warning"]
    """A warning is something to look at; a dataset with nothing but warnings is sound."""
    where: str
    """File name, or sample key."""
    what: str


def error(where: str, what: str) -> Finding:
    """Something that is wrong: one line, without secrets and control characters."""
    return Finding(severity="error", where=_shown(where), what=_shown(what))


def warning(where: str, what: str) -> Finding:
    """Something to look at, as `error`."""
    return Finding(severity="warning", where=_shown(where), what=_shown(what))


def _shown(text: str) -> str:
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * LONGEST])
    line = redact_text(" ".join(plain.split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def limited(findings: Iterable[Finding], where: str, most: int = MOST_FINDINGS) -> list[Finding]:
    """The first `most` findings, and where there are more one that counts the rest, as grave as the gravest of them."""
    shown: list[Finding] = []
    n_errors = n_warnings = 0
    for finding in findings:
        if len(shown) < most:
            shown.append(finding)
        elif finding.severity == "error":
            n_errors += 1
        else:
            n_warnings += 1
    if n_errors:
        shown.append(error(where, f"and {n_errors + n_warnings} more findings, {n_errors} of them errors"))
    elif n_warnings:
        shown.append(warning(where, f"and {n_warnings} more warnings"))
    return shown
