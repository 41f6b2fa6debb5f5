"""What was searched and given up is told with its reasons, and with no secret in it."""

from pathlib import Path

import pytest

from geossl_data import tables
from geossl_data.errors import DatasetError
from geossl_data.records import RejectedSquare, Skipped
from geossl_data.report.dataset.given_up import given_up_section, pairs_section
from geossl_data.report.parts import Bars, Curves, Table


def test_the_yield_curve_is_that_of_the_file(built: Path) -> None:
    (section,) = pairs_section(built)
    curve, table, bars = section.parts
    assert isinstance(curve, Curves)
    assert isinstance(table, Table)
    assert isinstance(bars, Bars)
    lines = [line.split(",") for line in (built / "yield.csv").read_text().splitlines()[1:]]
    assert curve.lines["scenes"] == ([float(line[0]) for line in lines], [100 * float(line[2]) for line in lines])
    assert [row[0] for row in table.rows[1:]] == [line[0] for line in lines]
    years = tables.read_metadata(built / "pairs.parquet")["yield_by_year"]
    assert list(bars.values) == [str(year["year"]) for year in years]


def test_a_folder_without_a_search_has_no_yield(tmp_path: Path) -> None:
    assert pairs_section(tmp_path) == []
    assert given_up_section(tmp_path) == []


@pytest.mark.parametrize(
    "text", ["max_gap_hours,pairs\n1,2\n", "max_gap_hours,s2_with_partner,share,pairs\n1,x,0,0\n", "\xff\x00"]
)
def test_a_damaged_yield_curve_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "yield.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"not a yield curve"):
        pairs_section(tmp_path)


def test_reasons_are_counted_and_shown_with_examples(tmp_path: Path) -> None:
    rows = [
        Skipped(stage="fetch", id=f"item {number}", reason="missing-asset", detail="has no B04") for number in range(5)
    ]
    secret = "https://user:password@host.example/a.tif?sig=topsecret&x=1 gave 403"
    rows.append(Skipped(stage="shard", id="place", reason="unreadable", detail=secret + " x" * 400))
    tables.write_table(tmp_path / "skipped.parquet", rows, Skipped)
    squares = [RejectedSquare(lon=0, lat=0, stratum="s", reason=reason) for reason in ("sea", "sea", "no-pair")]
    tables.write_table(tmp_path / "rejected.parquet", squares, RejectedSquare)
    (section,) = given_up_section(tmp_path)
    bars, examples, rejected = section.parts
    assert isinstance(bars, Bars)
    assert isinstance(examples, Table)
    assert isinstance(rejected, Table)
    assert section.facts == {"skipped": 6, "squares that could not be drawn": 3}
    assert bars.values == {"fetch: missing-asset": {"skipped": 5}, "shard: unreadable": {"skipped": 1}}
    assert [row[:4] for row in examples.rows[1:]] == [
        ("fetch", "missing-asset", "5", "item 0"),
        ("fetch", "missing-asset", "5", "item 1"),
        ("fetch", "missing-asset", "5", "item 2"),
        ("shard", "unreadable", "1", "place"),
    ]
    shown = examples.rows[-1][4]
    assert shown.startswith("https://host.example/a.tif gave 403 x")
    assert len(shown) == 300
    assert rejected.rows[1] == ("sea", "2", "the centre lies at sea")


def test_empty_tables_are_nothing_to_show(tmp_path: Path) -> None:
    tables.write_table(tmp_path / "skipped.parquet", [], Skipped)
    tables.write_table(tmp_path / "rejected.parquet", [], RejectedSquare)
    assert given_up_section(tmp_path) == []


def test_a_table_of_something_else_is_one_line(tmp_path: Path) -> None:
    square = RejectedSquare(lon=0, lat=0, stratum="s", reason="sea")
    tables.write_table(tmp_path / "skipped.parquet", [square], RejectedSquare)
    with pytest.raises(DatasetError, match="has no stage"):
        given_up_section(tmp_path)
