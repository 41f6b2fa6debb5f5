"""The headline numbers, by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geossl_data import tables
from geossl_data.bands import MEMBERS, Member
from geossl_data.records import Sample
from geossl_data.report.dataset.contents import Contents, contents_of
from geossl_data.report.dataset.overview import overview, split_table
from geossl_data.shards.reading.shards import Shards

Make = Callable[..., Contents]


def test_numbers_by_hand(tmp_path: Path, make: Make) -> None:
    contents = make(
        n_looks=[1, 2, 3],
        gap_hours=np.array([-30.0, 2, 4, 6, 8, np.nan]),
        cloud=np.array([0, 0.2, 0.4, np.nan, np.nan, np.nan]),
        change=np.array([0.5, np.nan, 1.5]),
        notes={"shards": {"train-000000.tar": {"nbytes": 2_500_000}, "test-000000.tar": {"nbytes": 500_000}}},
    )
    facts = overview(tmp_path, contents, MEMBERS).facts
    assert facts == {
        "places": 3,
        "looks": 6,
        "looks a place": "1 to 3",
        "ground": "1.08 km²",
        "years": "2021",
        "size": "3.0 MB in 2 shards",
        "side of a place": "60 px of 10 m",
        "sensors": "Sentinel-2 (12 bands), Sentinel-1 (VV, VH), label",
        "strata": 2,
        "train / test": "2 / 1",
        "median gap between the sensors": "6.0 h",
        "median cloud": "20.0 %",
        "median change score": "1.00",
    }


def test_what_is_not_known_is_left_out(tmp_path: Path, make: Make) -> None:
    nothing = np.full(2, np.nan)
    contents = make(
        "train train",
        looks=1,
        lon=nothing,
        lat=nothing,
        pixel_m=None,
        stratum=np.array(["", ""]),
        acquired=np.full(2, "NaT", "datetime64[us]"),
        gap_hours=nothing,
        cloud=nothing,
    )
    own = {
        "ms": Member("ms", "ms", tuple("abcdef"), 1, "uint8", ""),
        "dem": Member("dem", "dem", ("z",), 1, "int16", "m"),
    }
    assert overview(tmp_path, contents, own).facts == {
        "places": 2,
        "looks": 2,
        "looks a place": "1",
        "side of a place": "60 px",
        "sensors": "dem (z), ms (6 bands)",
        "train": "2",
    }


def test_a_dataset_tells_who_wrote_it_and_what_was_found(built: Path, contents: Contents, shards: Shards) -> None:
    found = overview(built, contents, shards.members)
    assert found.text == ""
    assert str(found.facts["written by"]).startswith("geossl ")
    notes = tables.read_metadata(built / "pairs.parquet")
    assert found.facts["Sentinel-2 scenes found"] == notes["n_s2"]


def test_what_is_still_to_be_done_is_said(built: Path, make: Make, tmp_path: Path) -> None:
    drawn = contents_of(built, shards=False)
    assert "geossl shard" in overview(built, drawn, {}).text
    assert "geossl sample" in overview(built, None, {}).text
    places = make("train", looks=0, is_written=False)
    assert "geossl fetch --places" in overview(tmp_path, places, {}).text


def test_shards_of_places_that_were_drawn_anew_are_told(dataset: Path) -> None:
    contents = contents_of(dataset)
    samples = tables.read_table(dataset / "samples.parquet", Sample)
    tables.write_table(dataset / "samples.parquet", samples[2:], Sample)
    assert "2 of those in the shards" in overview(dataset, contents, MEMBERS).text


def test_splits_by_hand(make: Make) -> None:
    table = split_table(make("train train train test", block=np.array(["a", "a", "b", "c"])))
    assert table[1:] == [("train", "3", "75.0 %", "6", "2", "2"), ("test", "1", "25.0 %", "2", "1", "1")]


@pytest.mark.parametrize(("years", "shown"), [(3, "2021, 2022, 2023"), (9, "2021 to 2029")])
def test_many_years_are_shown_as_a_span(tmp_path: Path, make: Make, years: int, shown: str) -> None:
    times = np.array([f"{2021 + number}-06-01" for number in range(years)], dtype="datetime64[us]")
    assert overview(tmp_path, make("train", looks=years, acquired=times), {}).facts["years"] == shown
