"""Numbers read the same everywhere."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.report.numbers import short, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12345, "12,345"),
        (-1234567, "−1,234,567"),
        (np.int64(4096), "4,096"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1.00"),
        (12.345, "12.3"),
        (9.999, "10.0"),
        (999.6, "1,000"),
        (48210.4, "48,210"),
        (0.00123, "0.00123"),
        (-0.25, "−0.250"),
        (np.float32(0.5), "0.500"),
        (0.000012, "1.20e-05"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (None, "–"),
        (True, "yes"),
        (np.False_, "no"),
        ("1234", "1234"),
        ([1000, "a", 0.5], "1,000, a, 0.500"),
        ((), "–"),
    ],
)
def test_values_as_people_read_them(value: object, text: str) -> None:
    assert shown(value) == text


@given(st.floats(min_value=1e-4, max_value=1e12))
def test_three_digits_are_kept(value: float) -> None:
    assert float(shown(value).replace(",", "")) == pytest.approx(value, rel=5.001e-3)


@pytest.mark.parametrize(
    ("value", "text"), [(6.0, "6"), (0.25, "0.25"), (-1200.0, "−1,200"), (100.0, "100"), (1e-5, "1.00e-05"), (0, "0")]
)
def test_short_numbers_have_no_zeros_at_their_end(value: float, text: str) -> None:
    assert short(value) == text
