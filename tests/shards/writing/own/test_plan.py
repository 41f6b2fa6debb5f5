"""Rows of a table of one's own rasters → members, samples, splits, contents: nothing is opened here."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.bands import Member
from geossl_data.errors import DatasetError
from geossl_data.records import KEY_PATTERN, SPLITS
from geossl_data.sampling.splits import SplitRule
from geossl_data.shards.manifest import Entry
from geossl_data.shards.writing.own.content import own_content
from geossl_data.shards.writing.own.plan import inputs_digest, plan_own
from geossl_data.shards.writing.own.samples import OwnPlan, key_of
from geossl_data.shards.writing.own.table import Row
from geossl_data.tiles.own import Raster, RasterError

RULE = SplitRule(val=0.2, test=0.2)


def row(place: str, sensor: str, look: int | None = None, day: int | None = None, **values: Any) -> Row:
    said: dict[str, Any] = {
        "line": 2,
        "place": place,
        "sensor": sensor,
        "path": f"{place}/{sensor}_{look}_{day}.tif",
        "time": None if day is None else datetime(2024, 7, day, tzinfo=UTC),
        "look": look,
        "split": None,
        "label": "",
        "lon": None,
        "lat": None,
        "bands": (),
    }
    return Row(**(said | values))


def raster(path: str, **values: Any) -> Raster:
    found: dict[str, Any] = {
        "path": path,
        "nbytes": 100,
        "modified_ns": 1,
        "sha256": path.encode().hex().rjust(64, "0")[-64:],
        "width": 24,
        "height": 24,
        "n_bands": 1,
        "dtype": "uint8",
        "bands": (),
        "nodata": None,
        "scale": 1.0,
        "offset": 0.0,
        "crs": "",
        "transform": (),
    }
    return Raster(**(found | values))


def planned(rows: list[Row], tile: int = 0, rule: SplitRule = RULE, **by_sensor: dict[str, Any]) -> OwnPlan:
    """The plan of rows whose rasters are as said of their sensors."""
    rasters = {one.path: raster(one.path, **by_sensor.get(one.sensor, {})) for one in rows}
    return plan_own(rows, rasters, tile=tile, rule=rule)


def changed(rows: list[Row], number: int, **values: Any) -> OwnPlan:
    """The plan of rows of which one's raster is another than the rest."""
    rasters = {one.path: raster(one.path) for one in rows}
    rasters[rows[number].path] = raster(rows[number].path, **values)
    return plan_own(rows, rasters, tile=0, rule=RULE)


PLACES = [row(place, sensor, look) for place in "abcd" for sensor in ("s1", "s2") for look in (0, 1)]


def test_a_sample_is_a_place_with_its_looks_in_order() -> None:
    rows = [row("p", "s2", day=9), row("p", "s1", day=3), row("p", "s1", day=9), row("q", "s1", day=1)]
    plan = planned(rows)
    assert [(sample.key, len(sample.looks)) for sample in plan.samples] == [("p", 2), ("q", 1)]
    first, second = plan.samples[0].looks
    assert [file.path for file in first.files] == ["p/s1_None_3.tif"]
    assert [file.sensor for file in second.files] == ["s1", "s2"]
    assert (first.acquired, second.acquired) == (rows[1].time, rows[0].time)


def test_the_column_look_joins_passes_hours_apart_and_orders_what_has_no_time() -> None:
    rows = [row("p", "s1", 1, day=4), row("p", "s2", 1, day=3), row("p", "s1", 0), row("p", "mask", 1)]
    (sample,) = planned(rows).samples
    assert [look.number for look in sample.looks] == [0, 1]
    assert [look.acquired for look in sample.looks] == [None, rows[1].time]
    assert [file.sensor for file in sample.looks[1].files] == ["s1", "s2", "mask"]


def test_numbers_against_times_are_an_error() -> None:
    with pytest.raises(DatasetError, match="place 'p': the numbers of its looks are in another order than their times"):
        planned([row("p", "s1", 1, day=3), row("p", "s1", 0, day=4)])


def test_members_are_what_the_rasters_are() -> None:
    plan = planned(
        PLACES,
        s1={"dtype": "float32", "n_bands": 2, "bands": ("VV", "VH"), "nodata": -9.0, "width": 12, "height": 12},
        s2={"dtype": "uint16", "n_bands": 3, "scale": 1e-4, "offset": -0.1},
    )
    assert plan.members == {
        "s2": Member("s2", "s2", ("1", "2", "3"), 1, "uint16", "", scale=1e-4, offset=-0.1),
        "s1": Member("s1", "s1", ("VV", "VH"), 2, "float32", "", nodata=-9.0),
    }
    assert (plan.samples[0].size_px, plan.pixel_m, plan.skipped) == (24, None, ())


def test_bands_of_two_sensors_never_share_a_name() -> None:
    plan = planned(PLACES, s2={"n_bands": 2})
    assert plan.members["s1"].bands == ("s1_1",)
    assert plan.members["s2"].bands == ("s2_1", "s2_2")


def test_the_table_may_name_bands() -> None:
    rows = [replace(one, bands=("red", "green")) if one.sensor == "s2" else one for one in PLACES]
    plan = planned(rows, s2={"n_bands": 2, "bands": ("x", "y")})
    assert plan.members["s2"].bands == ("red", "green")
    assert plan.members["s1"].bands == ("1",)


def test_the_table_has_the_last_word_on_what_numbers_mean() -> None:
    rows = [replace(PLACES[0], scale=0.5, units="m"), *PLACES[1:]]
    plan = planned(rows, s1={"scale": 2.0, "offset": 3.0}, s2={"scale": 2.0})
    assert plan.members["s1"] == Member("s1", "s1", ("s1_1",), 1, "uint8", "m", scale=0.5, offset=3.0)
    assert (plan.members["s2"].scale, plan.members["s2"].units) == (2.0, "")
    assert (plan.skipped, len(plan.samples)) == ((), 4)


def test_files_that_say_another_scale_are_as_good_as_the_others_where_the_table_says_it() -> None:
    rows = [row(place, "s1", 0, scale=0.5, offset=1.0) for place in "abc"]
    plan = changed(rows, 1, scale=7.0, offset=8.0)
    assert (plan.skipped, [sample.key for sample in plan.samples]) == ((), ["a", "b", "c"])
    halved = changed([replace(one, offset=None) for one in rows], 1, scale=7.0, offset=8.0)
    assert [(one.id, one.reason) for one in halved.skipped] == [("b", "wrong-scale")]
    assert "scale 0.5 and offset 8 where s1 has 0.5, 0" in halved.skipped[0].detail


def test_a_class_map_may_have_units_and_no_scale() -> None:
    assert planned([row("a", "mask", 0, units="water")]).members["mask"].units == "water"
    with pytest.raises(DatasetError, match="rasters of mask are maps of classes, which have no scale and no offset"):
        planned([row("a", "mask", 0, scale=2.0)])


@pytest.mark.parametrize("sensor", ["label", "mask"])
def test_a_class_map_is_a_plane(sensor: str) -> None:
    plan = planned([*PLACES, row("a", sensor, 0)], **{sensor: {"scale": 2.0, "nodata": 255.0}})
    assert plan.members[sensor] == Member(sensor, sensor, (sensor,), 1, "uint8", "class", nodata=255.0, plane=True)
    assert list(plan.members) == ["s1", "s2", sensor]


@pytest.mark.parametrize("values", [{"n_bands": 3}, {"dtype": "float32"}])
def test_a_class_map_is_one_band_of_whole_numbers(values: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match="a class map has one of whole numbers"):
        planned([row("a", "mask", 0)], mask=values)


@pytest.mark.parametrize(
    ("values", "reason", "detail"),
    [
        ({"n_bands": 4}, "wrong-bands", "4 bands where s1 has 1"),
        ({"dtype": "int16"}, "wrong-dtype", "int16 where s1 is uint8"),
        ({"scale": 2.0}, "wrong-scale", "scale 2 and offset 0 where s1 has 1, 0"),
        ({"nodata": 7.0}, "wrong-nodata", "no data is 7 where s1 has None"),
        ({"width": 12, "height": 12}, "wrong-size", "12 × 12 px where s1 has 24 × 24"),
    ],
)
@pytest.mark.parametrize("number", [0, 3])
def test_what_differs_from_the_rest_is_left_out_with_its_reason(
    values: dict[str, Any], reason: str, detail: str, number: int
) -> None:
    rows = [row(place, "s1", 0) for place in "abcd"]
    plan = changed(rows, number, **values)
    assert len(plan.samples) == 3
    (skipped,) = plan.skipped
    assert (skipped.stage, skipped.id, skipped.reason) == ("shard", "abcd"[number], reason)
    assert skipped.detail == f"{rows[number].path} (line 2): {detail}"


def test_bands_in_another_order_are_not_mixed() -> None:
    rows = [row(place, "s2", 0) for place in "abc"]
    rasters = {one.path: raster(one.path, n_bands=2, bands=("red", "nir")) for one in rows}
    rasters["b/s2_0_None.tif"] = raster("b", n_bands=2, bands=("nir", "red"))
    rasters["c/s2_0_None.tif"] = raster("c", n_bands=2)
    plan = plan_own(rows, rasters, tile=0, rule=RULE)
    assert [sample.key for sample in plan.samples] == ["a", "c"]
    assert plan.members["s2"].bands == ("red", "nir")
    assert plan.skipped[0].reason == "wrong-bands"


def test_a_look_goes_on_with_what_is_left_of_it() -> None:
    plan = changed(PLACES, 0, dtype="int16")
    assert [[file.sensor for file in look.files] for look in plan.samples[0].looks] == [["s2"], ["s1", "s2"]]


def test_files_that_cannot_be_read_are_left_out() -> None:
    rasters: dict[str, Raster | RasterError] = {one.path: raster(one.path) for one in PLACES}
    rasters[PLACES[0].path] = RasterError("missing-file", "a/x.tif: no such file")
    plan = plan_own(PLACES, rasters, tile=0, rule=RULE)
    assert plan.skipped[0].reason == "missing-file"
    assert plan.skipped[0].detail == "line 2: a/x.tif: no such file"
    with pytest.raises(DatasetError, match=r"none of the 1 rasters can be read; the first: line 2: a/x\.tif"):
        plan_own(PLACES[:1], rasters, tile=0, rule=RULE)


@pytest.mark.parametrize(
    ("tile", "s1", "message"),
    [
        (0, {"width": 48}, "rasters of s1 are 48 × 24 px; shards hold squares: cut them with --tile N"),
        (0, {"width": 25, "height": 25}, "rasters of s2 are 24 px a side, others 25 px: no whole multiple"),
        (0, {"width": 20_400, "height": 20_400}, "20400 px a side, more than 16384: cut them with --tile N"),
        (0, {"width": 14_400, "height": 14_400, "n_bands": 2}, "a square of s1 takes 395 MB, at most 256"),
        (4, {"width": 16, "height": 16}, "one pixel for 1.5 of the finest, no whole number"),
        (5, {"width": 12, "height": 12}, "--tile 5 is not a multiple of 2"),
        (0, {"dtype": "complex64"}, "rasters of s1 are complex64; shards hold uint8"),
        (0, {"n_bands": 2000}, "have 2000 bands; shards hold up to 1024"),
    ],
)
def test_rasters_that_do_not_fit_together_are_one_line(tile: int, s1: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message) as error:
        planned(PLACES, tile=tile, s1=s1)
    assert "\n" not in str(error.value)


def test_squares_are_cut_from_the_north_west_of_every_sensor() -> None:
    rows = [row("p", "a", 0), row("p", "b", 0), row("q", "a", 0)]
    rasters = {
        rows[0].path: raster("p/a", width=25, height=17),
        rows[1].path: raster("p/b", width=25, height=17),
        rows[2].path: raster("q/a", width=7, height=70),
    }
    plan = plan_own(rows, rasters, tile=8, rule=RULE)
    assert [(sample.key, sample.column, sample.row) for sample in plan.samples] == [
        (f"p_r{r}c{c}", 8 * c, 8 * r) for r in range(2) for c in range(3)
    ]
    assert plan.left_over == pytest.approx(1 - 6 * 64 / (25 * 17 + 7 * 70))
    assert [(one.id, one.reason) for one in plan.skipped] == [("q", "wrong-size")]
    assert len({sample.split for sample in plan.samples}) == 1


def test_tiles_of_sensors_with_coarser_pixels_keep_their_ground() -> None:
    rows = [row("p", "a", 0), row("p", "b", 0), row("q", "b", 0), row("r", "a", 0), row("r", "b", 0)]
    sizes = {"p": (24, 36), "q": (30, 30), "r": (12, 12)}
    rasters = {}
    for one in rows:
        factor, (width, height) = (1 if one.sensor == "a" else 3), sizes[one.place]
        rasters[one.path] = raster(one.path, width=width // factor, height=height // factor)
    plan = plan_own(rows, rasters, tile=6, rule=RULE)
    assert {name: member.factor for name, member in plan.members.items()} == {"a": 1, "b": 3}
    assert len(plan.samples) == 4 * 6 + 25 + 4
    assert plan.left_over == 0


GROUND = {"crs": "EPSG:32632", "transform": (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)}


def test_georeferenced_squares_know_where_they_lie() -> None:
    plan = planned([row("p", "a", 0)], tile=12, a=GROUND)
    assert plan.pixel_m == 10.0
    corner = plan.samples[3]
    assert corner.key == "p_r1c1"
    assert corner.ground is not None
    assert (corner.ground.epsg, corner.ground.transform[2], corner.ground.transform[5]) == (32632, 500_120, 4_999_880)
    assert corner.block == RULE.block(corner.ground.lon, corner.ground.lat)  # type: ignore[arg-type]
    assert corner.split == RULE.split(corner.block)


def test_rasters_that_lie_elsewhere_than_their_place_are_left_out() -> None:
    rows = [row("p", "a", 0), row("p", "a", 1), row("p", "b", 0), row("p", "b", 1)]
    rasters = {one.path: raster(one.path, **GROUND) for one in rows}
    rasters[rows[1].path] = raster("x", crs="EPSG:32632", transform=(10.0, 0.0, 500_010.0, 0.0, -10.0, 5_000_000.0))
    rasters[rows[3].path] = raster("y")
    plan = plan_own(rows, rasters, tile=0, rule=RULE)
    assert [(one.reason, one.id) for one in plan.skipped] == [("off-grid", "p")]
    assert [[file.sensor for file in look.files] for look in plan.samples[0].looks] == [["a", "b"], ["b"]]


def test_squares_that_share_ground_share_a_split() -> None:
    rule = SplitRule(block_km=0.05, val=0.3, test=0.4)
    rows = [row(f"p{n}", "a", 0) for n in range(12)]
    rasters = {
        one.path: raster(
            one.path, crs="EPSG:32632", transform=(10.0, 0.0, 500_000.0 + 120 * n, 0.0, -10.0, 5_000_000.0)
        )
        for n, one in enumerate(rows)
    }
    plan = plan_own(rows, rasters, tile=0, rule=rule)
    assert len({sample.split for sample in plan.samples}) == 1
    assert len({sample.block for sample in plan.samples}) == 1
    apart = {one.path: replace(found, width=12, height=12) for one, found in zip(rows, rasters.values(), strict=True)}
    assert len({sample.split for sample in plan_own(rows, apart, tile=0, rule=rule).samples}) > 1


def test_splits_are_those_of_the_table_then_of_the_ground_then_of_the_place() -> None:
    rows = [
        row("given", "a", 0, split="val"),
        row("centred", "a", 0, lon=9.0, lat=45.0),
        *(row(f"free {n}", "a", 0) for n in range(60)),
    ]
    samples = {sample.place: sample for sample in planned(rows).samples}
    assert (samples["given"].split, samples["given"].block) == ("val", "given-val")
    assert samples["centred"].block == RULE.block(9.0, 45.0)
    free = [sample for place, sample in samples.items() if place.startswith("free")]
    assert {sample.split for sample in free} == {"train", "val", "test"}
    assert all(sample.split == RULE.split(sample.block) for sample in free)
    again = planned(rows[:30])
    assert all(samples[sample.place].split == sample.split for sample in again.samples)


@given(seed=st.integers(0, 2**32))
def test_the_order_of_the_rows_does_not_matter(seed: int) -> None:
    rows = [*PLACES, row("a", "s3", 0, bands=("x",)), row("b", "s3", 1, bands=("x",))]
    rasters: dict[str, Raster | RasterError] = {one.path: raster(one.path) for one in rows}
    rasters[PLACES[0].path] = raster("a", dtype="int16")
    rasters[PLACES[9].path] = raster("b", n_bands=2)
    before = plan_own(rows, rasters, tile=8, rule=RULE)
    shuffled = random.Random(seed).sample(rows, len(rows))
    after = plan_own(shuffled, rasters, tile=8, rule=RULE)
    assert after.samples == before.samples
    assert list(after.members.items()) == list(before.members.items())
    assert inputs_digest(shuffled, rasters) == inputs_digest(rows, rasters)


@pytest.mark.parametrize(
    "change",
    [
        {"split": "val"},
        {"label": "3"},
        {"look": 5},
        {"time": datetime(2024, 1, 1, tzinfo=UTC)},
        {"lon": 1.0, "lat": 2.0},
        {"bands": ("x",)},
        {"place": "z"},
        {"sensor": "s9"},
        {"label": "3", "more_labels": ("4",)},
        {"scale": 1.0},
        {"offset": 0.0},
        {"units": "m"},
    ],
)
def test_whatever_the_table_says_counts(change: dict[str, Any]) -> None:
    rasters: dict[str, Raster | RasterError] = {one.path: raster(one.path) for one in PLACES}
    rows = [replace(PLACES[0], **change), *PLACES[1:]]
    assert inputs_digest(rows, rasters) != inputs_digest(PLACES, rasters)


def test_tables_that_say_nothing_new_are_what_they_were() -> None:
    """The digest of these rows from before there were scales and units, so that datasets of that time stand."""
    rows = [
        row("a", "s1", 0, label="water", bands=("VV",)),
        row("a", "s2", 1, day=3, split="val", lon=1.0, lat=2.0),
    ]
    digest = inputs_digest(rows, {one.path: raster(one.path) for one in rows})
    assert digest == "46062f4bf486427f1190354cff8bbf41cbfe2c8d119b89e7b906b49242d57cc0"


def test_what_the_files_hold_counts_and_when_they_were_written_does_not() -> None:
    rasters: dict[str, Raster | RasterError] = {one.path: raster(one.path) for one in PLACES}
    before = inputs_digest(PLACES, rasters)
    path = PLACES[0].path
    assert inputs_digest(PLACES, rasters | {path: raster(path, modified_ns=2)}) == before
    assert inputs_digest(PLACES, rasters | {path: raster(path, sha256="0" * 64)}) != before
    assert inputs_digest(PLACES, rasters | {path: RasterError("missing-file", "gone")}) != before


def test_labels_are_numbers_or_names_that_are_counted() -> None:
    rows = [row("a", "s1", 0, label="7"), row("a", "s1", 1), row("b", "s1", 0, label="12")]
    plan = planned(rows)
    assert [[look.label for look in sample.looks] for sample in plan.samples] == [[7, 0], [12]]
    assert plan.label_names == {}
    named = planned([replace(one, label={"7": "water", "12": "rock"}.get(one.label, "")) for one in rows])
    assert [[look.label for look in sample.looks] for sample in named.samples] == [[2, 0], [1]]
    assert named.label_names == {"1": "rock", "2": "water"}


def test_all_classes_of_a_look_are_numbers_where_some_look_has_several() -> None:
    rows = [
        row("a", "s1", 0, label="water", more_labels=("rock", "ice")),
        row("a", "s2", 0),
        row("a", "s1", 1, label="rock"),
        row("b", "s1", 0),
    ]
    plan = planned(rows)
    assert plan.label_names == {"1": "ice", "2": "rock", "3": "water"}
    assert [[(look.label, look.labels) for look in sample.looks] for sample in plan.samples] == [
        [(3, (3, 2, 1)), (2, (2,))],
        [(0, ())],
    ]
    contents = [own_content(sample, Path(), plan.members, min_valid=0, read=small_pixels) for sample in plan.samples]
    assert [content.row["labels_more"] for content in contents] == [((3, 2, 1), (2,)), ()]
    assert contents[0].meta["looks"][0]["geossl:labels"] == [3, 2, 1]
    assert "geossl:labels" not in contents[1].meta["looks"][0]
    single = planned([replace(one, more_labels=()) for one in rows])
    assert {look.labels for sample in single.samples for look in sample.looks} == {()}


@pytest.mark.parametrize("stratified", [False, True])
def test_places_of_a_class_are_shared_out_together_where_that_is_asked_for(stratified: bool) -> None:
    rows = [
        row("given", "a", 0, label="1", split="val"),
        row("centred", "a", 0, label="1", lon=9.0, lat=45.0),
        *(row(f"{kind}-{n}", "a", 0, label=kind) for kind in "12" for n in range(20)),
    ]
    rasters = {one.path: raster(one.path) for one in rows}
    plan = plan_own(rows, rasters, tile=12, rule=RULE, stratified=stratified)
    splits = {sample.place: sample.split for sample in plan.samples}
    assert len(plan.samples) == 4 * len(rows)
    assert splits["given"] == "val"
    assert splits["centred"] == RULE.split(RULE.block(9.0, 45.0))
    counts = [[[splits[f"{kind}-{n}"] for n in range(20)].count(split) for split in SPLITS] for kind in "12"]
    assert (counts == [[12, 4, 4]] * 2) is stratified
    assert all(sample.split == splits[sample.place] for sample in plan.samples)
    assert {sample.block for sample in plan.samples if sample.place == "1-0"} == {"place-1-0"}


@given(place=st.text(min_size=1, max_size=200))
def test_every_name_of_a_place_makes_a_key(place: str) -> None:
    assert KEY_PATTERN.fullmatch(f"{key_of(place)}_r9999c9999")


def test_keys_of_names_that_look_alike_differ() -> None:
    assert key_of("Zurich-1") == "Zurich-1"
    keys = {
        key_of(name) for name in ("Zürich 1", "Zurich 1", "Zurich.1", "Zurich/1", "东京", "大阪", "a" * 100, "a" * 101)
    }
    assert len(keys) == 8
    assert key_of("Zürich 1").startswith("Zurich-1-")


# ------------------------------------------------------------------------------------------------ content


def pixels(folder: Path, path: str, sha256: str, *, column: int, row: int, width: int, height: int) -> np.ndarray:
    """A raster of 24 × 24 px whose number says where it is and of which file."""
    whole = np.arange(24 * 24, dtype=np.uint16).reshape(1, 24, 24) + len(path)
    return whole[:, row : row + height, column : column + width]


def small_pixels(folder: Path, path: str, sha256: str, *, column: int, row: int, width: int, height: int) -> np.ndarray:
    return np.ones((1, height, width), dtype=np.uint8)


def test_content_is_what_the_files_hold() -> None:
    rows = [row("p", "a", 0, day=1), row("p", "a", 1, day=2), row("p", "mask", 1, day=2)]
    plan = planned(rows, tile=8, a={"dtype": "uint16", **GROUND}, mask={"dtype": "uint16"})
    sample = plan.samples[4]
    content = own_content(sample, Path(), plan.members, min_valid=0.9, read=pixels)
    assert (content.key, content.is_stored, content.years) == ("p_r1c1", True, ())
    expected = np.arange(24 * 24).reshape(24, 24)[8:16, 8:16]
    np.testing.assert_array_equal(content.looks[0]["a"][0], expected + len(rows[0].path))
    np.testing.assert_array_equal(content.looks[1]["mask"], expected + len(rows[2].path))
    look = content.meta["looks"][1]
    assert look["members"] == ["a", "mask"]
    assert look["datetime"] == "2024-07-02T00:00:00Z"
    assert look["assets"]["a"] == {
        "href": rows[1].path,
        "datetime": "2024-07-02T00:00:00Z",
        "file:size": 100,
        "file:checksum": "1220" + raster(rows[1].path).sha256,
    }
    assert content.meta["geossl:tile"] == {"row": 1, "column": 1}
    assert content.meta["proj:transform"] == [10.0, 0.0, 500_080.0, 0.0, -10.0, 4_999_920.0]
    entry = Entry(
        key=content.key,
        split=content.split,
        size_px=8,
        shard=f"{content.split}-000000.tar",
        offset=0,
        nbytes=512,
        n_looks=2,
        members=(("a",), ("a", "mask")),
        member_nbytes=(1,) * 4,
        member_crc32=(1,) * 4,
        **content.row,
    )
    assert (entry.epsg, entry.x, entry.y) == (32632, 500_080.0, 4_999_920.0)
    assert (entry.s2_ids, entry.gap_hours, entry.acquired) == (("", ""), (None, None), (rows[0].time, rows[1].time))


def test_a_place_that_lies_nowhere_says_so() -> None:
    plan = planned([row("p", "a", 0)], a={"dtype": "uint16"})
    content = own_content(plan.samples[0], Path(), plan.members, min_valid=0, read=pixels)
    assert [content.row[name] for name in ("lon", "lat", "epsg", "x", "y", "cell")] == [None] * 5 + [""]
    assert content.row["acquired"] == (None,)
    assert not {"proj:code", "proj:transform", "proj:centroid"} & set(content.meta)


def test_a_place_of_which_the_table_tells_the_centre_says_that_in_its_json() -> None:
    plan = planned([row("p", "a", 0, lon=9.0, lat=45.0)], a={"dtype": "uint16"})
    content = own_content(plan.samples[0], Path(), plan.members, min_valid=0, read=pixels)
    assert content.meta["proj:centroid"] == {"lat": 45.0, "lon": 9.0}
    assert content.row["lon"] is None


def test_too_few_valid_pixels_are_a_reason_to_skip() -> None:
    plan = planned([row("p", "a", 0)], a={"dtype": "uint16", "nodata": 14.0 + 3})
    (sample,) = plan.samples
    assert own_content(sample, Path(), plan.members, min_valid=0.99, read=pixels).looks
    with pytest.raises(RasterError, match=r"99\.8 % of the pixels are valid, 99\.9 % are asked for") as error:
        own_content(sample, Path(), plan.members, min_valid=0.999, read=pixels)
    assert error.value.reason == "few-valid-pixels"


def test_a_class_map_gives_the_label_where_the_table_does_not() -> None:
    def read(folder: Path, path: str, sha256: str, *, column: int, row: int, width: int, height: int) -> np.ndarray:
        values = np.zeros((1, height, width), dtype=np.uint8)
        values[0, 0, :5], values[0, 1, :4], values[0, 2:4] = 3, 5, 9
        return values

    rows = [row("p", "label", 0), row("p", "label", 1, label="8"), row("p", "a", 2)]
    plan = planned(rows, label={"nodata": 9.0})
    content = own_content(plan.samples[0], Path(), plan.members, min_valid=0, read=read)
    assert content.row["labels"] == (3, 8, 0)


def test_a_file_that_is_something_else_by_now_is_a_reason_to_skip() -> None:
    plan = planned([row("p", "a", 0)])
    with pytest.raises(RasterError, match=r"uint16 \(1, 24, 24\) where uint8 \(1, 24, 24\) was"):
        own_content(plan.samples[0], Path(), plan.members, min_valid=0, read=pixels)
