"""What is measured of a look: class shares, statistics, entropy, shift, all of it fit for JSON."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geossl_data.bands import MEMBERS, S2_BANDS, SCL_CLOUD, SCL_GROUPS, SCL_SHADOW, SCL_SNOW, SCL_WATER
from geossl_data.sampling.change import LEAST_VALID, SCL_UNUSED
from geossl_data.sampling.measures import MEASURED_S2
from geossl_data.tiles.quality import band_statistics, look_quality, scl_fractions, window_entropy
from geossl_data.tiles.radiometry import cloud_fraction

Members = dict[str, np.ndarray[Any, Any]]


def look(size_px: int = 60, seed: int = 0) -> Members:
    """A look of whole, varied, unclouded ground."""
    rng = np.random.default_rng(seed)
    members: Members = {}
    for name in ("s2_10m", "s2_20m", "s2_60m"):
        members[name] = rng.integers(100, 6000, MEMBERS[name].shape(size_px)).astype(np.uint16)
    members["scl"] = np.full(MEMBERS["scl"].shape(size_px), 4, np.uint8)
    members["s1"] = rng.normal(-14, 3, MEMBERS["s1"].shape(size_px)).astype(np.float16)
    return members


# ------------------------------------------------------------------------------------------------ scene classes


def test_the_groups_hold_every_class_once_and_cloud_and_shadow_are_what_they_were() -> None:
    assert sorted(number for group in SCL_GROUPS.values() for number in group) == list(range(1, 12))
    assert sorted(SCL_GROUPS["cloud"] + SCL_GROUPS["shadow"]) == sorted(SCL_CLOUD)
    assert (SCL_SHADOW, SCL_WATER, SCL_SNOW) == (3, 6, 11)


def test_shares_of_a_window_worked_by_hand() -> None:
    scl = np.array([[0, 0, 4, 4], [8, 9, 3, 11], [10, 11, 5, 6], [7, 2, 1, 6], [0, 4, 4, 4]], dtype=np.uint8)
    found = scl_fractions(scl)
    assert found["classified"] == 0.85
    assert found["histogram"] == [3, 1, 1, 1, 5, 1, 2, 1, 1, 1, 1, 2]
    shares = {"cloud": 3, "shadow": 1, "snow": 2, "water": 2, "vegetation": 5, "bare": 1, "dark": 1}
    shares |= {"saturated": 1, "unclassified": 1}
    assert {name: found[name] for name in SCL_GROUPS} == {
        name: pytest.approx(count / 17, rel=1e-5) for name, count in shares.items()
    }


@pytest.mark.parametrize("scl", [None, np.zeros((3, 4), np.uint8), np.zeros((0, 0), np.uint8)])
def test_where_nothing_is_classified_no_share_is_known(scl: np.ndarray[Any, Any] | None) -> None:
    found = scl_fractions(scl)
    assert found["classified"] == 0.0
    assert {found[name] for name in SCL_GROUPS} == {None}
    assert len(found["histogram"]) == 12
    assert sum(found["histogram"]) == (0 if scl is None else scl.size)


def test_numbers_that_are_no_class_are_not_classified() -> None:
    found = scl_fractions(np.array([[4, 4, 255, 12]], dtype=np.uint8))
    assert found["classified"] == 0.5
    assert found["vegetation"] == 1.0


@settings(max_examples=50, deadline=None)
@given(arrays(np.uint8, (5, 7), elements=st.integers(0, 11)))
def test_shares_add_up_and_agree_with_the_cloud_fraction(scl: np.ndarray[Any, Any]) -> None:
    found = scl_fractions(scl)
    assert sum(found["histogram"]) == scl.size
    if cloud_fraction(scl) is None:
        assert found["cloud"] is None
    else:
        assert sum(found[name] for name in SCL_GROUPS) == pytest.approx(1, abs=1e-4)
        assert found["cloud"] + found["shadow"] == pytest.approx(cloud_fraction(scl), rel=1e-4)


# ------------------------------------------------------------------------------------------------ statistics


def test_statistics_worked_by_hand() -> None:
    values = np.array([[[1, 3], [5, 0]], [[10, 10], [10, 65535]]], dtype=np.uint16)
    known, saturated = band_statistics(values, values != 0)
    assert known == {
        "minimum": 1.0,
        "maximum": 5.0,
        "mean": 3.0,
        "stddev": pytest.approx((8 / 3) ** 0.5, rel=1e-5),
        "valid_percent": 75.0,
    }
    assert saturated["mean"] == pytest.approx((30 + 65535) / 4, rel=1e-5)
    first, second = band_statistics(values, np.array([[True, False], [False, True]]))
    assert (first["minimum"], first["maximum"], first["valid_percent"]) == (0.0, 1.0, 50.0)
    assert (second["minimum"], second["maximum"]) == (10.0, 65535.0)


def test_a_band_without_a_valid_pixel_has_no_numbers() -> None:
    values = np.stack([np.full((2, 3), np.nan), np.full((2, 3), -7.25)])
    valid = np.zeros((2, 2, 3), dtype=bool)
    valid[1, 0] = True
    nothing, even = band_statistics(values, valid)
    assert nothing == {"minimum": None, "maximum": None, "mean": None, "stddev": None, "valid_percent": 0.0}
    assert even == {"minimum": -7.25, "maximum": -7.25, "mean": -7.25, "stddev": 0.0, "valid_percent": 50.0}


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint16, (2, 4, 6)), arrays(np.bool_, (2, 4, 6)))
def test_statistics_agree_with_python_integers(values: np.ndarray[Any, Any], valid: np.ndarray[Any, Any]) -> None:
    for band, mask, found in zip(values, valid, band_statistics(values, valid), strict=True):
        known = [int(value) for value in band[mask]]
        assert found["valid_percent"] == pytest.approx(100 * len(known) / 24, rel=1e-5)
        if known:
            mean = sum(known) / len(known)
            variance = sum((value - mean) ** 2 for value in known) / len(known)
            assert found["minimum"] == min(known)
            assert found["maximum"] == max(known)
            assert found["mean"] == pytest.approx(mean, rel=1e-5)
            assert found["stddev"] == pytest.approx(variance**0.5, rel=1e-5, abs=1e-6)


def test_decibels_stored_in_half_precision_do_not_lose_their_mean() -> None:
    db = np.full((1, 300, 300), -17.3, np.float16)
    (found,) = band_statistics(db, np.isfinite(db[0]))
    assert found["mean"] == pytest.approx(float(np.float16(-17.3)), rel=1e-5)
    assert found["stddev"] == 0.0


# ------------------------------------------------------------------------------------------------ entropy


def entropy_by_hand(members: Members, resolution_m: int, grown_px: int) -> float:
    """The measure of candidates in loops: block means, one class of each block, clouds grown, histograms."""
    side = members["s2_10m"].shape[-1] * 10 // resolution_m
    bands = {
        band: values
        for name in ("s2_10m", "s2_20m")
        for band, values in zip(MEMBERS[name].bands, members[name], strict=True)
    }
    means = np.full((len(MEASURED_S2), side, side), np.nan)
    for index, band in enumerate(MEASURED_S2):
        step = len(bands[band]) // side
        for row in range(side):
            for column in range(side):
                block = bands[band][row * step : (row + 1) * step, column * step : (column + 1) * step]
                if (block > 0).any():
                    means[index, row, column] = np.float32(max(round(float(block[block > 0].mean())), 1) / 10_000)
    hidden = np.isnan(means).any(axis=0)
    step = len(members["scl"]) // side
    for row in range(side):
        for column in range(side):
            hidden[row, column] |= members["scl"][row * step + step // 2, column * step + step // 2] in SCL_UNUSED
    for row, column in zip(*np.nonzero(hidden), strict=True):
        hidden[max(row - grown_px, 0) : row + grown_px + 1, max(column - grown_px, 0) : column + grown_px + 1] = True
    if (~hidden).mean() < LEAST_VALID:
        return math.nan
    bits = []
    for plane in means:
        counts = [0] * 64
        for value in plane[~hidden]:
            counts[min(int(np.float32(value) / 0.01), 63)] += 1
        shares = [count / sum(counts) for count in counts if count]
        bits.append(-sum(share * math.log2(share) for share in shares))
    return float(np.mean(bits))


@pytest.mark.parametrize(
    ("size_px", "resolution_m", "grown_px"),
    [(60, 20, 2), (96, 40, 1), (102, 20, 2), (120, 40, 1), (192, 80, 1), (198, 60, 1)],
)
def test_entropy_is_that_of_candidates_on_coarse_pixels(size_px: int, resolution_m: int, grown_px: int) -> None:
    members = look(size_px, seed=size_px)
    rows, columns = np.indices(members["s2_10m"].shape[1:])
    members["s2_10m"] = (members["s2_10m"] // 4 + 40 * rows + 7 * columns).astype(np.uint16)
    members["s2_10m"][:, :5, :9] = 0
    members["scl"][-8:, :10] = 9
    members["scl"][10:13, 10:13] = 11
    expected = entropy_by_hand(members, resolution_m, grown_px)
    assert 3 < expected < 6
    assert window_entropy(members) == pytest.approx(expected, rel=1e-4)


def test_entropy_without_a_classification_uses_all_that_is_measured() -> None:
    members = look(96)
    del members["scl"]
    everything = look(96)
    assert window_entropy(members) == window_entropy(everything)


def test_even_ground_has_no_entropy_and_cloud_leaves_none() -> None:
    members = look(96)
    for name in ("s2_10m", "s2_20m", "s2_60m"):
        members[name][:] = 1234
    assert window_entropy(members) == 0.0
    members["scl"][:] = 9
    assert math.isnan(window_entropy(members))
    assert look_quality(members)["spectral_entropy"] is None


# ------------------------------------------------------------------------------------------------ the whole look


def test_all_measures_of_a_look() -> None:
    members = look(60)
    members["s2_60m"][0, 0, 0] = 0
    members["s1"][:, :, 30:] = np.nan
    members["scl"][:15] = 8
    found = look_quality(members)
    assert list(found) == ["valid_fraction", "scl", "statistics", "spectral_entropy", "shift"]
    assert found["valid_fraction"] == {"s2": 0.99, "s1": 0.5, "both": 0.49}
    assert found["scl"] == scl_fractions(members["scl"])
    assert set(found["statistics"]) == {*S2_BANDS, "VV", "VH"}
    assert found["statistics"]["B01"]["valid_percent"] == 99.0
    assert found["statistics"]["B09"]["valid_percent"] == 100.0
    assert found["statistics"]["VH"]["valid_percent"] == 50.0
    assert found["statistics"]["B8A"]["maximum"] == float(members["s2_20m"][3].max())
    assert found["spectral_entropy"] == pytest.approx(window_entropy(members), rel=1e-5)
    assert found["shift"] is None


def test_a_shift_between_the_sensors_is_reported() -> None:
    members = look(132)
    rng = np.random.default_rng(0)
    fields = rng.random((20, 20)).repeat(9, axis=0).repeat(9, axis=1)
    members["s2_10m"][:] = (500 + 3000 * fields[20:152, 20:152]).astype(np.uint16)
    members["s1"][:] = (-8 - 10 * fields[17:149, 24:156]).astype(np.float16)
    shift = look_quality(members)["shift"]
    assert shift["dx_px"] == pytest.approx(-4, abs=0.2)
    assert shift["dy_px"] == pytest.approx(3, abs=0.2)
    assert shift["peak"] > 7
    members["scl"][:] = 9
    assert look_quality(members)["shift"] is None


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sets(st.sampled_from(["s2_10m", "s2_20m", "s2_60m", "scl", "s1"])),
    st.sampled_from(["as it is", "nothing", "extreme"]),
)
def test_whatever_a_look_holds_the_measures_fit_into_json(seed: int, absent: set[str], state: str) -> None:
    members = look(66, seed)
    if state == "nothing":
        members = {name: np.zeros_like(values) for name, values in members.items()}
        members["s1"][:] = np.nan
    elif state == "extreme":
        highest = {"scl": 255, "s1": -60}
        members = {name: np.full_like(values, highest.get(name, 65535)) for name, values in members.items()}
    kept = {name: values for name, values in members.items() if name not in absent}
    before = {name: values.copy() for name, values in kept.items()}
    found = look_quality(kept)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for name, values in kept.items():
        np.testing.assert_array_equal(values, before[name])
    assert (found["valid_fraction"]["s1"] is None) == ("s1" in absent)
    assert (found["spectral_entropy"] is None) == (bool(absent & {"s2_10m", "s2_20m"}) or state == "nothing")
