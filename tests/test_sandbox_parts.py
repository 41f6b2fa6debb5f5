"""The rules that the sandbox's planet is made by, one by one."""

import itertools
import math
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.sandbox import SANDBOX_CLASSES
from geossl_data.sandbox.catalog import Cut, clipped, footprint
from geossl_data.sandbox.land import CHANGES, make_land
from geossl_data.sandbox.noise import Frame, block_mean, smooth_noise, stream, uniform
from geossl_data.sandbox.optical import make_sky
from geossl_data.sandbox.optical import render as render_optical
from geossl_data.sandbox.radar import LOOKS, make_swath, powers, rounded
from geossl_data.sandbox.radar import render as render_radar
from geossl_data.sandbox.regions import FULL_OVERLAP, FULL_SIDE, LAYOUTS, PERIODS, REGIONS, origin
from geossl_data.sandbox.schedule import OFFSET_FROM, PARTNER, S1_REPEAT, passes, sun_position
from geossl_data.sandbox.surfaces import (
    KINDS,
    MATERIALS,
    OPTICAL_BANDS,
    SURFACES,
    TEMPERATE,
    bump,
    make_units,
    shares,
)

EXTENT = Frame(col=0, row=0, width=600, height=480)


def small_land(region: int = 0, seed: int = 3):
    return make_land(REGIONS[region], EXTENT, seed=seed, n_changes=4, side=480)


# noise


@settings(max_examples=15, deadline=None)
@given(
    col=st.integers(-500, 500),
    row=st.integers(-500, 500),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    wavelength=st.sampled_from([1.9, 6.0, 35.0, 260.0]),
)
def test_any_window_of_a_field_holds_the_same_numbers(
    col: int, row: int, width: int, height: int, wavelength: float
) -> None:
    whole = smooth_noise(Frame(col=col - 7, row=row - 5, width=width + 20, height=height + 9), wavelength, 11)
    part = smooth_noise(Frame(col=col, row=row, width=width, height=height), wavelength, 11)
    np.testing.assert_array_equal(part, whole[5 : 5 + height, 7 : 7 + width])


def test_noise_has_mean_zero_and_deviation_one() -> None:
    field = smooth_noise(Frame(col=0, row=0, width=400, height=400), 2.0, stream(0, "a"))
    assert abs(float(field.mean())) < 0.02
    assert abs(float(field.std()) - 1) < 0.03
    other = smooth_noise(Frame(col=0, row=0, width=400, height=400), 2.0, stream(0, "b"))
    assert abs(float(np.corrcoef(field.ravel(), other.ravel())[0, 1])) < 0.03


def test_a_half_pixel_shift_moves_the_field_by_half_a_pixel() -> None:
    fine = smooth_noise(Frame(col=0, row=0, width=80, height=2, step=0.5), 9.0, 5)
    moved = smooth_noise(Frame(col=-0.25, row=-0.25, width=40, height=1, step=1.0), 9.0, 5)
    np.testing.assert_allclose(moved[0], fine[0, ::2], atol=1e-6)


def test_uniform_numbers_are_uniform() -> None:
    draws = uniform(7, np.arange(100)[:, None], np.arange(100)[None, :])
    counts = np.histogram(draws, bins=10, range=(0, 1))[0]
    assert counts.min() > 900
    assert counts.max() < 1100


def test_block_mean_by_hand() -> None:
    image = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert block_mean(image, 2).tolist() == [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]


# surfaces


def test_bump_by_hand() -> None:
    days = np.array([99.0, 105.0, 110.0, 150.0, 205.0, 210.0, 464.0])
    np.testing.assert_allclose(bump(days, (100, 110, 200, 210)), [0, 0.5, 1, 1, 0.5, 0, 0])


def test_mixtures_add_up_to_one() -> None:
    for kinds in SURFACES.values():
        for surface in kinds:
            assert shares(surface.low).sum() == pytest.approx(1)
            assert shares(surface.high).sum() == pytest.approx(1)


def test_units_without_variety_are_their_materials() -> None:
    units = make_units(np.array([1], np.uint8), [SURFACES[1]], np.random.default_rng(0), variety=0)
    water = 0.75 * np.array(MATERIALS["clear"]) + 0.25 * np.array(MATERIALS["turbid"])
    reflectance = units.reflectance(TEMPERATE, 200.0)
    assert reflectance.shape == (len(OPTICAL_BANDS), KINDS)
    np.testing.assert_allclose(reflectance[:, 0], water, rtol=1e-6)
    np.testing.assert_allclose(units.gamma_naught(TEMPERATE, 200.0)[:, 0], [-18.0, -26.0])


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: region.name)
def test_broadleaf_forest_follows_the_seasons_of_its_hemisphere(region) -> None:
    units = make_units(np.array([2], np.uint8), [SURFACES[2]], np.random.default_rng(0), variety=0)
    january, july = (units.greenness(region.climate, day)[0] for day in (15.0, 196.0))
    if region.climate.least > 0.8:
        assert min(january, july) > 0.8
    elif region.climate.southern:
        assert january > july + 0.3
    else:
        assert july > january + 0.1


# regions and schedule


def test_there_are_regions_all_over_the_planet() -> None:
    assert len(REGIONS) >= 6
    assert len({region.epsg for region in REGIONS}) == len(REGIONS)
    assert any(region.epsg // 100 == 327 for region in REGIONS)
    assert any(179 < abs(region.longitude) < 180 for region in REGIONS)
    assert any(region.s1_shift_m % 10 for region in REGIONS)


@pytest.mark.parametrize("size", LAYOUTS)
def test_tiles_begin_on_multiples_of_60_m_from_the_real_corner(size) -> None:
    layout = LAYOUTS[size]
    assert layout.side % 6 == layout.overlap % 6 == 0
    for region in REGIONS:
        x, y = origin(region, layout)
        assert (x - region.corner[0]) % 60 == 0
        assert (region.corner[1] - y) % 60 == 0


def test_full_size_tiles_are_the_real_ones() -> None:
    assert origin(REGIONS[0], LAYOUTS["large"]) == (399960.0, 5300040.0)
    assert 399960.0 + (FULL_SIDE - FULL_OVERLAP) * 10 == 499980.0


def test_sun_position_by_hand() -> None:
    # Noon at the equinox: elevation is 90° minus latitude, the sun stands in the south of the northern hemisphere.
    elevation, azimuth = sun_position(50.0, 80.0, 12.0)
    assert math.degrees(elevation) == pytest.approx(40.0, abs=0.6)
    assert math.degrees(azimuth) == pytest.approx(180.0, abs=0.1)
    _, morning = sun_position(50.0, 80.0, 9.0)
    assert 90 < math.degrees(morning) < 180
    _, southern = sun_position(-35.0, 355.0, 12.0)
    assert math.degrees(southern) % 360 == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: region.name)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_passes_keep_the_repeat_cycles_and_cover_both_eras(region, seed: int) -> None:
    optical, radar = passes(region, LAYOUTS["small"], seed)
    first = optical[0].acquired
    assert all((item.acquired - first) % timedelta(days=5) == timedelta() for item in optical)
    for orbit in {item.orbit for item in radar}:
        times = [item.acquired for item in radar if item.orbit == orbit]
        assert all((when - times[0]) % S1_REPEAT == timedelta() for when in times)
    assert all((item.absolute_orbit - 73) % 175 + 1 == item.orbit for item in radar)
    assert {item.state for item in radar} == {"ascending", "descending"}
    assert any(item.acquired < OFFSET_FROM and item.offset == 0 for item in optical)
    assert any(item.acquired < OFFSET_FROM and item.offset == 1000 for item in optical)
    assert all(item.offset == 1000 for item in optical if item.acquired >= OFFSET_FROM)
    gaps = [min(abs(other.acquired - item.acquired) for other in radar) for item in optical]
    assert any(gap > PARTNER for gap in gaps)
    assert sum(gap <= PARTNER for gap in gaps) >= 6
    per_year = [sum(item.acquired.year == year for item in optical) for year in PERIODS]
    assert per_year[0] >= 4 <= per_year[-1]


# catalog


def test_clipped_square_by_hand() -> None:
    square = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0)]
    kept = clipped(square, Cut(east=1.0, south=1.0, limit=15.0))
    assert sorted(kept) == [(0.0, 0.0), (0.0, 10.0), (5.0, 10.0), (10.0, 0.0), (10.0, 5.0)]
    assert clipped(square, Cut(east=1.0, south=0.0, limit=-1.0)) == []


def test_footprint_is_counter_clockwise_and_closed() -> None:
    corners = [(500_000.0, 5_300_000.0), (510_000.0, 5_300_000.0), (510_000.0, 5_290_000.0), (500_000.0, 5_290_000.0)]
    geometry, bbox = footprint(32632, corners)
    ring = geometry["coordinates"][0]
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring))
    assert ring[0] == ring[-1]
    assert area > 0
    assert bbox[0] == 9.0
    assert bbox[1] < 47.8 < bbox[3] + 0.1


# land


def test_ground_is_the_same_in_every_window() -> None:
    land = small_land()
    whole = land.ground(EXTENT)
    part = land.ground(Frame(col=96, row=204, width=120, height=66))
    expected = whole.part(slice(204, 270), slice(96, 216))
    for name in ("unit", "klass", "crowns", "clumps", "slope_east", "slope_north"):
        np.testing.assert_array_equal(getattr(part, name), getattr(expected, name))


def test_units_belong_to_the_class_of_the_map() -> None:
    land = small_land()
    for year in PERIODS:
        ground, _ = land.changed(EXTENT, land.ground(EXTENT), year)
        np.testing.assert_array_equal(land.units.klass[ground.unit], ground.klass)
        assert set(np.unique(ground.klass)) <= set(SANDBOX_CLASSES)


def test_changes_happen_between_years_and_change_the_class() -> None:
    land = small_land(1)
    base = land.ground(EXTENT)
    first, none = land.changed(EXTENT, base, PERIODS[0])
    last, kinds = land.changed(EXTENT, base, PERIODS[-1])
    assert not none.any()
    np.testing.assert_array_equal(first.klass != last.klass, kinds > 0)
    active = {CHANGES[change.kind] for change in land.changes if change.last_year >= PERIODS[-1]}
    assert set(np.unique(kinds)) - {0} == active


# optical and radar


def test_a_shifted_radar_grid_sees_the_same_ground() -> None:
    land = small_land()
    moved = land.ground(Frame(col=100.37, row=50.37, width=200, height=200)).klass
    still = land.ground(Frame(col=100, row=50, width=200, height=200)).klass
    assert (moved == still).mean() > 0.95


def test_the_offset_is_added_to_valid_numbers() -> None:
    land = small_land()
    frame = Frame(col=60, row=60, width=120, height=60)
    item = passes(land.region, LAYOUTS["small"], 0)[0][1]
    sky = make_sky(land, item, EXTENT, 0)
    ground = land.ground(frame)
    table = land.units.reflectance(land.region.climate, sky.day)
    with_offset, without = (render_optical(frame, ground, table, sky, offset) for offset in (1000, 0))
    for band in OPTICAL_BANDS:
        difference = with_offset[band].astype(int) - without[band]
        assert set(np.unique(difference[without[band] > 1])) == {1000}
        assert without[band].min() >= 1
    assert with_offset["B05"].shape == with_offset["SCL"].shape == (30, 60)
    assert with_offset["B01"].shape == (10, 20)


def test_speckle_has_the_looks_it_should() -> None:
    land = small_land()
    frame = Frame(col=0, row=0, width=480, height=240)
    swath = make_swath(land, passes(land.region, LAYOUTS["small"], 0)[1][0], 0)
    ground = land.ground(frame)
    first, second = (
        render_radar(frame, ground, powers(land, swath), swath, 300.0, 300.0, np.random.default_rng(seed))["VV"]
        for seed in (1, 2)
    )
    # The ratio of two speckles cancels the ground; its logarithm has twice the variance of one, ψ₁(4.4) each.
    trigamma = sum(1 / (LOOKS + k) ** 2 for k in range(100_000))
    assert float(np.log(first / second).var()) == pytest.approx(2 * trigamma, rel=0.03)
    assert abs(float(np.log(first / second).mean())) < 0.02


@given(backscatter_db=st.floats(-50, 30))
def test_rounding_stays_far_below_the_speckle(backscatter_db: float) -> None:
    power = 10 ** (backscatter_db / 10)
    (value,) = rounded(np.array([power], np.float32))
    assert abs(10 * math.log10(value / power)) <= 0.035
    assert rounded(np.array([value], np.float32))[0] == value
