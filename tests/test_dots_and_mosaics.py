"""Ground on its place through the public chain: a bright dot in both sensors, places across the edges of tiles."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from planets import S1_KEYS, S2_KEYS, Planet, resolution_of

from geossl_data import pipeline
from geossl_data.bands import MEMBERS, S1_NODATA, S2_BANDS, S2_MEMBERS
from geossl_data.grid import Grid, from_lonlat, to_lonlat
from geossl_data.recipe import ShardOptions
from geossl_data.records import Scene
from geossl_data.sandbox.catalog import footprint
from geossl_data.sandbox.cogs import write_cog
from geossl_data.scenes.items import Item
from geossl_data.shards.reading.shards import open_shards
from geossl_data.tiles.build import Tile, build_tile
from geossl_data.tiles.rasters import Rasters

OPTICAL = "S2A_MSIL2A_20210722T095343_R108_T32TMT"
"""A clear scene, before the offset of baseline 04.00."""
EASTERN = "S2A_MSIL2A_20210722T095343_R108_T32TNT"
"""The tile beside it, of the same datatake."""
RADAR = "S1A_IW_GRDH_1SDV_20210723T172931"

# ------------------------------------------------------------------------------------------------ the bright dot

BRIGHT = 300.0
"""Linear power of the dot, 25 dB; the ground is near 0.1."""


def pixel_of(grid: Grid, x: float, y: float) -> tuple[int, int]:
    """Row and column of the pixel that holds a point."""
    return int((grid.y - y) // grid.resolution_m), int((x - grid.x) // grid.resolution_m)


def moved_radar(planet: Planet, item: Item, grid: Grid) -> None:
    """Lay the rasters of a Sentinel-1 item on another grid, with new noise in them."""
    rng = np.random.default_rng(0)
    for key in S1_KEYS:
        image = rng.gamma(4, 0.025, (grid.height, grid.width)).astype(np.float32)
        write_cog(planet.raster(item, key), image, grid, nodata=S1_NODATA)
    item["properties"] |= {
        "proj:code": f"EPSG:{grid.epsg}",
        "proj:epsg": grid.epsg,
        "proj:shape": [grid.height, grid.width],
        "proj:transform": [grid.resolution_m, 0.0, grid.x, 0.0, -grid.resolution_m, grid.y],
        "proj:bbox": list(grid.bounds),
    }
    west, south, east, north = grid.bounds
    item["geometry"], item["bbox"] = footprint(grid.epsg, [(west, north), (east, north), (east, south), (west, south)])


def off_the_lattice(grid: Grid) -> Grid:
    return replace(grid, x=grid.x + 3.7, y=grid.y - 1.2)


def in_the_next_zone(grid: Grid) -> Grid:
    west, south, east, north = grid.bounds
    x, y = from_lonlat(32633, *to_lonlat(grid.epsg, [west, west, east, east], [south, north, south, north]))
    left, top = float(x.min()) // 10 * 10 + 4.0, float(y.max()) // 10 * 10 + 7.0
    return Grid(32633, left, top, 10.0, int((x.max() - left) // 10) + 2, int((top - y.min()) // 10) + 2)


@pytest.mark.parametrize("lattice", [None, off_the_lattice, in_the_next_zone], ids=["same", "off", "zone"])
def test_1_85_2_15_a_bright_dot_is_in_the_same_pixel_of_all_bands_of_both_sensors(
    planet: Path, tmp_path: Path, lattice: Callable[[Grid], Grid] | None
) -> None:
    ours = Planet(planet, tmp_path / "planet", OPTICAL, RADAR)
    optical, radar = ours.one(OPTICAL), ours.one(RADAR)
    if lattice is not None:
        moved_radar(ours, radar, lattice(ours.grid(radar, "vv")))
    folder = tmp_path / "data"
    samples, _ = ours.sampled(folder, count=3)
    place = samples[0].place
    grid, tile = ours.grid(radar, "vv"), ours.grid(optical, "B02")
    # The dot is one pixel of the radar, its centre the point.
    lon, lat = to_lonlat(place.epsg, place.x + 345.0, place.y - 265.0)
    row, column = pixel_of(grid, *(float(value) for value in from_lonlat(grid.epsg, lon, lat)))
    at = to_lonlat(grid.epsg, grid.x + (column + 0.5) * 10, grid.y - (row + 0.5) * 10)
    x, y = (float(value) for value in from_lonlat(tile.epsg, *at))

    def dotted(image: np.ndarray, of: Grid) -> np.ndarray:
        where = pixel_of(of, x, y) if image.dtype.kind == "u" else (row, column)
        image[where] = 60_000 if image.dtype.kind == "u" else BRIGHT
        return image

    for key in S2_BANDS:
        ours.paint(optical, key, dotted)
    for key in S1_KEYS:
        ours.paint(radar, key, dotted)

    pipeline.shard(folder, ShardOptions(shard_mb=64))
    shards = open_shards(folder)
    (index,) = (number for number, entry in enumerate(shards.entries) if entry.key == samples[0].key)
    entry = shards.entries[index]
    found = shards.read(index, 0, [*S2_MEMBERS, "s1"])
    for name in S2_MEMBERS:
        side = MEMBERS[name].resolution_m
        expected = int((entry.y - y) // side), int((x - entry.x) // side)
        for values in found[name]:
            assert values[expected] == 60_000
            assert np.unravel_index(values.argmax(), values.shape) == expected
    expected = int((entry.y - y) // 10), int((x - entry.x) // 10)
    rows, columns = np.indices(found["s1"].shape[1:]) + 0.5
    for decibels in shards.members["s1"].physical(found["s1"]).astype(np.float64):
        assert np.isfinite(decibels).all()
        power = 10 ** (decibels / 10)
        assert np.unravel_index(power.argmax(), power.shape) == expected
        above = np.maximum(power - 5.0, 0)
        centre = ((above * rows).sum() / above.sum(), (above * columns).sum() / above.sum())
        assert np.abs(np.subtract(centre, ((entry.y - y) / 10, (x - entry.x) / 10))).max() <= 0.2
    rule = shards.meta(index)["looks"][0]["s1"]["geossl:resampling"]
    assert rule == ("none" if lattice is None else "bilinear in linear power")


# ------------------------------------------------------------------------------------------------ mosaics


def union_of(scenes: list[Scene], band: str, x: float, y: float, size_px: int) -> np.ndarray:
    """The stored numbers of a place by rasterio, of each pixel the first scene's that has one; 0 where none has."""
    factor = resolution_of(band) // 10
    side = size_px // factor
    union = np.zeros((side, side), np.uint16)
    for scene in reversed(scenes):
        with rasterio.open(scene.hrefs[band]) as dataset:
            column, row = (round(value) for value in ~dataset.transform * (x, y))
            stored = dataset.read(1)
        part = np.zeros_like(union)
        top, left = max(row, 0), max(column, 0)
        inside = stored[top : max(row + side, 0), left : max(column + side, 0)]
        part[top - row : top - row + inside.shape[0], left - column : left - column + inside.shape[1]] = inside
        union = np.where(part > 0, part, union)
    return union


def assert_union(tile: Tile, scenes: dict[str, Scene]) -> None:
    """Hold the optical members of a tile's first look against the union of its scenes' rasters."""
    place, look = tile.sample.place, tile.sample.looks[0]
    parts = [scenes[name] for name in look.s2_ids]
    members = tile.looks[0].members
    for name in (*S2_MEMBERS, "scl"):
        for number, band in enumerate(MEMBERS[name].bands):
            expected = union_of(parts, band, place.x, place.y, place.size_px).astype(int)
            if band != "SCL":
                offset = parts[0].boa_offset or 0
                expected = np.where(expected > 0, np.maximum(expected + offset, 1), 0)
            np.testing.assert_array_equal(members[name] if band == "SCL" else members[name][number], expected)


def test_places_across_the_edge_of_two_tiles_are_the_union_of_both(planet: Path, tmp_path: Path) -> None:
    ours = Planet(planet, tmp_path / "planet", OPTICAL, EASTERN, RADAR)
    eastern = ours.one(EASTERN)
    for key in S2_BANDS:
        # Both tiles hold the same ground: which of them a pixel is of has to show.
        ours.paint(eastern, key, lambda image, _: np.where(image > 0, image + 7, 0).astype(np.uint16))
    samples, scenes = ours.sampled(tmp_path / "data", size=150)
    across = [sample for sample in samples if sample.looks[0].s2_more]
    assert across
    western = next(name for name in scenes if name.startswith(OPTICAL))
    with Rasters() as rasters:
        for sample in across:
            (look,) = sample.looks
            assert {*look.s2_ids} == {western, eastern["id"]}
            for turned in (look, replace(look, s2_id=look.s2_more[0], s2_more=(look.s2_id,))):
                asked = replace(sample, looks=(turned,), spares=())
                tile = build_tile(asked, scenes, [], rasters, min_valid=1.0)
                assert_union(tile, scenes)
                assert tile.looks[0].meta["s2"]["geossl:valid_fraction"] == 1.0
                assert tile.looks[0].meta["s2"]["geossl:resampling"] == "none"
                alone = replace(sample, looks=(replace(look, s2_more=()),), spares=())
                with pytest.raises(Exception, match="raster of 408"):
                    build_tile(alone, scenes, [], rasters, min_valid=0.0)


def test_1_51_two_halves_of_a_tile_from_two_ground_stations_are_whole(planet: Path, tmp_path: Path) -> None:
    ours = Planet(planet, tmp_path / "planet", OPTICAL, RADAR)
    north = ours.one(OPTICAL)
    south = ours.copied(north, north["id"].replace("T095343_R108", "T095357_R108"))
    south["properties"] |= {
        "datetime": "2021-07-22T09:53:57.024Z",
        "s2:product_uri": south["properties"]["s2:product_uri"].replace("T095343", "T095357"),
    }
    grid = ours.grid(north, "B02")
    west, bottom, east, top = grid.bounds
    middle = top - 1800.0
    north["geometry"], north["bbox"] = footprint(grid.epsg, [(west, top), (east, top), (east, middle), (west, middle)])
    south["geometry"], south["bbox"] = footprint(
        grid.epsg, [(west, middle), (east, middle), (east, bottom), (west, bottom)]
    )

    def half(is_north: bool) -> Callable[[np.ndarray, Grid], np.ndarray]:
        def kept(image: np.ndarray, of: Grid) -> np.ndarray:
            row = round((top - middle) / of.resolution_m)
            image[slice(row, None) if is_north else slice(None, row)] = 0
            return image

        return kept

    for key in S2_KEYS:
        ours.paint(north, key, half(True))
        ours.paint(south, key, half(False))
    samples, scenes = ours.sampled(tmp_path / "data", size=84)
    across = [
        sample
        for sample in samples
        if sample.place.y > middle > sample.place.y - 10 * sample.place.size_px and sample.looks[0].s2_more
    ]
    assert across
    with Rasters() as rasters:
        for sample in across:
            assert {*sample.looks[0].s2_ids} == {north["id"], south["id"]}
            tile = build_tile(sample, scenes, [], rasters, min_valid=1.0)
            assert_union(tile, scenes)
            assert tile.looks[0].meta["s2"]["geossl:valid_fraction"] == 1.0
            assert tile.looks[0].meta["s1"]["geossl:valid_fraction"] == 1.0
            with rasterio.open(planet.parent / "sentinel-2-l2a" / north["id"] / "B03.tif") as dataset:
                column, row = (round(value) for value in ~dataset.transform * (sample.place.x, sample.place.y))
                whole = dataset.read(1)[row : row + 84, column : column + 84]
            offset = scenes[north["id"]].boa_offset or 0
            np.testing.assert_array_equal(tile.looks[0].members["s2_10m"][1], np.maximum(whole.astype(int) + offset, 1))
