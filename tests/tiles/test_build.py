"""Tiles: every pixel where it belongs, in physical units, with its provenance; or a reason."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from shapely import box
from shapely.affinity import translate

from geossl_data.bands import BANDS, MEMBERS, S1_BANDS, S2_BANDS, S2_MEMBERS
from geossl_data.grid import to_lonlat
from geossl_data.records import Look, Place, Sample, Scene
from geossl_data.tiles.build import Tile, build_tile
from geossl_data.tiles.provenance import relative_href
from geossl_data.tiles.rasters import Rasters, SkipError

WriteRaster = Callable[..., str]

WEST, NORTH = 600_000.0, 5_000_040.0
PLANET = Path(__file__).resolve().parents[3] / "shared" / "data" / "planet" / "items"
TIME = datetime(2023, 6, 1, 10, 20, 30, tzinfo=UTC)


def place_at(x: float, y: float, *, epsg: int = 32632, size_px: int = 12) -> Place:
    lon, lat = to_lonlat(epsg, x + size_px * 5, y - size_px * 5)
    return Place(lon=float(lon), lat=float(lat), epsg=epsg, x=x, y=y, size_px=size_px, cell="0500U_0070R")


def sample_of(place: Place, *looks: Look) -> Sample:
    return Sample(
        key="a_1",
        place=place,
        looks=looks,
        stratum="s",
        weight=1.0,
        inclusion_probability=0.5,
        split="train",
        block="b",
    )


def look_of(s2: Scene, s1: Scene) -> Look:
    gap = (s1.acquired - s2.acquired).total_seconds() / 3600
    return Look(s2_id=s2.id, s1_id=s1.id, acquired=s2.acquired, gap_hours=gap)


class World:
    """One place, two eras of Sentinel-2, a radar scene, label maps; the arrays as they were written."""

    def __init__(self, write: WriteRaster, base: Path) -> None:
        self.base = base
        self.write = write
        self.arrays: dict[str, np.ndarray] = {}
        self.footprint = box(*to_lonlat(32632, WEST, NORTH - 500), *to_lonlat(32632, WEST + 500, NORTH))
        rng = np.random.default_rng(0)
        for number, name in enumerate(S2_BANDS):
            side = 360 // BANDS[name].resolution_m
            values = 1001 + number * 2000 + rng.permutation(side * (side + 6)).reshape(side, side + 6)
            self.arrays[name] = values.astype(np.uint16)
        self.arrays["SCL"] = rng.integers(1, 12, (18, 24)).astype(np.uint8)
        for name in S1_BANDS:
            self.arrays[name] = rng.gamma(4, 0.05, (36, 42)).astype(np.float32)
        self.arrays["class"] = rng.integers(1, 6, (36, 42)).astype(np.uint8)

    def optical(self, scene_id: str, *, offset: int | None, time: datetime = TIME) -> Scene:
        """A scene whose files carry the offset: their numbers are that much higher."""
        shift = -(offset or 0)
        hrefs = {}
        for name in (*S2_BANDS, "SCL"):
            array = self.arrays[name]
            if name != "SCL":
                array = np.where(array == 0, 0, array.astype(int) + shift).astype(np.uint16)
            resolution_m = BANDS[name].resolution_m if name in BANDS else 20
            file = f"{scene_id}/{name}.tif"
            hrefs[name] = self.write(file, array, x=WEST, y=NORTH, resolution_m=resolution_m)
        return Scene(
            id=scene_id,
            collection="sentinel-2-l2a",
            sensor="s2",
            acquired=time,
            ends=time,
            footprint=self.footprint,
            hrefs=MappingProxyType(hrefs),
            platform="sentinel-2a",
            orbit_state="descending",
            relative_orbit=22,
            cloud_percent=12.5,
            mgrs_tile="32TNR",
            baseline="05.09" if offset else "02.05",
            boa_offset=offset,
            product_id=f"{scene_id}.SAFE",
        )

    def radar(self, scene_id: str = "s1", *, dx: float = 0.0, time: datetime = TIME + timedelta(hours=7)) -> Scene:
        hrefs = {
            name: self.write(f"{scene_id}/{name}.tif", self.arrays[name], x=WEST + dx, y=NORTH, resolution_m=10)
            for name in S1_BANDS
        }
        return Scene(
            id=scene_id,
            collection="sentinel-1-rtc",
            sensor="s1",
            acquired=time,
            ends=time,
            footprint=self.footprint,
            hrefs=hrefs,
            orbit_state="ascending",
            relative_orbit=117,
        )

    def label(self, scene_id: str, start: datetime, end: datetime, *, x: float = WEST) -> Scene:
        href = self.write(f"{scene_id}/class.tif", self.arrays["class"], x=x, y=NORTH, resolution_m=10)
        return Scene(
            id=scene_id,
            collection="land-classes",
            sensor="label",
            acquired=start,
            ends=end,
            footprint=self.footprint,
            hrefs={"class": href},
        )

    def build(self, sample: Sample, *scenes: Scene, min_valid: float = 0.9) -> Tile:
        by_id = {scene.id: scene for scene in scenes if scene.sensor != "label"}
        labels = [scene for scene in scenes if scene.sensor == "label"]
        with Rasters() as rasters:
            return build_tile(sample, by_id, labels, rasters, min_valid=min_valid, catalog_base=str(self.base))


@pytest.fixture
def world(write_raster: WriteRaster, tmp_path: Path) -> World:
    return World(write_raster, tmp_path)


def cut(array: np.ndarray, factor: int, place: Place) -> np.ndarray:
    column, row = round((place.x - WEST) / 10) // factor, round((NORTH - place.y) / 10) // factor
    side = place.size_px // factor
    return array[row : row + side, column : column + side]


PLACE = place_at(WEST + 120, NORTH - 60, size_px=24)


def test_every_pixel_of_a_look_is_the_one_of_the_place(world: World) -> None:
    s2, s1 = world.optical("s2", offset=None), world.radar()
    (look,) = world.build(sample_of(PLACE, look_of(s2, s1)), s2, s1).looks
    assert list(look.members) == ["s2_10m", "s2_20m", "s2_60m", "scl", "s1"]
    for name in S2_MEMBERS:
        member = MEMBERS[name]
        expected = np.stack([cut(world.arrays[band], member.factor, PLACE) for band in member.bands])
        np.testing.assert_array_equal(look.members[name], expected)
    np.testing.assert_array_equal(look.members["scl"], cut(world.arrays["SCL"], 2, PLACE))
    power = np.stack([cut(world.arrays[band], 1, PLACE) for band in S1_BANDS]).astype(np.float64)
    np.testing.assert_allclose(look.members["s1"], 10 * np.log10(power), atol=0.016)
    for name, array in look.members.items():
        dtype = np.float32 if MEMBERS[name].is_scaled else np.dtype(MEMBERS[name].dtype)
        assert (array.dtype, array.shape) == (dtype, MEMBERS[name].shape(24))
        assert MEMBERS[name].stored(array).dtype == MEMBERS[name].dtype


def test_both_offset_eras_give_the_same_reflectance_and_say_how(world: World) -> None:
    old = world.optical("old", offset=0)
    new = world.optical("new", offset=-1000, time=TIME + timedelta(days=900))
    unknown = world.optical("unknown", offset=None, time=TIME + timedelta(days=901))
    s1 = world.radar()
    looks = [look_of(scene, s1) for scene in (old, new, unknown)]
    tile = world.build(sample_of(PLACE, *looks), old, new, unknown, s1)
    for name in S2_MEMBERS:
        np.testing.assert_array_equal(tile.looks[0].members[name], tile.looks[1].members[name])
    stated = [
        (look.meta["s2"]["geossl:offset_native"], look.meta["s2"]["geossl:offset_applied"]) for look in tile.looks
    ]
    assert stated == [(0, 0), (-1000, -1000), (None, None)]


def test_a_look_says_where_it_came_from(world: World) -> None:
    s2, s1 = world.optical("s2", offset=-1000), world.radar()
    label = world.label("map", TIME - timedelta(days=1), TIME + timedelta(days=1))
    (look,) = world.build(sample_of(PLACE, look_of(s2, s1)), s2, s1, label).looks
    scl = cut(world.arrays["SCL"], 2, PLACE)
    classes = cut(world.arrays["class"], 1, PLACE)
    np.testing.assert_array_equal(look.members["label"], classes)
    assert look.meta["s2"] == {
        "id": "s2",
        "collection": "sentinel-2-l2a",
        "platform": "sentinel-2a",
        "datetime": "2023-06-01T10:20:30Z",
        "sat:orbit_state": "descending",
        "sat:relative_orbit": 22,
        "s2:mgrs_tile": "32TNR",
        "s2:processing_baseline": "05.09",
        "eo:cloud_cover": 12.5,
        "geossl:product_id": "s2.SAFE",
        "geossl:offset_native": -1000,
        "geossl:offset_applied": -1000,
        "geossl:quantification": 10000,
        "geossl:resampling": "none",
        "geossl:cloud_fraction": np.isin(scl, (3, 8, 9, 10)).mean(),
        "geossl:valid_fraction": 1.0,
        "assets": {band: f"./s2/{band}.tif" for band in (*S2_BANDS, "SCL")},
    }
    assert look.meta["s1"]["sat:orbit_state"] == "ascending"
    assert look.meta["s1"]["geossl:resampling"] == "none"
    assert look.meta["s1"]["assets"] == {"VV": "./s1/VV.tif", "VH": "./s1/VH.tif"}
    assert look.meta["pair"] == {"geossl:gap_hours": 7.0}
    counts = np.bincount(classes.ravel())
    assert look.meta["label"]["geossl:majority_class"] == counts.argmax()
    assert look.meta["label"]["geossl:majority_share"] == counts.max() / classes.size


def test_a_radar_scene_off_the_grid_is_resampled_and_says_so(world: World) -> None:
    s2, s1 = world.optical("s2", offset=0), world.radar(dx=3.7)
    (look,) = world.build(sample_of(PLACE, look_of(s2, s1)), s2, s1).looks
    assert look.meta["s1"]["geossl:resampling"] == "bilinear in linear power"
    west, centre = cut(world.arrays["VV"], 1, replace(PLACE, x=PLACE.x - 10)), cut(world.arrays["VV"], 1, PLACE)
    np.testing.assert_allclose(look.members["s1"][0], 10 * np.log10(0.37 * west + 0.63 * centre), atol=0.02)


def test_the_label_map_of_the_time_is_taken_and_only_on_its_grid(world: World) -> None:
    s2, s1 = world.optical("s2", offset=0), world.radar()
    day = timedelta(days=1)
    maps = {
        "over": world.label("over", TIME - 9 * day, TIME),
        "current": world.label("current", TIME, TIME + day),
        "older": world.label("older", TIME - day, TIME + day),
        "shifted": world.label("shifted", TIME - day / 2, TIME + day, x=WEST + 3.0),
        "elsewhere": replace(
            world.label("elsewhere", TIME, TIME + day), id="zz", footprint=translate(world.footprint, 5.0)
        ),
    }
    sample = sample_of(PLACE, look_of(s2, s1))

    def taken(*names: str) -> str | None:
        (look,) = world.build(sample, s2, s1, *(maps[name] for name in names)).looks
        assert ("label" in look.members) == ("label" in look.meta)
        return look.meta["label"]["id"] if "label" in look.meta else None

    assert taken(*maps) == "current"
    assert taken("over", "older", "shifted") == "older"
    assert taken("over", "shifted", "elsewhere") is None


def test_a_scene_without_classification_gives_a_look_without_scl(world: World) -> None:
    whole, s1 = world.optical("s2", offset=0), world.radar()
    s2 = replace(whole, hrefs={band: href for band, href in whole.hrefs.items() if band != "SCL"})
    (look,) = world.build(sample_of(PLACE, look_of(s2, s1)), s2, s1).looks
    assert "scl" not in look.members
    assert look.meta["s2"]["geossl:cloud_fraction"] is None


def test_valid_pixels_are_counted_on_the_pixels_of_both_sensors(world: World) -> None:
    s1 = world.radar()
    world.arrays["B11"][3:5, 6:8] = 0
    s2 = world.optical("holes", offset=-1000)
    sample = sample_of(PLACE, look_of(s2, s1))
    (look,) = world.build(sample, s2, s1).looks
    assert look.meta["s2"]["geossl:valid_fraction"] == pytest.approx(1 - 16 / 576)
    assert (look.members["s2_20m"][4] == 0).sum() == 4
    with pytest.raises(SkipError, match=r"holes: 97\.2%") as optical:
        world.build(sample, s2, s1, min_valid=0.98)
    world.arrays["VH"][:20] = -32768
    dark = world.radar("dark")
    with pytest.raises(SkipError, match="dark") as radar:
        world.build(sample_of(PLACE, look_of(s2, dark)), s2, dark)
    assert (optical.value.reason, radar.value.reason) == ("few-valid-pixels", "few-valid-pixels")


def test_a_sample_is_complete_or_skipped(world: World) -> None:
    s2, s1 = world.optical("s2", offset=0), world.radar()
    sample = sample_of(PLACE, look_of(s2, s1))
    poor = replace(s1, hrefs={"VV": s1.hrefs["VV"]})
    outside = replace(sample, place=place_at(WEST + 240, NORTH - 60, size_px=24))
    off = replace(sample, place=place_at(WEST + 130, NORTH - 60, size_px=12))
    reasons = []
    for case, scenes in ((sample, (s2,)), (sample, (s2, poor)), (outside, (s2, s1)), (off, (s2, s1))):
        with pytest.raises(SkipError, match=r"s2|s1|B01") as caught:
            world.build(case, *scenes)
        reasons.append(caught.value.reason)
    assert reasons == ["missing-scene", "missing-asset", "outside", "off-grid"]


def mosaic_look(s2: list[Scene], s1: list[Scene]) -> Look:
    look = look_of(s2[0], s1[0])
    return replace(look, s2_more=tuple(scene.id for scene in s2[1:]), s1_more=tuple(scene.id for scene in s1[1:]))


class Halves:
    """The world's scenes in two parts that complement each other, every pixel of the second shifted by a little."""

    def __init__(self, world: World, *, second_offset: int = -1000) -> None:
        whole = dict(world.arrays)
        self.whole = whole
        self.expected: dict[str, np.ndarray] = {}
        first, second = {}, {}
        for name, array in whole.items():
            # West of the place's middle only the first part sees; both see one column of 60 m.
            middle = round(array.shape[1] * 24 / 42)
            both = max(1, array.shape[1] // 7)
            other = array + np.array(3, array.dtype)
            first[name], second[name] = array.copy(), other
            first[name][:, middle:] = 0
            second[name] = np.where(np.arange(array.shape[1]) < middle - both, 0, other).astype(array.dtype)
            self.expected[name] = np.where(np.arange(array.shape[1]) < middle, array, other)
        world.arrays = first
        self.west = world.optical("west", offset=0)
        self.west_frame = world.radar("west-frame")
        world.arrays = second
        self.east = world.optical("east", offset=second_offset, time=TIME + timedelta(seconds=9))
        self.east_frame = world.radar("east-frame", time=TIME + timedelta(hours=7, seconds=25))
        world.arrays = whole

    @property
    def scenes(self) -> tuple[Scene, ...]:
        return (self.west, self.east, self.west_frame, self.east_frame)


def test_1_51_1_86_a_mosaic_takes_each_pixel_from_the_first_scene_that_has_it(world: World) -> None:
    halves = Halves(world)
    look = mosaic_look([halves.west, halves.east], [halves.west_frame, halves.east_frame])
    (built,) = world.build(sample_of(PLACE, look), *halves.scenes, min_valid=1.0).looks
    for name in S2_MEMBERS:
        member = MEMBERS[name]
        expected = np.stack([cut(halves.expected[band], member.factor, PLACE) for band in member.bands])
        np.testing.assert_array_equal(built.members[name], expected)
    np.testing.assert_array_equal(built.members["scl"], cut(halves.expected["SCL"], 2, PLACE))
    power = np.stack([cut(halves.expected[band], 1, PLACE) for band in S1_BANDS]).astype(np.float64)
    np.testing.assert_allclose(built.members["s1"].astype(np.float64), 10 * np.log10(power), atol=0.016)
    assert built.meta["s2"]["geossl:valid_fraction"] == built.meta["s1"]["geossl:valid_fraction"] == 1.0


def test_the_order_of_the_look_decides_where_two_scenes_see_a_pixel(world: World) -> None:
    halves = Halves(world)
    looks = [
        mosaic_look([halves.west, halves.east], [halves.west_frame, halves.east_frame]),
        mosaic_look([halves.east, halves.west], [halves.east_frame, halves.west_frame]),
    ]
    tiles = [world.build(sample_of(PLACE, look), *halves.scenes) for look in looks]
    first, second = (tile.looks[0].members["s2_10m"][0].astype(int) for tile in tiles)
    assert set(np.unique(second - first)) == {0, 3}
    assert 0 < (second != first).mean() < 0.5


def test_neither_half_alone_is_valid_enough(world: World) -> None:
    halves = Halves(world)
    whole = [halves.west, halves.east], [halves.west_frame, halves.east_frame]
    for s2, s1, named in (
        (whole[0][:1], whole[1], "west: 50"),
        (whole[0][1:], whole[1], "east: "),
        (whole[0], whole[1][:1], "west-frame: 50"),
    ):
        with pytest.raises(SkipError, match=named) as caught:
            world.build(sample_of(PLACE, mosaic_look(s2, s1)), *halves.scenes)
        assert caught.value.reason == "few-valid-pixels"
    hole = world.arrays["B02"][10, 15]
    assert hole > 0
    for scene in whole[0]:
        world.write(f"{scene.id}/B02.tif", np.zeros((36, 42), np.uint16), x=WEST, y=NORTH, resolution_m=10)
    with pytest.raises(SkipError, match=r"west with east: 0\.0% of the pixels"):
        world.build(sample_of(PLACE, mosaic_look(*whole)), *halves.scenes)


def test_a_pixel_of_radar_is_of_one_frame_in_both_polarisations(world: World) -> None:
    s2 = world.optical("s2", offset=0)
    first, second = world.arrays["VV"] + np.float32(1), world.arrays["VH"] + np.float32(2)
    whole = world.radar("second")
    world.arrays |= {"VV": first, "VH": second.copy()}
    world.arrays["VH"][:20] = -32768
    poor = world.radar("first")
    (look,) = world.build(sample_of(PLACE, mosaic_look([s2], [poor, whole])), s2, poor, whole).looks
    from_second = np.arange(36)[:, None] < 20
    world.arrays["VH"] = second
    for band, added, values in zip(S1_BANDS, (1, 2), look.members["s1"], strict=True):
        power = np.where(from_second, world.arrays[band] - np.float32(added), world.arrays[band])
        np.testing.assert_allclose(
            values.astype(np.float64), 10 * np.log10(cut(power, 1, PLACE).astype(np.float64)), atol=0.016
        )


def test_a_mosaic_names_all_its_scenes_with_times_offsets_and_files(world: World) -> None:
    halves = Halves(world)
    look = mosaic_look([halves.west, halves.east], [halves.west_frame, halves.east_frame])
    (built,) = world.build(sample_of(PLACE, look), *halves.scenes).looks
    s2, s1 = built.meta["s2"], built.meta["s1"]
    assert (s2["id"], s2["geossl:mosaic_item_ids"]) == ("west", ["west", "east"])
    assert (s1["id"], s1["geossl:mosaic_item_ids"]) == ("west-frame", ["west-frame", "east-frame"])
    (part,), (frame,) = s2["geossl:mosaic"], s1["geossl:mosaic"]
    assert (s2["geossl:offset_applied"], part["geossl:offset_applied"]) == (0, -1000)
    assert (part["datetime"], frame["datetime"]) == ("2023-06-01T10:20:39Z", "2023-06-01T17:20:55Z")
    assert part["assets"]["B8A"] == "./east/B8A.tif"
    assert part["geossl:product_id"] == "east.SAFE"
    assert frame["assets"] == {"VV": "./east-frame/VV.tif", "VH": "./east-frame/VH.tif"}
    alone = world.build(sample_of(PLACE, look_of(halves.west, halves.west_frame)), *halves.scenes, min_valid=0.1)
    assert not any("mosaic" in key for meta in alone.looks[0].meta.values() for key in meta)


def test_a_part_that_cannot_be_read_is_a_reason_to_skip_even_where_the_rest_would_do(world: World) -> None:
    halves = Halves(world)
    whole = world.optical("whole", offset=0)
    scenes = {scene.id: scene for scene in (*halves.scenes, whole)}
    look = mosaic_look([whole, halves.east], [halves.west_frame, halves.east_frame])
    cases = {
        "missing-scene": {name: scene for name, scene in scenes.items() if name != "east"},
        "missing-asset": scenes | {"east": replace(halves.east, hrefs={"B02": halves.east.hrefs["B02"]})},
        "read-failed": scenes | {"east": replace(halves.east, hrefs=halves.east.hrefs | {"B11": "/gone.tif"})},
    }
    for reason, given in cases.items():
        with pytest.raises(SkipError, match=r"east|gone") as caught:
            world.build(sample_of(PLACE, look), *given.values(), min_valid=0.0)
        assert caught.value.reason == reason
    shifted = world.write("shifted/B05.tif", np.ones((18, 24), np.uint16), x=WEST + 10, y=NORTH, resolution_m=20)
    off = scenes | {"east": replace(halves.east, hrefs=halves.east.hrefs | {"B05": shifted})}
    with pytest.raises(SkipError, match="off a pixel corner"):
        world.build(sample_of(PLACE, look), *off.values(), min_valid=0.0)


def test_a_mosaic_has_a_class_map_only_where_all_parts_have_one(world: World) -> None:
    halves = Halves(world)
    east = replace(halves.east, hrefs={band: href for band, href in halves.east.hrefs.items() if band != "SCL"})
    look = mosaic_look([halves.west, east], [halves.west_frame, halves.east_frame])
    (built,) = world.build(sample_of(PLACE, look), halves.west, east, *halves.scenes[2:]).looks
    assert "scl" not in built.members
    assert built.meta["s2"]["geossl:cloud_fraction"] is None


def test_hrefs_are_relative_to_the_catalog_only_below_it() -> None:
    assert relative_href("/data/planet/a/b.tif", "/data/planet") == "./a/b.tif"
    assert relative_href("/data/planet/a/b.tif", "/data/planet/") == "./a/b.tif"
    assert relative_href("/data/planetoid/b.tif", "/data/planet") == "/data/planetoid/b.tif"
    assert relative_href("https://host/b.tif", None) == "https://host/b.tif"


# ---------------------------------------------------------------------------------------------- real pixels


def real_scene(collection: str, item: str, *, offset: int | None = 0) -> Scene:
    folder = PLANET / collection / item
    if not folder.is_dir():
        pytest.skip(f"no real pixels at {folder}")
    sensor = "s2" if collection.startswith("sentinel-2") else "s1"
    return Scene(
        id=item,
        collection=collection,
        sensor=sensor,
        acquired=TIME,
        ends=TIME,
        footprint=box(0, 0, 1, 1),
        hrefs={path.stem if sensor == "s2" else path.stem.upper(): str(path) for path in folder.glob("*.tif")},
        boa_offset=offset,
    )


def real_tile(s2: Scene, s1: Scene, place: Place) -> Tile:
    with Rasters() as rasters:
        return build_tile(sample_of(place, look_of(s2, s1)), {s2.id: s2, s1.id: s1}, [], rasters, min_valid=0.5)


def test_a_real_chip_at_true_native_resolutions_comes_back_pixel_for_pixel() -> None:
    import rasterio

    s2 = real_scene("sentinel-2-l2a", "S2A_MSIL2A_20170613T101031_87_48")
    s1 = real_scene("sentinel-1-rtc", "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48")
    (look,) = real_tile(s2, s1, place_at(404400.0, 5342400.0, epsg=32633, size_px=120)).looks
    for name in S2_MEMBERS:
        for band, values in zip(MEMBERS[name].bands, look.members[name], strict=True):
            with rasterio.open(s2.hrefs[band]) as dataset:
                np.testing.assert_array_equal(values, dataset.read(1))
    for band, values in zip(S1_BANDS, look.members["s1"], strict=True):
        with rasterio.open(s1.hrefs[band]) as dataset:
            np.testing.assert_allclose(values, 10 * np.log10(dataset.read(1)), atol=0.017)
    assert look.meta["s1"]["geossl:resampling"] == "none"


@pytest.mark.parametrize(
    ("s2_item", "s1_item"),
    [
        ("terramind_38D_378R_2_3_s2l2a_20230610T074621", "terramind_38D_378R_2_3_s1rtc_20230610T160418"),
        ("terramind_609U_541L_3_0_s2l2a_20200111T164649", "terramind_609U_541L_3_0_s1rtc_20200111T232723"),
    ],
)
def test_a_real_chip_off_the_ten_metre_lattice_is_read_exactly(s2_item: str, s1_item: str) -> None:
    import rasterio

    s2, s1 = real_scene("sentinel-2-l2a", s2_item), real_scene("sentinel-1-rtc", s1_item)
    with Rasters() as rasters:
        grid = rasters.grid_of(s2.hrefs["B02"])
    assert grid is not None
    place = place_at(grid.x + 60, grid.y - 120, epsg=grid.epsg, size_px=96)
    (look,) = real_tile(s2, s1, place).looks
    for name, window in (("s2_10m", np.s_[12:108, 6:102]), ("s2_60m", np.s_[2:18, 1:17])):
        for band, values in zip(MEMBERS[name].bands, look.members[name], strict=True):
            with rasterio.open(s2.hrefs[band]) as dataset:
                np.testing.assert_array_equal(values, dataset.read(1)[window])


def test_a_real_chip_whose_sixty_metre_raster_starts_outside_is_cut_on_the_common_lattice_or_refused() -> None:
    s2 = real_scene("sentinel-2-l2a", "satclip_patch_25630")
    s1 = real_scene("sentinel-1-rtc", "terramind_609U_541L_3_0_s1rtc_20200111T232723")
    with Rasters() as rasters:
        fine, coarse = rasters.grid_of(s2.hrefs["B02"]), rasters.grid_of(s2.hrefs["B01"])
        assert fine is not None
        assert coarse is not None
        assert (fine.x - coarse.x, coarse.y - fine.y) == (10.0, 40.0)
        place = place_at(coarse.x + 60, coarse.y - 60, epsg=fine.epsg, size_px=240)
        sample = sample_of(place, look_of(s2, s1))
        with pytest.raises(SkipError, match="outside") as caught:  # the radar scene of another continent
            build_tile(sample, {s2.id: s2, s1.id: s1}, [], rasters, min_valid=0.0)
        off = replace(sample, place=place_at(fine.x, fine.y, epsg=fine.epsg, size_px=240))
        with pytest.raises(SkipError, match="pixel corner") as shifted:
            build_tile(off, {s2.id: s2, s1.id: s1}, [], rasters, min_valid=0.0)
    assert (caught.value.reason, shifted.value.reason) == ("outside", "off-grid")
