"""Writes docs/failures.md: what goes wrong, and the tests of what comes of it.

`python docs/failures.py` after a test of a failure was added or renamed; a test fails while the page is stale.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCE, PAGE = ROOT / "docs" / "failures.yaml", ROOT / "docs" / "failures.md"
TESTS = ROOT / "tests"
_TEST = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
_NUMBERED = re.compile(r"test(?:_(?:and_|to_)?[1-6]_\d\d(?=_|$))+")
_ONE = re.compile(r"_(and_|to_)?([1-6])_(\d\d)(?=_|$)")

INTRODUCTION = """\
# What is survived

<!-- written by docs/failures.py from docs/failures.yaml and the names of tests; do not edit -->

Archives, catalogs, stores, disks, processes and trainings fail in ways that are known. The first table lists the thirty
that cost most, by how often they happen, whether anybody notices, and what it takes to mend them afterwards; the
others list all that we know of. Each has tests that fail when it is no longer survived: {tests} of them, in `tests/`.
They run offline, against servers on this machine that misbehave as they are told (`tests/faults/catalogs.py`,
`tests/faults/blobs.py`), files that are spoilt, and processes that are killed.

Beside them, `tests/fuzz` gives every parser of outside bytes real content with accidents in it: flipped bits, cuts,
numbers that are too large, values of other types. Each answers with what is right or with one line without a secret.
A few accidents are tried on every change; `GEOSSL_FUZZ=5000 python -m pytest tests/fuzz` tries as many of each as one
likes. `python benchmarks/soak.py` runs the whole chain again and again for half an hour, with faults of all kinds in
it, and compares every byte with an undisturbed run.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that goes wrong."""

    case: str
    tests: tuple[str, ...]
    """`file::name` of those that are not named after it, files below `tests/`."""


def numbered_tests(folder: Path = TESTS) -> dict[str, list[str]]:
    """Row → `file::name` of the tests named after it; `test_2_01_to_2_05_…` is a test of five."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, test in all_tests(folder):
        for row in rows_of(test):
            found[row].append(f"{name}::{test}")
    return dict(found)


@cache
def all_tests(folder: Path = TESTS) -> tuple[tuple[str, str], ...]:
    """File below the folder and name of every test function."""
    return tuple(
        (path.relative_to(folder).as_posix(), name)
        for path in sorted(folder.rglob("test_*.py"))
        for name in _TEST.findall(path.read_text(encoding="utf-8"))
    )


def rows_of(test: str) -> list[str]:
    """The rows that a test is named after."""
    numbered = _NUMBERED.match(test)
    rows: list[str] = []
    for joint, chapter, number in _ONE.findall(numbered[0]) if numbered else ():
        first = int(rows[-1][2:]) + 1 if joint == "to_" else int(number)
        rows += [f"{chapter}-{each:02}" for each in range(first, int(number) + 1)]
    return rows


def source() -> tuple[list[dict[str, str]], dict[int, str], dict[str, Row]]:
    """Ranked cases, titles of the chapters, and rows by number."""
    content: dict[str, Any] = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    rows = {
        number: Row(case=given, tests=())
        if isinstance(given, str)
        else Row(case=given["case"], tests=tuple(given["tests"]))
        for number, given in content["rows"].items()
    }
    return content["ranked"], content["sections"], rows


def tests_of(rows: Mapping[str, Row], numbered: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Row → all its tests, those named after it first."""
    return {number: list(dict.fromkeys([*numbered.get(number, []), *row.tests])) for number, row in rows.items()}


def page() -> str:
    """The page as it should be."""
    ranked, sections, rows = source()
    tests = tests_of(rows, numbered_tests())
    lines = [INTRODUCTION.format(tests=len({test for found in tests.values() for test in found}))]
    lines += ["## The thirty that cost most", "", "| | what goes wrong | rows | tests |", "|---|---|---|---|"]
    for position, case in enumerate(ranked, start=1):
        numbers = case["rows"].split()
        count = len({test for number in numbers for test in tests[number]})
        links = " ".join(f"[{number}](#{number})" for number in numbers)
        lines.append(f"| {position} | {case['case']} | {links} | {count} |")
    for chapter, title in sections.items():
        lines += ["", f"## {title}", "", "| | what goes wrong | tests |", "|---|---|---|"]
        for number, row in rows.items():
            if number.startswith(f"{chapter}-"):
                lines.append(f'| <a id="{number}"></a>{number} | {row.case} | {_shown(tests[number])} |')
    return "\n".join(lines) + "\n"


def _shown(tests: list[str], most: int = 3) -> str:
    """The first tests by name, and how many more there are."""
    names = [f"`{test}`" for test in tests[:most]]
    more = [f"and {len(tests) - most} more"] if len(tests) > most else []
    return "<br>".join([*names, *more])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
