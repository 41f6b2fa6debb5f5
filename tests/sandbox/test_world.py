"""The planet of size `world`: its geography as numbers, one of its regions on disk, and the others as they were."""

import json
import math
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.grid import from_lonlat, haversine_km, to_lonlat
from geossl_data.records import Pair
from geossl_data.sampling.layers import continent
from geossl_data.sampling.looks import choose_looks
from geossl_data.sandbox import build_sandbox, planet, world
from geossl_data.sandbox.land import CHANGES, make_land
from geossl_data.sandbox.noise import Frame
from geossl_data.sandbox.optical import make_sky
from geossl_data.sandbox.optical import render as render_optical
from geossl_data.sandbox.planet import make_site, planned, truth_of
from geossl_data.sandbox.radar import make_swath, powers
from geossl_data.sandbox.radar import render as render_radar
from geossl_data.sandbox.regions import FULL_SIDE, LAYOUTS, REGIONS, origin
from geossl_data.sandbox.schedule import OpticalPass, RadarPass, passes
from geossl_data.sandbox.surfaces import CROP, MATERIALS, OPTICAL_BANDS, SURFACES, WATER, make_units, spectra

LON = np.array([region.longitude for region in world.regions()])
LAT = np.array([region.latitude for region in world.regions()])
anywhere = {"lon": st.floats(-180, 180), "lat": st.floats(-70, 75)}


# tiles

# From the published table of Sentinel-2 tiles.
REAL = {
    "rift": (32737, "37MCV", (300000.0, 10000000.0)),
    "puszta": (32634, "34TDT", (399960.0, 5300040.0)),
    "fairbanks": (32606, "06WWS", (499980.0, 7200000.0)),
    "waikato": (32760, "60HUD", (300000.0, 5900020.0)),
    "la-plata": (32720, "20HQG", (699960.0, 6200020.0)),
    "bengal": (32645, "45RXH", (600000.0, 2800020.0)),
}


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: region.name)
def test_a_point_lies_on_the_real_tile_of_its_square(region: Any) -> None:
    lon, lat = to_lonlat(region.epsg, region.corner[0] + 50_000, region.corner[1] - 50_000)
    assert world.mgrs_tile(float(lon), float(lat)) == (region.tile, region.corner)


def test_regions_lie_on_real_tiles() -> None:
    found = {region.name: (region.epsg, region.tile, region.corner) for region in world.regions()}
    assert {name: found[name] for name in REAL} == REAL


def test_regions_lie_about_their_points_and_inside_their_tiles() -> None:
    layout = world.LAYOUT
    for region in world.regions():
        west, north = origin(region, layout)
        assert (west - region.corner[0]) % 60 == (region.corner[1] - north) % 60 == 0
        assert 0 <= west - region.corner[0] <= (FULL_SIDE - layout.side) * 10
        assert 0 <= region.corner[1] - north <= (FULL_SIDE - layout.side) * 10
        x, y = from_lonlat(region.epsg, region.longitude, region.latitude)
        assert west <= x <= west + layout.side * 10, region.name
        assert north - layout.side * 10 <= y <= north, region.name


# geography


def test_there_are_64_regions_on_six_continents() -> None:
    assert len({region.tile for region in world.regions()}) == len({region.name for region in world.regions()}) == 64
    assert {region.name for region in world.regions()} == set(world.LAYOUT.regions)
    assert not {region.name for region in world.regions()} & {region.name for region in REGIONS}
    assert [region.continent for region in world.regions()] == continent(LON, LAT).tolist()
    assert min(Counter(region.continent for region in world.regions()).values()) >= 8


@settings(max_examples=30)
@given(**anywhere)
def test_shares_and_seasons_are_sound_everywhere(lon: float, lat: float) -> None:
    shares = world.class_shares(lon, lat)
    assert sum(shares) == pytest.approx(1)
    assert 0.03 <= min(shares) <= max(shares) < 0.6
    weather = world.climate(lon, lat)
    assert weather.southern == (lat < 0)
    assert 0 <= weather.least < 0.95
    for start, full, fall, gone in (weather.wild, weather.winter, weather.summer, weather.snow or weather.wild):
        assert start < full <= fall < gone < start + 365


@settings(max_examples=20)
@given(**anywhere, bearing=st.floats(0, 2 * math.pi))
def test_a_hundred_kilometres_on_the_land_is_much_the_same(lon: float, lat: float, bearing: float) -> None:
    north, east = 0.9 * math.cos(bearing), 0.9 * math.sin(bearing) / math.cos(math.radians(lat))
    there = ((lon + east + 180) % 360 - 180, lat + north)
    assert np.abs(np.subtract(world.class_shares(lon, lat), world.class_shares(*there))).max() < 0.06
    assert np.abs(spectra(world.palette(lon, lat)) / spectra(world.palette(*there)) - 1).max() < 0.2


def test_near_regions_are_more_alike_than_far_ones() -> None:
    shares = np.log([region.shares for region in world.regions()])
    tones = np.log([spectra(region.palette)[list(MATERIALS).index("soil")] for region in world.regions()])
    pairs = np.array(list(combinations(range(64), 2)))
    a, b = pairs.T
    km = haversine_km(LON[a], LAT[a], LON[b], LAT[b])
    for values in (shares, tones):
        apart = np.linalg.norm(values[a] - values[b], axis=1)
        assert apart[km < 1200].mean() < 0.7 * apart[km > 5000].mean()


def test_fields_have_mean_0_and_deviation_1() -> None:
    number = np.arange(200) + 0.5
    lat = np.degrees(np.arcsin(1 - 2 * number / 200))
    lon = (number * 137.50776) % 360 - 180
    values = np.array(
        [[world.field(f"any {k}", x, y) for x, y in zip(lon, lat, strict=True)] for k in range(6)],
    )
    assert abs(values.mean()) < 0.15
    assert values.std() == pytest.approx(1, abs=0.1)


def test_it_is_green_in_the_wet_tropics_and_white_in_the_cold() -> None:
    assert world.climate(103.6, -3.0).least > 0.5
    assert world.climate(103.6, -3.0).snow is None
    snow = world.climate(-146.3, 64.7).snow
    assert snow is not None
    assert snow[2] - snow[1] > 100
    boreal, sahel = world.class_shares(-146.3, 64.7), world.class_shares(-2.2, 13.6)
    assert boreal[2] > 2 * sahel[2]


# dates and changes


def paired(optical: OpticalPass, radar: RadarPass) -> Pair:
    return Pair(
        s2_id=f"s2-{optical.number}",
        s1_id=f"s1-{radar.acquired:%Y-%m-%d}",
        s2_acquired=optical.acquired,
        s1_acquired=radar.acquired,
        gap_hours=(radar.acquired - optical.acquired) / timedelta(hours=1),
        overlap=1.0,
        rank=0,
        n_candidates=1,
        s1_relative_orbit=radar.orbit,
        s1_orbit_state=radar.state,
    )


def test_every_region_has_three_seasons_in_two_years() -> None:
    for region in world.regions():
        optical, radar = passes(region, world.LAYOUT, seed=0)
        assert [item.acquired.year for item in optical] == [2021, 2021, 2021, 2022, 2023, 2023, 2023]
        near = {
            item.number: [one for one in radar if abs(one.acquired - item.acquired) < timedelta(days=3)]
            for item in optical
        }
        assert [bool(near[item.number]) for item in optical] == [item.slot.radar != "far" for item in optical]
        found = [paired(item, near[item.number][0]) for item in optical if near[item.number]]
        assert len(choose_looks("seasons", found, {}, dates=3)) == 3, region.name
        assert len(choose_looks("long", found, {}, dates=3)) == 6, region.name


def test_changes_of_all_kinds_are_planted_nearly_everywhere() -> None:
    sites = [make_site(region, world.LAYOUT, 0) for region in world.regions()[::5]]
    changes = [change for site in sites for change in site.land.changes]
    assert len(changes) >= 1.2 * len(sites)
    assert Counter(change.kind for change in changes).keys() == CHANGES.keys()
    assert all((change.first_year, change.last_year) == (2023, 2023) for change in changes)


# the planet


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Catalog of a world of one region, 120 pixels wide."""
    layout = replace(world.LAYOUT, regions=("puszta",), side=120)
    (region,) = [region for region in world.regions() if region.name == "puszta"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planet, "planned", lambda size: (layout, (region,)))
        return build_sandbox(tmp_path_factory.mktemp("world"), size="world", workers=1)


def test_a_region_on_disk_says_where_it_is(corner: Path) -> None:
    truth = json.loads((corner.parent / "truth.json").read_text())
    (region,) = truth["regions"]
    assert truth["identity"]["size"] == "world"
    assert (region["name"], region["continent"], region["epsg"]) == ("puszta", "Europe", 32634)
    names = Counter(path.parent.parent.name for path in corner.parent.rglob("*.tif") if path.stem in ("B02", "vv"))
    assert names["sentinel-2-l2a"] == 7
    assert names["sentinel-1-rtc"] == 7


def test_a_region_on_disk_has_its_land(corner: Path) -> None:
    (label,) = corner.parent.glob("geossl-sandbox-labels/*_2021/class.tif")
    with rasterio.open(label) as file:
        classes = file.read(1)
    assert classes.shape == (120, 120)
    assert len(np.unique(classes)) >= 3


def test_all_of_the_world_is_planned() -> None:
    layout, regions = planned("world")
    assert (layout, regions) == (world.LAYOUT, world.regions())
    assert [region.name for region in planned("tiny")[1]] == ["lake-constance", "pampas"]


def test_other_planets_name_no_continents() -> None:
    (record,) = truth_of([make_site(REGIONS[0], LAYOUTS["tiny"], 0)])["regions"]
    assert "continent" not in record


# Mean of B08, mean VH in dB and the first change of a window of the regions of `small`, as they were before there was
# a world.
BEFORE = {
    "lake-constance": (3842.1, -20.54, ("clear-cut", 184.7, 294.8, 51.0, 2022)),
    "ontario": (2810.5, -17.27, ("clear-cut", 472.5, 541.1, 47.5, 2023)),
    "fiji": (1321.4, -24.52, ("clear-cut", 528.1, 394.7, 48.1, 2022)),
}


@pytest.mark.parametrize("name", BEFORE)
def test_other_planets_are_as_they_were(name: str) -> None:
    (region,) = [region for region in REGIONS if region.name == name]
    layout = LAYOUTS["small"]
    extent = Frame(col=0, row=0, width=layout.side, height=layout.side)
    land = make_land(region, extent, seed=0, n_changes=layout.changes, side=layout.side)
    optical, radar = passes(region, layout, 0)
    ground = land.ground(Frame(col=300, row=240, width=24, height=24))
    (clear, *_) = [item for item in optical if item.slot.cloud == 0]
    sky, swath = make_sky(land, clear, extent, 0), make_swath(land, radar[0], 0)
    frame = Frame(col=300, row=240, width=24, height=24)
    table = land.units.reflectance(region.climate, sky.day)
    near = render_optical(frame, ground, table, sky, clear.offset)["B08"]
    images = render_radar(frame, ground, powers(land, swath), swath, 390, 390, np.random.default_rng(0))
    b08, vh, change = BEFORE[name]
    assert float(near.astype(float).mean()) == pytest.approx(b08, abs=0.2)
    assert float(10 * np.log10(images["VH"].mean())) == pytest.approx(vh, abs=0.02)
    first = land.changes[0]
    assert (
        first.kind,
        *(round(value, 1) for value in (first.col, first.row, first.radius)),
        first.first_year,
    ) == change


def test_a_palette_changes_the_materials_that_it_names() -> None:
    factors = tuple(1 + 0.1 * number for number in range(len(OPTICAL_BANDS)))
    plain, other = spectra({}), spectra({"soil": factors})
    soil = list(MATERIALS).index("soil")
    np.testing.assert_allclose(other[soil], plain[soil] * factors)
    np.testing.assert_array_equal(np.delete(other, soil, axis=0), np.delete(plain, soil, axis=0))


def test_years_differ_only_where_they_are_said_to() -> None:
    klass = np.repeat(np.array([WATER, CROP], np.uint8), 60)
    units = make_units(klass, [SURFACES[int(value)] for value in klass], np.random.default_rng(0))
    assert units.in_year(1, 0.0) is units
    first, again, other = units.in_year(1, 1.0), units.in_year(1, 1.0), units.in_year(2, 1.0)
    np.testing.assert_array_equal(first.tint, again.tint)
    assert (first.tint != other.tint).all()
    is_sown = np.isin(units.calendar, (2, 3))
    changed = first.calendar != units.calendar
    assert changed[is_sown].mean() == pytest.approx(0.5, abs=0.08)
    assert not changed[~is_sown].any()
    spread = np.abs(first.backscatter - units.backscatter)[:, 0]
    is_water = units.klass == WATER
    assert spread[is_water].mean() == pytest.approx(0.3 * spread[~is_water].mean(), rel=0.3)
