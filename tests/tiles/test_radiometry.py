"""Offsets, decibels and masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geossl_data.tiles.radiometry import (
    backscatter_db,
    cloud_fraction,
    harmonise,
    majority_class,
    s1_valid,
    s2_valid,
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
    assert db.dtype == np.float16
    np.testing.assert_allclose(db[:5].astype(float), [0.0, -10.0, -20.0, 3.0103, -60.0], atol=0.002)
    assert np.isnan(db[5:]).all()


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, (3, 7)))
def test_decibels_are_never_infinite_and_close_to_float64(power: np.ndarray) -> None:
    db = backscatter_db(power).astype(np.float64)
    assert not np.isinf(db).any()
    valid = np.isfinite(power) & (power > 0)
    np.testing.assert_array_equal(np.isfinite(db), valid)
    exact = 10 * np.log10(np.maximum(power[valid].astype(np.float64), 1e-6))
    np.testing.assert_allclose(db[valid], exact, rtol=6e-4, atol=1e-3)


def test_a_pixel_is_valid_where_every_band_is() -> None:
    dn = np.array([[[1, 0], [5, 7]], [[1, 2], [0, 9]]], dtype=np.uint16)
    assert s2_valid(dn).tolist() == [[True, False], [False, True]]
    db = np.array([[[1, np.nan], [5, 7]], [[1, 2], [3, 9]]], dtype=np.float16)
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


def test_cloud_is_counted_over_classified_pixels() -> None:
    scl = np.array([[0, 0, 4], [8, 9, 3], [10, 11, 5]], dtype=np.uint8)
    assert cloud_fraction(scl) == pytest.approx(4 / 7)
    assert cloud_fraction(np.zeros((2, 2), np.uint8)) is None


def test_the_majority_ignores_unclassified_pixels_and_breaks_ties_downwards() -> None:
    assert majority_class(np.array([[0, 0, 0], [7, 7, 2]], dtype=np.uint8)) == (7, pytest.approx(2 / 6))
    assert majority_class(np.array([[5, 3]], dtype=np.uint8)) == (3, 0.5)
    assert majority_class(np.zeros((2, 2), np.uint8)) == (0, 0.0)
