"""The table of failures in the documentation: complete, up to date, and each row with a test."""

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def failures() -> Any:
    """The names of docs/failures.py."""
    return runpy.run_path(str(ROOT / "docs" / "failures.py"))


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("test_1_13_full_page_without_next", ["1-13"]),
        ("test_1_85_2_15_a_bright_dot", ["1-85", "2-15"]),
        ("test_1_30_and_1_31_missing", ["1-30", "1-31"]),
        ("test_2_01_to_2_05_what_passes", ["2-01", "2-02", "2-03", "2-04", "2-05"]),
        ("test_1_93_100_000_points", ["1-93"]),
        ("test_what_has_no_number", []),
        ("test_a_tile_of_1_10", []),
    ],
)
def test_the_rows_that_a_test_is_named_after(failures: Any, name: str, rows: list[str]) -> None:
    assert failures["rows_of"](name) == rows


def test_every_row_has_a_test_and_every_test_is_there(failures: Any) -> None:
    ranked, sections, rows = failures["source"]()
    tests = failures["tests_of"](rows, failures["numbered_tests"]())
    assert [number for number, found in tests.items() if not found] == []
    known = {f"{file}::{name}" for file, name in failures["all_tests"]()}
    assert [test for row in rows.values() for test in row.tests if test not in known] == []
    assert sorted(set(failures["numbered_tests"]()) - set(rows)) == []
    assert {int(number[0]) for number in rows} == set(sections)
    assert len(ranked) == 30
    assert {number for case in ranked for number in case["rows"].split()} <= set(rows)


def test_the_page_is_up_to_date(failures: Any) -> None:
    assert failures["PAGE"].read_text(encoding="utf-8") == failures["page"](), "run `python docs/failures.py`"
