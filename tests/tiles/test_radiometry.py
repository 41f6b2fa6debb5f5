"""Offsets, decibels and masks."""

from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geossl_data.bands import MEMBERS
from geossl_data.tiles.radiometry import (
    backscatter_db,
    cloud_fraction,
    harmonise,
    majority_class,
    mask_border_noise,
    mask_power,
    regions,
    s1_valid,
    s2_valid,
    s2_valid_10m,
    s2_valid_fraction,
)


def test_the_offset_is_undone_without_wrapping_and_without_making_dark_pixels_nodata() -> None:
    dn = np.array([0, 1, 500, 1000, 1001, 1500, 65535], dtype=np.uint16)
    assert harmonise(dn, -1000).tolist() == [0, 1, 1, 1, 1, 500, 64535]
    assert harmonise(dn, 0).tolist() == dn.tolist()
    assert harmonise(dn, 1000).tolist() == [0, 1001, 1500, 2000, 2001, 2500, 65535]


@settings(max_examples=40, deadline=None)
@given(arrays(np.uint16, (4, 5)), st.sampled_from([-1000, 0, 1000]))
def test_harmonising_keeps_the_mask_and_the_order(dn: np.ndarray, offset: int) -> None:
    result = harmonise(dn, offset)
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result == 0, dn == 0)
    np.testing.assert_array_equal(np.diff(result.ravel()[np.argsort(dn, axis=None)].astype(int)) >= 0, True)


def test_decibels_of_known_powers() -> None:
    power = np.array([1.0, 0.1, 0.01, 2.0, 1e-9, 0.0, -1.0, -32768.0, np.nan, np.inf, -np.inf], dtype=np.float32)
    db = backscatter_db(power)
    assert db.dtype == np.float32
    assert db[:5].tolist() == pytest.approx([0.0, -10.0, -20.0, 3.01, -60.0], abs=1e-5)
    assert np.isnan(db[5:]).all()


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, (3, 7)))
def test_decibels_are_never_infinite_and_close_to_float64(power: np.ndarray) -> None:
    db = backscatter_db(power).astype(np.float64)
    assert not np.isinf(db).any()
    valid = np.isfinite(power) & (power > 0)
    np.testing.assert_array_equal(np.isfinite(db), valid)
    exact = 10 * np.log10(np.maximum(power[valid].astype(np.float64), 1e-6))
    # Steps of 0.01 dB are off by half a step at most; float32 adds little below 400 dB.
    np.testing.assert_allclose(db[valid], exact, rtol=0, atol=0.005 + 2e-5)
    radar = MEMBERS["s1"]
    np.testing.assert_array_equal(radar.physical(radar.stored(db.astype(np.float32))), db.astype(np.float32))


def test_a_pixel_is_valid_where_every_band_is() -> None:
    dn = np.array([[[1, 0], [5, 7]], [[1, 2], [0, 9]]], dtype=np.uint16)
    assert s2_valid(dn).tolist() == [[True, False], [False, True]]
    db = np.array([[[1, np.nan], [5, 7]], [[1, 2], [3, 9]]], dtype=np.float32)
    assert s1_valid(db).tolist() == [[True, False], [True, True]]


def test_a_coarse_pixel_speaks_for_all_fine_ones_under_it() -> None:
    members = {
        "s2_10m": np.ones((4, 12, 12), np.uint16),
        "s2_20m": np.ones((6, 6, 6), np.uint16),
        "s2_60m": np.ones((2, 2, 2), np.uint16),
    }
    members["s2_60m"][0, 0, 0] = 0  # 36 fine pixels
    members["s2_20m"][3, 5, 5] = 0  # 4 more
    members["s2_20m"][3, 0, 0] = 0  # inside the first
    members["s2_10m"][0, 0, 11] = 0  # 1 more
    assert s2_valid_fraction(members) == pytest.approx(1 - 41 / 144)
    valid = s2_valid_10m(members)
    assert not valid[:6, :6].any()
    assert not valid[10:, 10:].any()
    assert not valid[0, 11]
    assert np.count_nonzero(valid) == 144 - 41


def test_cloud_is_counted_over_classified_pixels() -> None:
    scl = np.array([[0, 0, 4], [8, 9, 3], [10, 11, 5]], dtype=np.uint8)
    assert cloud_fraction(scl) == pytest.approx(4 / 7)
    assert cloud_fraction(np.zeros((2, 2), np.uint8)) is None


def test_the_majority_ignores_unclassified_pixels_and_breaks_ties_downwards() -> None:
    assert majority_class(np.array([[0, 0, 0], [7, 7, 2]], dtype=np.uint8)) == (7, pytest.approx(2 / 6))
    assert majority_class(np.array([[5, 3]], dtype=np.uint8)) == (3, 0.5)
    assert majority_class(np.zeros((2, 2), np.uint8)) == (0, 0.0)


# ------------------------------------------------------------------------------------------------ border noise


def speckled(level_db: tuple[float, float], shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Two polarisations of even ground as Sentinel-1 sees it: gamma-distributed, 4.4 looks."""
    mean = 10 ** (np.array(level_db)[:, None, None] / 10)
    speckle = np.random.default_rng(seed).standard_gamma(4.4, (2, *shape)) / 4.4
    return (mean * speckle).astype(np.float32)


def land(seed: int = 0) -> np.ndarray:
    return speckled((-10, -17), (131, 150), seed)


def grown_by_hand(mask: np.ndarray, pixels: int) -> np.ndarray:
    """All pixels within a square of `pixels` around a True one."""
    result = np.zeros_like(mask)
    for row, column in zip(*np.nonzero(mask), strict=True):
        result[max(row - pixels, 0) : row + pixels + 1, max(column - pixels, 0) : column + pixels + 1] = True
    return result


def rim(kind: str) -> np.ndarray:
    """Where the rim lies in `land()`: 20 pixels wide."""
    rows, columns = np.indices((131, 150))
    return {
        "west": columns < 20,
        "south": rows >= 111,
        "all around": (columns < 20) | (columns >= 130) | (rows < 20) | (rows >= 111),
        "slanted": (columns - rows / 5 < 20),
    }[kind]


def filled(kind: str, where: np.ndarray) -> np.ndarray:
    """Values of a rim of zeros and traces: 0 outside, 1e-5 towards the scene, and other ways in which it occurs."""
    inner = where & grown_by_hand(~where, 10)
    chance = np.random.default_rng(3).random(where.shape)
    return {
        "zeros outside": np.where(inner, 1e-5, 0.0),
        "zeros inside": np.where(inner, 0.0, 1e-5),
        "mixed": np.where(chance < 0.5, 0.0, 1e-5),
        "traces": np.full(where.shape, 1e-5),
        "speckled traces": np.where(inner, 10**-4.2 * (0.2 + 1.6 * chance), 0.0),
        "beyond a border without data": np.where(inner, 1e-5, -32768.0),
        "beyond NaN": np.where(inner, 1e-5, np.nan),
    }[kind].astype(np.float32)


@pytest.mark.parametrize("side", ["west", "south", "all around", "slanted"])
@pytest.mark.parametrize(
    "kind",
    [
        "zeros outside",
        "zeros inside",
        "mixed",
        "traces",
        "speckled traces",
        "beyond a border without data",
        "beyond NaN",
    ],
)
def test_a_rim_of_zeros_and_traces_goes_with_three_pixels_and_nothing_else(side: str, kind: str) -> None:
    where = rim(side)
    power = np.where(where, filled(kind, where), land())
    given = power.copy()
    result = mask_border_noise(power)
    np.testing.assert_array_equal(power, given)
    np.testing.assert_array_equal(np.isnan(result).all(axis=0), grown_by_hand(where, 3))
    np.testing.assert_array_equal(np.isnan(result).any(axis=0), grown_by_hand(where, 3))
    kept = ~grown_by_hand(where, 3)
    np.testing.assert_array_equal(result[:, kept], land()[:, kept])
    assert result.dtype == np.float32


def test_one_polarisation_is_masked_like_two() -> None:
    where = rim("west")
    power = np.where(where, filled("zeros outside", where), land())[0]
    result = mask_border_noise(power)
    assert result.shape == (131, 150)
    np.testing.assert_array_equal(np.isnan(result), grown_by_hand(where, 3))
    np.testing.assert_array_equal(result, mask_border_noise(power[None])[0])


def test_zeros_that_were_masked_before_still_show_where_the_scene_ends() -> None:
    where = rim("west")
    noise = filled("zeros outside", where)
    first = mask_power(np.where(where, noise, land()))
    np.testing.assert_array_equal(np.isnan(mask_border_noise(first)).all(axis=0), grown_by_hand(where, 3))


def test_a_clean_edge_costs_nothing() -> None:
    for nothing in (np.nan, -32768.0):
        power = np.where(rim("slanted"), np.float32(nothing), land())
        np.testing.assert_array_equal(mask_border_noise(power), mask_power(power))


@settings(max_examples=60, deadline=None)
@given(
    level_db=st.floats(-33.0, -24.0),
    seed=st.integers(0, 10**6),
    top=st.integers(-20, 120),
    left=st.integers(-20, 140),
    height=st.integers(4, 90),
    width=st.integers(4, 90),
    zeros=st.floats(0, 0.05),
    bands=st.sampled_from([1, 2]),
)
def test_calm_water_stays_wherever_it_lies_in_a_whole_scene(
    level_db: float, seed: int, top: int, left: int, height: int, width: int, zeros: float, bands: int
) -> None:
    """Also where it touches the window's edge, and where noise removal left single zeros in it."""
    power = land(seed)[:bands]
    lake = (slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0)))
    power[(slice(None), *lake)] = speckled((level_db, level_db), (131, 150), seed + 1)[:bands][(slice(None), *lake)]
    power[:, np.random.default_rng(seed).random((131, 150)) < zeros] *= 0
    np.testing.assert_array_equal(mask_border_noise(power), mask_power(power))


def test_calm_water_beside_a_clean_edge_stays() -> None:
    """Speckle takes a few pixels beside the edge below the limit, which make no border."""
    water = speckled((-33, -33), (131, 150))
    assert 3 < np.count_nonzero((water < 10**-3.5).all(axis=0)[:, 20]) < 20
    power = np.where(rim("west"), np.float32(np.nan), water)
    np.testing.assert_array_equal(mask_border_noise(power), mask_power(power))


def test_a_dark_rim_is_noise_only_where_most_of_it_is_an_artefact() -> None:
    """On the window's edge, with nothing else to show that the scene ends there."""
    power = land()
    power[:, :10, 20:95] = 1e-4
    mostly, partly = power.copy(), power.copy()
    mostly[:, :10, 20:60] = 1e-5
    partly[:, :10, 20:50] = 1e-5
    np.testing.assert_array_equal(np.isnan(mask_border_noise(mostly)).all(axis=0).sum(axis=1)[:14], [81] * 13 + [0])
    np.testing.assert_array_equal(mask_border_noise(partly), mask_power(partly))
    short = land()
    short[:, :10, 20:35] = 1e-5
    np.testing.assert_array_equal(mask_border_noise(short), mask_power(short))


def test_dark_ground_without_a_border_stays_however_dark() -> None:
    power = land()
    power[:, 40:70, 50:90] = 1e-4  # a runway, or the shadow of a mountain, at -40 dB
    power[:, 100:, :50] = 1e-4  # the same on the window's edge
    power[:, 60:64, 100:104] = 0  # fewer zeros than make a border
    np.testing.assert_array_equal(mask_border_noise(power), mask_power(power))


def test_low_in_one_polarisation_alone_is_no_noise() -> None:
    power = np.where(rim("west"), np.float32(np.nan), land())
    power[1, :, 20:40] = 1e-5
    np.testing.assert_array_equal(mask_border_noise(power), mask_power(power))


def test_water_beside_noise_loses_little_more_than_the_pixels_eroded() -> None:
    where = rim("west")
    power = np.where(where, filled("zeros outside", where), speckled((-27, -30), (131, 150)))
    lost = np.isnan(mask_border_noise(power)).all(axis=0)
    assert lost[:, :23].all()
    assert np.count_nonzero(lost[:, 23:]) < 20


def test_a_hole_filled_with_zeros_goes_with_what_surrounds_it() -> None:
    power = land()
    where = np.zeros((131, 150), dtype=bool)
    where[50:60, 70:85] = True
    power[:, where] = 0
    np.testing.assert_array_equal(np.isnan(mask_border_noise(power)).all(axis=0), grown_by_hand(where, 3))


def test_how_low_is_low() -> None:
    noise = land()
    noise[:, :, :10] = 0
    above, below = noise.copy(), noise.copy()
    above[:, :, 10:30] = 10**-3.49
    below[:, :, 10:30] = 10**-3.51
    assert np.isnan(mask_border_noise(above)).all(axis=0).sum(axis=1).tolist() == [13] * 131
    assert np.isnan(mask_border_noise(below)).all(axis=0).sum(axis=1).tolist() == [33] * 131


def regions_by_hand(mask: np.ndarray) -> np.ndarray:
    """Regions joined by their sides, by walking from pixel to pixel."""
    numbers = np.zeros(mask.shape, dtype=int)
    for start in zip(*np.nonzero(mask), strict=True):
        if numbers[start]:
            continue
        numbers[start] = numbers.max() + 1
        waiting = deque([start])
        while waiting:
            row, column = waiting.popleft()
            for at in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                inside = 0 <= at[0] < mask.shape[0] and 0 <= at[1] < mask.shape[1]
                if inside and mask[at] and not numbers[at]:
                    numbers[at] = numbers[start]
                    waiting.append(at)
    return numbers


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 14), st.integers(1, 17), st.sampled_from([0.3, 0.5, 0.6, 0.7, 0.9, 1.0]), st.integers(0, 2**32 - 1)
)
def test_regions_are_those_found_by_walking(height: int, width: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    np.testing.assert_array_equal(regions(mask), regions_by_hand(mask))


def test_regions_of_spirals_and_combs() -> None:
    snake = np.zeros((33, 20), dtype=bool)
    snake[::2] = True
    snake[1::4, -1] = True
    snake[3::4, 0] = True
    comb = np.zeros((9, 21), dtype=bool)
    comb[:, ::2] = True
    comb[-1] = True
    for mask in (snake, snake.T, comb, comb[::-1], np.zeros((3, 4), dtype=bool)):
        np.testing.assert_array_equal(regions(mask), regions_by_hand(mask))
    assert regions(snake).max() == 1


def border_noise_by_hand(power: np.ndarray) -> np.ndarray:
    """Where `mask_border_noise` says in words that a measurement goes, pixel by pixel."""
    height, width = power.shape[1:]
    measured = [[[v for v in power[:, r, c] if np.isfinite(v) and v > 0] for c in range(width)] for r in range(height)]
    nothing = np.array([[not values for values in row] for row in measured])
    zero = (power == 0).any(axis=0)
    low = np.array([[bool(values) and max(values) < 10**-3.5 for values in row] for row in measured])
    artefact = np.array([[bool(values) and max(values) < 10**-4.5 for values in row] for row in measured])
    edge = np.ones((height, width), dtype=bool)
    edge[1:-1, 1:-1] = False
    noise = low | (nothing & zero)
    numbers = regions_by_hand(nothing | low)
    gone = np.zeros((height, width), dtype=bool)
    for number in range(1, numbers.max() + 1):
        region = numbers == number
        hole = any((region & nothing)[r : r + 5, c : c + 5].all() for r in range(height - 4) for c in range(width - 4))
        artefacts = (region & edge & artefact).sum()
        is_rim = artefacts >= 16 and 2 * artefacts > (region & edge & low).sum()
        if (region & noise).sum() >= 32 and (hole or is_rim):
            gone |= region
    return grown_by_hand(gone, 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4, 6]), st.floats(0, 0.7))
def test_border_noise_is_what_the_words_say(bands: int, seed: int, grain: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    kinds = np.array([0.0, 0.0, 1e-5, 1e-5, 2e-4, np.nan, -32768.0, -1.0, np.inf], dtype=np.float32)
    coarse = rng.choice(kinds, (24 // grain, 30 // grain)).repeat(grain, axis=0).repeat(grain, axis=1)
    dark = (rng.random((24 // grain, 30 // grain)) < share).repeat(grain, axis=0).repeat(grain, axis=1)
    height, width = coarse.shape
    power = np.where(dark, coarse, speckled((-10, -17), (height, width), seed)[:bands])
    if bands == 2:
        power[1, rng.random((height, width)) < 0.1] = 0.1
    expected = mask_power(power)
    expected[:, border_noise_by_hand(power)] = np.nan
    np.testing.assert_array_equal(mask_border_noise(power), expected)


def test_no_whole_scene_of_the_sandbox_loses_a_pixel(planet: Path) -> None:
    import rasterio

    scenes = sorted((planet.parent / "sentinel-1-rtc").iterdir())
    assert len(scenes) > 5
    for scene in scenes:
        power = np.stack([rasterio.open(scene / f"{band}.tif").read(1) for band in ("vv", "vh")])
        np.testing.assert_array_equal(mask_border_noise(power), mask_power(power))


def test_no_real_window_without_a_border_loses_a_pixel(real_planet: Path) -> None:
    import rasterio

    scenes = sorted((real_planet.parent / "items" / "sentinel-1-rtc").iterdir())
    assert len(scenes) > 25
    for scene in scenes:
        power = np.stack([rasterio.open(scene / f"{band}.tif").read(1) for band in ("vv", "vh")])
        np.testing.assert_array_equal(mask_border_noise(power), mask_power(power))
