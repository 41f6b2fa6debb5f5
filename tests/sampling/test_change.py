"""The change score by hand: ratios, images, distances in units of the noise, and what is left where nothing changed."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import box

from geossl_data.records import Look, Scene
from geossl_data.sampling.change import (
    DECIBEL_FLOOR,
    EXCESS,
    LEAST_PIXELS,
    REFLECTANCE_FLOOR,
    change_map,
    change_ratio,
    combined,
    decibels,
    distance,
    grown,
    lower_median,
    mean_power,
    moments,
    period_means,
    reflectance,
    smoothed,
    spectral_entropy,
    upper_mean,
)
from geossl_data.sampling.measures import Block, measure_place, n_features, unknown

SIDE = 60
NAN = float("nan")


def unit_rows(function: np.ufunc, factor: float, shift: float) -> NDArray[np.float64]:
    i, j = np.arange(1, 5)[:, None], np.arange(1, 9)[None, :]
    values = function(factor * i * j + shift)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


# ------------------------------------------------------------------------------------------------ the ratio


def test_the_ratio_is_the_published_one() -> None:
    queries, other_dates = unit_rows(np.sin, 0.37, 0.11), unit_rows(np.cos, 0.41, 0.2)
    d_long, d_short = np.linalg.norm(queries[0] - queries[1]), np.linalg.norm(queries[0] - other_dates[0])
    assert change_ratio(d_long, d_short) == pytest.approx(0.8712298876979, abs=1e-12)


def test_constant_features_have_no_change() -> None:
    np.testing.assert_array_equal(change_ratio(np.zeros(3), np.zeros(3)), np.zeros(3))


@given(d_long=st.floats(1, 1e3), d_short=st.floats(1, 1e3), scale=st.floats(1e2, 1e6))
def test_the_ratio_of_large_distances_does_not_know_their_unit(d_long: float, d_short: float, scale: float) -> None:
    assert change_ratio(d_long * scale, d_short * scale, eps=1e-4) == pytest.approx(d_long / d_short, rel=1e-5)


# ------------------------------------------------------------------------------------------------ images


def test_the_offset_is_undone_before_anything_is_compared() -> None:
    old = np.full((1, 3, 3), 1500, np.uint16)
    np.testing.assert_array_equal(reflectance(old, 0, None), reflectance(old + 1000, -1000, None))
    assert reflectance(old, 0, None)[0, 1, 1] == pytest.approx(0.15)


def test_a_dark_pixel_stays_a_dark_pixel() -> None:
    dark = np.full((1, 1, 1), 400, np.uint16)
    assert reflectance(dark, -1000, None)[0, 0, 0] == pytest.approx(1e-4)


@pytest.mark.parametrize("scl", [0, 1, 3, 8, 9, 10, 11])
def test_what_is_no_view_of_the_ground_is_left_out_with_its_neighbours(scl: int) -> None:
    classes = np.full((5, 5), 4, np.uint8)
    classes[0, 0] = scl
    seen = np.isfinite(reflectance(np.full((2, 5, 5), 900, np.uint16), 0, classes, grown_px=1))
    expected = np.ones((5, 5), bool)
    expected[:2, :2] = False
    np.testing.assert_array_equal(seen, np.stack([expected, expected]))


def test_one_band_without_data_takes_the_pixel_from_all() -> None:
    dn = np.full((2, 5, 5), 900, np.uint16)
    dn[1, 4, 4] = 0
    assert np.isnan(reflectance(dn, -1000, None)[0, 3:, 3:]).all()
    assert np.isfinite(reflectance(dn, -1000, None)[0, :3]).all()


def test_decibels_are_of_the_mean_power() -> None:
    power = np.ones((2, 5, 5), np.float32)
    power[:, ::2] = 0.01
    # Rows 1 and 3 lie between two of 0.01: three pixels of 1 and six of 0.01.
    assert decibels(power)[0, 1, 2] == pytest.approx(10 * math.log10((3 + 6 * 0.01) / 9), abs=1e-4)


def test_one_polarisation_without_a_measurement_takes_the_pixel_and_its_neighbours() -> None:
    power = np.full((2, 6, 6), 0.1, np.float32)
    power[1, 0, 0] = np.nan
    known = np.isfinite(decibels(power))
    assert not known[:, :2, :2].any()
    assert known.sum() == 2 * (36 - 4)
    assert np.isfinite(decibels(np.zeros((2, 4, 4), np.float32))).all()


def test_a_mask_grows_by_a_pixel_in_all_directions() -> None:
    mask = np.zeros((5, 6), bool)
    mask[2, 2] = True
    assert grown(mask, 1)[1:4, 1:4].all()
    assert [grown(mask, pixels).sum() for pixels in (0, 1, 2)] == [1, 9, 25]


def test_smoothing_leaves_out_what_is_unknown() -> None:
    values = np.array([[1, 2, NAN], [4, 5, 6]], np.float32)
    np.testing.assert_allclose(smoothed(values), [[3, 3.6, NAN], [3, 3.6, 13 / 3]], rtol=1e-6)


def test_a_season_counts_in_both_periods_or_in_none() -> None:
    def image(value: float) -> NDArray[np.float32]:
        return np.full((1, 1, 1), value, np.float32)

    early, late = period_means([image(1), image(100)], [image(3), image(NAN)])
    assert (float(early[0, 0, 0]), float(late[0, 0, 0])) == (1.0, 3.0)
    assert float(mean_power([image(1), image(3), image(NAN)])[0, 0, 0]) == 2.0
    assert np.isnan(mean_power([image(NAN)])).all()


# ------------------------------------------------------------------------------------------------ distances


def ground(seed: int, bands: int = 6) -> NDArray[np.float32]:
    """Patches of nine kinds of land with a little texture, reflectance 0.05 to 0.45."""
    draw = np.random.default_rng(seed)
    kind = draw.integers(0, 9, (SIDE // 5, SIDE // 5)).repeat(5, axis=0).repeat(5, axis=1)
    spectra = draw.uniform(0.05, 0.45, (bands, 9))
    return (spectra[:, kind] * draw.normal(1, 0.03, (SIDE, SIDE))).astype(np.float32)


def noisy(image: NDArray[np.float32], seed: int, std: float = 0.004) -> NDArray[np.float32]:
    return (image + np.random.default_rng(seed).normal(0, std, image.shape)).astype(np.float32)


def test_a_date_is_at_no_distance_from_itself() -> None:
    land = ground(1)
    assert float(distance(land, land, REFLECTANCE_FLOOR).max()) < 1e-3


@settings(max_examples=15)
@given(gains=st.lists(st.floats(0.6, 1.6), min_size=6, max_size=6), shift=st.floats(-0.02, 0.05))
def test_light_and_haze_make_no_distance(gains: list[float], shift: float) -> None:
    land = ground(2)
    other = land * np.array(gains, np.float32)[:, None, None] + np.float32(shift)
    assert float(distance(land, other, REFLECTANCE_FLOOR).max()) < 0.05


def test_noise_alone_is_a_distance_of_about_one() -> None:
    land = ground(3)
    found = distance(noisy(land, 1), noisy(land, 2), REFLECTANCE_FLOOR)
    assert float(np.median(found)) == pytest.approx(1.0, abs=0.15)
    assert float(np.mean(found > EXCESS)) < 0.05


def test_a_planted_patch_stands_out_of_the_noise_and_keeps_its_place() -> None:
    land = ground(4)
    other = land.copy()
    other[:, 20:30, 35:45] = np.array([0.3, 0.3, 0.32, 0.35, 0.4, 0.38], np.float32)[:, None, None]
    found = distance(noisy(land, 1), noisy(other, 2), REFLECTANCE_FLOOR)
    assert float(found[21:29, 36:44].min()) > 5
    found[19:31, 34:46] = 0
    assert float(np.quantile(found, 0.99)) < 2.5


def test_a_sixth_of_the_ground_may_change_at_once() -> None:
    land = ground(4)
    other = land.copy()
    other[:, 5:29, 5:29] = np.array([0.3, 0.3, 0.32, 0.35, 0.4, 0.38], np.float32)[:, None, None]
    found = distance(noisy(land, 1), noisy(other, 2), REFLECTANCE_FLOOR)
    assert float(np.median(found[6:28, 6:28])) > 5
    assert float(np.quantile(found[31:], 0.99)) < EXCESS


def test_what_only_one_date_knows_has_no_distance() -> None:
    land, other = ground(5), ground(5)
    land[2, 3, 4], other[0, 8, 9] = np.nan, np.nan
    found = distance(land, other, REFLECTANCE_FLOOR)
    assert sorted(zip(*np.nonzero(np.isnan(found)), strict=True)) == [(3, 4), (8, 9)]


@pytest.mark.parametrize("known", [0, 1, LEAST_PIXELS - 1])
def test_too_few_pixels_have_no_distance(known: int) -> None:
    land = ground(6)
    land.reshape(6, -1)[:, known:] = np.nan
    assert np.isnan(distance(land, land, REFLECTANCE_FLOOR)).all()


def test_constant_bands_are_no_reason_to_fail() -> None:
    flat = np.full((6, SIDE, SIDE), 0.2, np.float32)
    assert float(np.nanmax(distance(flat, flat, REFLECTANCE_FLOOR))) < 1e-3


# ------------------------------------------------------------------------------------------------ maps and places


def one(*values: float) -> list[NDArray[np.float32]]:
    return [np.full((1, 1), value, np.float32) for value in values]


@pytest.mark.parametrize(
    ("values", "median"), [((3,), 3), ((3, 9), 3), ((1, 50, 2), 2), ((NAN, 7, 4), 4), ((NAN, NAN), NAN)]
)
def test_one_bad_date_does_not_count(values: tuple[float, ...], median: float) -> None:
    np.testing.assert_array_equal(lower_median(one(*values)), one(median)[0])


@pytest.mark.parametrize(
    ("long", "short", "change"),
    [
        ((1.5,), (1.0,), 0.0),
        ((6.5,), (), 5.0),
        ((6.5,), (0.4,), 5.0),
        ((6.5,), (2.5,), 2.0),
        ((6.5, 40.0), (NAN, 2.5), 2.0),
        ((6.5,), (NAN,), 5.0),
        ((NAN,), (2.5,), NAN),
    ],
)
def test_change_is_what_exceeds_the_noise_over_what_the_seasons_do(
    long: tuple[float, ...], short: tuple[float, ...], change: float
) -> None:
    assert float(change_map(one(*long), one(*short))[0, 0]) == pytest.approx(change, rel=1e-3, nan_ok=True)


def test_a_score_is_the_mean_of_the_most_changed_twentieth() -> None:
    place = np.zeros((10, 10), np.float32)
    place[0, :5] = [5, 6, 7, 8, 9]
    place[5:, :] = 1
    assert upper_mean(place) == 7.0
    place[1:8] = np.nan
    assert upper_mean(place) == 7.0
    place[1:9] = np.nan
    assert math.isnan(upper_mean(place))
    assert math.isnan(upper_mean(np.zeros((0, 3), np.float32)))


def test_one_sensor_stands_in_for_both() -> None:
    found = combined(np.array([3.0, 3.0, NAN, NAN, 0.0]), np.array([4.0, NAN, 4.0, NAN, 0.0]))
    np.testing.assert_allclose(found, [5.0, 3.0, 4.0, NAN, 0.0])


def test_entropy_is_zero_for_one_value_and_six_bits_for_all() -> None:
    assert spectral_entropy(np.full((6, 8, 8), 0.123, np.float32)) == 0.0
    every = (np.arange(64, dtype=np.float32).reshape(8, 8) + 0.5) / 100
    assert spectral_entropy(np.stack([every, every[::-1]])) == pytest.approx(6.0)
    two = np.where(np.arange(64).reshape(8, 8) % 2, 0.105, 0.305).astype(np.float32)
    assert spectral_entropy(np.stack([two, np.full_like(two, 2.0)])) == pytest.approx(0.5)
    assert math.isnan(spectral_entropy(np.full((6, 8, 8), np.nan, np.float32)))


def test_moments_are_over_all_dates_and_known_pixels() -> None:
    first, second = np.full((1, 2, 2), 1, np.float32), np.full((1, 2, 2), 4, np.float32)
    second[0, 0] = np.nan
    np.testing.assert_allclose(moments([first, second]), [2.0, math.sqrt(2)])
    assert np.isnan(moments([np.full((1, 2, 2), np.nan, np.float32)])).all()


# ------------------------------------------------------------------------------------------------ ranked case 15

SEASONS = ((2021, 5, 1), (2021, 8, 1), (2021, 11, 1), (2023, 5, 6), (2023, 7, 28), (2023, 11, 3))
PLANTED = (slice(20, 32), slice(20, 32))
PLACE = (slice(16, 36), slice(16, 36))
ELSEWHERE = (slice(36, 56), slice(36, 56))


class Story:
    """Six looks at one piece of land, as different as baselines, platforms, sun, seasons and clouds make them."""

    def __init__(self, *, planted: bool = False) -> None:
        self.planted = planted
        self.s2: dict[tuple[str, ...], NDArray[np.float32]] = {}
        self.s1: dict[tuple[str, ...], NDArray[np.float32]] = {}
        self.scenes: dict[str, Scene] = {}
        self.looks: list[Look] = []
        for number, date in enumerate(SEASONS):
            self._add(number, datetime(*date, 10, tzinfo=UTC))

    def _add(self, number: int, when: datetime) -> None:
        draw = np.random.default_rng(number)
        look = Look(s2_id=f"s2-{number}", s1_id=f"s1-{number}", acquired=when, gap_hours=4.0)
        is_late = when.year == 2023
        self.looks.append(look)
        # Greening moves every kind of land towards another spectrum; the third season is bare.
        green = (0.2, 1.0, 0.0)[number % 3]
        land = (1 - 0.4 * green) * ground(7) + 0.4 * green * ground(8)
        if self.planted and is_late:
            land[(slice(None), *PLANTED)] = np.linspace(0.28, 0.4, 6)[:, None, None]
        light = draw.uniform(0.85, 1.15) * (1 + draw.uniform(-0.1, 0.1) * np.linspace(-1, 1, 6))
        image = noisy(land * light[:, None, None] + draw.uniform(0, 0.02), 100 + number)
        dn = np.clip(np.rint(image * 1e4), 1, None).astype(np.uint16) + np.uint16(1000 * is_late)
        classes = np.full((SIDE, SIDE), 4, np.uint8)
        if number in (1, 3):
            cloud = (slice(0, 25), slice(10, 30)) if number == 1 else (slice(28, 50), slice(30, 60))
            dn[(slice(None), *cloud)] = 7000
            classes[cloud] = 9
        self.s2[look.s2_ids] = reflectance(dn, -1000 if is_late else 0, classes)
        backscatter = 10 ** (-2.5 + 4 * ground(9, 2)) * 10 ** (draw.uniform(-1.5, 1.5) / 10)
        if self.planted and is_late:
            backscatter[(slice(None), *PLANTED)] *= 5
        self.s1[look.s1_ids] = (backscatter * draw.gamma(70, 1 / 70, backscatter.shape)).astype(np.float32)
        self._scene(look.s1_id, "sentinel-1c" if is_late else "sentinel-1a", when)

    def _scene(self, name: str, platform: str, when: datetime, orbit: int | None = 15) -> None:
        self.scenes[name] = Scene(
            id=name,
            collection="sentinel-1-rtc",
            sensor="s1",
            acquired=when,
            ends=when,
            footprint=box(0, 0, 1, 1),
            hrefs={},
            platform=platform,
            orbit_state="ascending",
            relative_orbit=orbit,
        )

    def scores(self, window: tuple[slice, slice] = PLACE) -> tuple[float, float, float]:
        """Change by both sensors, Sentinel-2 and Sentinel-1."""
        block = Block(s2=self.s2, s1=self.s1, scenes=self.scenes)
        measures = unknown(1, "both")
        measure_place(measures, 0, block, self.looks, window, block.change(self.looks))
        return float(measures.change[0]), float(measures.change_s2[0]), float(measures.change_s1[0])


@pytest.mark.parametrize("window", [PLACE, ELSEWHERE])
def test_nothing_changed_whatever_baselines_platforms_light_seasons_and_clouds(window: tuple[slice, slice]) -> None:
    assert max(Story().scores(window)) < 0.5


def test_what_was_planted_stands_far_above() -> None:
    both, s2, s1 = Story(planted=True).scores()
    assert min(s2, s1) > 3
    assert both == pytest.approx(math.hypot(s2, s1))
    assert max(Story(planted=True).scores(ELSEWHERE)) < 0.5


def test_one_date_gone_wrong_in_part_does_not_count() -> None:
    story = Story()
    story.s2[story.looks[-1].s2_ids][:, :, : SIDE // 2] += 0.1
    assert story.scores()[1] < 0.5


def test_orbits_are_never_compared_with_each_other() -> None:
    story = Story()
    shadows = np.ones((SIDE, SIDE), np.float32)
    shadows[PLANTED] = 8
    for look in story.looks[3:]:
        story.s1[look.s1_ids] = story.s1[look.s1_ids] * shadows
        story._scene(look.s1_id, "sentinel-1a", look.acquired, orbit=88)
    both, s2, s1 = story.scores()
    assert math.isnan(s1)
    assert both == s2 < 0.5


def test_unknown_orbits_are_not_compared() -> None:
    story = Story(planted=True)
    for look in story.looks:
        story._scene(look.s1_id, "sentinel-1a", look.acquired, orbit=None)
    assert math.isnan(story.scores()[2])


def test_a_date_on_another_orbit_leaves_the_others() -> None:
    story = Story(planted=True)
    story._scene("s1-4", "sentinel-1a", story.looks[4].acquired, orbit=88)
    assert story.scores()[2] > 3


@pytest.mark.parametrize("shift_px", [1, 2])
def test_a_geolocation_shift_between_platforms_is_no_change(shift_px: int) -> None:
    """Of 10 m pixels, averaged to 40 m as in an overview: what Sentinel-1C may lie off Sentinel-1A."""
    draw = np.random.default_rng(3)
    fields = draw.uniform(-14, -8, (2, 30, 30)).repeat(16, axis=1).repeat(16, axis=2)
    fine = 10 ** (fields / 10)

    def coarse(moved: int) -> NDArray[np.float32]:
        speckled = np.roll(fine, moved, axis=2) * draw.gamma(4.4, 1 / 4.4, fine.shape)
        return speckled.reshape(2, 120, 4, 120, 4).mean(axis=(2, 4)).astype(np.float32)

    def scores(moved: int) -> NDArray[np.float64]:
        early, late = period_means([coarse(0), coarse(0)], [coarse(moved), coarse(moved)])
        found = change_map([distance(decibels(early), decibels(late), DECIBEL_FLOOR)], [])
        return np.array([upper_mean(found[r : r + 24, c : c + 24]) for r in range(0, 96, 24) for c in range(0, 96, 24)])

    found = scores(shift_px)
    assert float(np.max(found)) < 1
    assert float(np.median(found)) < 0.5
    fine[:, 200:260, 200:260] *= 6
    changed = np.roll(fine, shift_px, axis=2)
    fine[:, 200:260, 200:260] /= 6
    late = (changed * draw.gamma(4.4, 1 / 4.4, fine.shape)).reshape(2, 120, 4, 120, 4).mean(axis=(2, 4))
    found = change_map([distance(decibels(coarse(0)), decibels(late.astype(np.float32)), DECIBEL_FLOOR)], [])
    assert upper_mean(found[48:72, 48:72]) > 2


def test_looks_of_one_period_have_no_change_but_features() -> None:
    story = Story(planted=True)
    story.looks = story.looks[:3]
    block = Block(s2=story.s2, s1=story.s1, scenes=story.scenes)
    assert block.change(story.looks) == (None, None)
    measures = unknown(1, "both")
    measure_place(measures, 0, block, story.looks, PLACE, (None, None))
    assert np.isnan(measures.change).all()
    assert np.isfinite(measures.features).all()
    assert 0 < measures.entropy[0] <= 6


def test_a_single_look_and_no_look_at_all() -> None:
    story = Story()
    block = Block(s2=story.s2, s1=story.s1, scenes=story.scenes)
    assert block.change(story.looks[:1]) == block.change([]) == (None, None)
    measures = unknown(1, "both")
    measure_place(measures, 0, block, [], PLACE, (None, None))
    assert np.isnan([measures.change[0], measures.entropy[0], *measures.features[0]]).all()


def test_nothing_but_cloud_is_unknown_and_not_unchanged() -> None:
    story = Story(planted=True)
    for ids in story.s2:
        story.s2[ids][:] = np.nan
    both, s2, s1 = story.scores()
    assert math.isnan(s2)
    assert both == s1 > 3


def test_a_look_that_could_not_be_read_is_left_out() -> None:
    story = Story(planted=True)
    del story.s2[story.looks[0].s2_ids], story.s1[story.looks[5].s1_ids]
    assert min(story.scores()) > 3


def test_features_are_those_of_the_sensors_asked_for() -> None:
    assert [n_features(sensors) for sensors in ("s1", "s2", "both")] == [4, 12, 16]
    story = Story()
    block = Block(s2=story.s2, s1={}, scenes=story.scenes)
    optical, both = unknown(1, "s2"), unknown(1, "both")
    for measures in (optical, both):
        measure_place(measures, 0, block, story.looks, PLACE, (None, None))
    assert 0.05 < optical.features[0, :6].min() <= optical.features[0, :6].max() < 0.6
    assert np.isnan(both.features).all(), "half a row would pass for a whole one"
