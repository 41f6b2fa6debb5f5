"""Maps, strata, splits and distributions say what the columns hold."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geossl_data import tables
from geossl_data.grid import haversine_km
from geossl_data.report.dataset import ground
from geossl_data.report.dataset.bands import MOST_CHARTS, band_sections
from geossl_data.report.dataset.contents import Contents
from geossl_data.report.dataset.distributions import MONTHS, distribution_sections
from geossl_data.report.dataset.ground import grouped, map_section, position, splits_section, strata_section
from geossl_data.report.dataset.recorded import LookFacts, Recorded, SceneFacts, recorded_in
from geossl_data.report.page import Section
from geossl_data.report.parts import Bars, Histogram, Table, WorldMap
from geossl_data.shards.reading.shards import Shards

Make = Callable[..., Contents]
NOTHING = Recorded(looks=(), n_samples=0)


def charts(sections: list[Section], kind: type[Bars] | type[Histogram]) -> dict[str, Bars | Histogram]:
    return {part.title: part for section in sections for part in section.parts if isinstance(part, kind)}


def test_the_map_shows_every_place_that_lies_somewhere(make: Make) -> None:
    contents = make(lon=np.array([10.0, np.nan, -20.5]), change=np.array([1.0, 2.0, np.nan]))
    (section,) = map_section(contents)
    (part,) = section.parts
    assert isinstance(part, WorldMap)
    assert part.lon == [10.0, -20.5]
    assert part.label == ["place_0, 45.00° N, 10.00° E", "place_2, 45.00° N, 20.50° W"]
    assert part.category["split"] == ["train", "test"]
    assert [str(value) for value in part.value["change score"]] == ["1.0", "nan"]
    assert "spectral entropy" not in part.value
    assert "1 places" in section.text


def test_places_that_lie_nowhere_have_no_map(make: Make) -> None:
    assert map_section(make(lon=np.full(3, np.nan))) == []


def test_land_classes_are_named(make: Make) -> None:
    contents = make("train test", looks=1, label=np.array([6, 0]), notes={"label_names": {"6": "urban"}})
    (part,) = map_section(contents)[0].parts
    assert isinstance(part, WorldMap)
    assert part.category["land class"] == ["urban", "(none)"]


def test_the_figures_of_the_draw_stand_beside_the_map(built: Path, contents: Contents) -> None:
    noted = tables.read_metadata(built / "samples.parquet")["coverage"]
    (section,) = map_section(replace(contents, notes={"coverage": noted}))
    assert section.facts == noted["facts"]
    assert "evenness of strata" in section.facts
    table = section.parts[1]
    assert isinstance(table, Table)
    assert [list(row) for row in table.rows] == noted["bands"]


def test_rare_names_are_others() -> None:
    assert grouped(["a", "b", "a", "", "c"], 2) == ["a", "others", "a", "(none)", "others"]
    assert position(-0.004, -89.996) == "90.00° S, 0.00° W"


def test_strata_against_their_targets_by_hand(make: Make) -> None:
    contents = make("train train test", stratum=np.array(["a", "a", "b"]))
    (section,) = strata_section(contents, {"target": {"a": 1, "b": 1, "c": 4}, "available": {"a": 9, "b": 3, "c": 0}})
    bars, table = section.parts
    assert isinstance(bars, Bars)
    assert isinstance(table, Table)
    assert bars.values["c"] == {"target": 4, "in the shards": 0}
    assert table.rows[0] == ("stratum", "candidates", "target", "in the shards", "short of")
    assert ("c", "0", "4", "0", "4") in table.rows
    assert ("a", "9", "1", "2", "") in table.rows
    assert section.facts["below half their target"] == "c"


def test_strata_without_targets_are_counted_and_one_is_nothing_to_show(make: Make) -> None:
    (section,) = strata_section(make(), {"target": "?", "available": {"stratum 0": "many"}})
    table = section.parts[1]
    assert isinstance(table, Table)
    assert table.rows[0] == ("stratum", "in the shards")
    assert strata_section(make(stratum=np.array(["", "", ""])), {}) == []


def test_splits_say_how_near_they_come(make: Make) -> None:
    contents = make("train test val", lon=np.array([10.0, 10.1, 11.0]))
    (section,) = splits_section(replace(contents, notes={"buffer_km": 5.0}))
    km = float(haversine_km(10.0, 45.0, 10.1, 45.0))
    assert section.facts["nearest train–test"] == f"{km:,.2f} km"
    assert section.facts["buffer asked for"] == "5 km"
    assert splits_section(make("train train")) == []
    (nowhere,) = splits_section(make(lon=np.full(3, np.nan)))
    assert nowhere.facts == {}


def test_of_many_places_the_nearest_of_some_are_looked_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ground, "MOST_NEAREST", 2)
    (section,) = splits_section(make())
    nearest = charts([section], Histogram)["Distance of each place to the nearest other one"]
    assert sum(nearest.counts["places"]) == 2
    assert "2 places, drawn by seed" in section.text


def test_distributions_by_hand(make: Make) -> None:
    contents = make("train test", looks=2, cloud=np.array([0.0, 0.02, 1.0, np.nan]), entropy=np.array([1.0, np.nan]))
    scene = SceneFacts(platform="sentinel-2b", direction="descending", baseline="05.10")
    radar = SceneFacts(platform="sentinel-1a", direction="ascending", relative_orbit="15")
    looks = [LookFacts(look=number, s2=scene, s1=radar) for number in range(4)]
    sections = distribution_sections(contents, Recorded(looks=looks, n_samples=2))
    histograms, bars = charts(sections, Histogram), charts(sections, Bars)
    cloud = histograms["Cloud and cloud shadow"].counts
    assert {name: (counts[0], sum(counts)) for name, counts in cloud.items()} == {"train": (2, 2), "test": (0, 1)}
    assert "Change score" not in histograms
    assert list(bars["Month of the looks"].values) == list(MONTHS)
    assert bars["Month of the looks"].values["Jan"] == {"train": 1, "test": 0}
    assert sum(series["train"] for series in bars["Month of the looks"].values.values()) == 2
    assert bars["Year of the looks"].values == {"2021": {"train": 2, "test": 2}}
    assert bars["Platform"].values == {"sentinel-1a": {"looks": 4}, "sentinel-2b": {"looks": 4}}
    assert bars["Direction of flight"].values["ascending"] == {"Sentinel-2": 0, "Sentinel-1": 4}
    assert bars["Relative orbit of Sentinel-1"].values == {"15 ascending": {"looks": 4}}
    assert bars["Processing baseline of Sentinel-2"].values == {"05.10": {"looks": 4}}
    assert "geossl sample --measure" in sections[1].text


def test_looks_of_which_nothing_is_known_have_no_charts(make: Make) -> None:
    unknown = np.full(2, np.nan)
    contents = make(
        "train train",
        looks=1,
        acquired=np.full(2, "NaT", "datetime64[us]"),
        **dict.fromkeys(("gap_hours", "cloud", "s2_valid", "s1_valid"), unknown),
    )
    assert distribution_sections(contents, NOTHING) == []


def test_a_sensor_whose_direction_is_not_known_has_no_bars(make: Make) -> None:
    looks = [LookFacts(look=0, s1=SceneFacts(direction="ascending"))]
    bars = charts(distribution_sections(make(), Recorded(looks=looks, n_samples=1)), Bars)
    assert bars["Direction of flight"].values == {"ascending": {"Sentinel-1": 1}, "descending": {"Sentinel-1": 0}}


def test_how_much_was_read_is_said(make: Make) -> None:
    (section, *_) = distribution_sections(make(), Recorded(looks=(), n_samples=2, n_unread=1))
    assert "2 of 3 places" in section.text
    assert "1 places could not be read" in section.text


def test_bands_are_those_of_the_pixels(shards: Shards, contents: Contents) -> None:
    (section,) = band_sections(shards, contents, most=20)
    histograms = charts([section], Histogram)
    assert len(histograms) == 14 <= MOST_CHARTS
    assert "B04, red, 665 nm" in histograms
    red = histograms["B04, red, 665 nm"]
    stored = shards.read(0, 0)["s2_10m"]
    assert 0 < sum(red.counts["pixels"]) <= 20 * 2048
    assert red.edges[0] <= np.median(stored[2]) <= red.edges[-1]
    table = section.parts[-1]
    assert isinstance(table, Table)
    assert len(table.rows) == 15
    mean = shards.notes["statistics"]["B04"]["mean"]
    assert ("B04", "s2_10m", "10 m", f"{mean:,.0f}") in [row[:4] for row in table.rows]
    assert band_sections(shards, contents, most=20) == [section]


def test_of_a_look_a_few_pixels_count_spread_over_all_columns(shards: Shards) -> None:
    from geossl_data.report.dataset import bands

    member = shards.members["s2_10m"]
    columns = np.tile(np.arange(1, 513, dtype=np.uint16), (512, 1))
    kept = bands._thinned(member, columns)
    assert len(kept) <= bands.MOST_VALUES
    assert len(np.unique(kept)) > 300


def test_statistics_that_are_not_there_are_a_dash(
    shards: Shards, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(shards.notes, "statistics", {"B04": "?"})
    (section,) = band_sections(shards, contents, most=1)
    table = section.parts[-1]
    assert isinstance(table, Table)
    assert table.rows[1][3:5] == ("–", "–")


def test_provenance_is_that_of_the_looks(shards: Shards, contents: Contents) -> None:
    sections = distribution_sections(contents, recorded_in(shards, contents))
    platform = charts(sections, Bars)["Platform"].values
    assert sum(series["looks"] for series in platform.values()) == 2 * len(contents.place)
