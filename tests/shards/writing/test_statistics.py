"""Statistics are those of the pixels, however they were added up."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.bands import MEMBERS
from geossl_data.shards.reading.shards import open_shards
from geossl_data.shards.writing.statistics import look_sums, merge_sums, statistics


def test_statistics_are_those_of_the_valid_pixels_of_the_training_split(dataset: Path) -> None:
    values: dict[str, list[np.ndarray]] = {"B02": [], "B12": [], "VV": []}
    with open_shards(dataset, "train") as shards:
        for index, look in shards.looks:
            arrays = shards.read(index, look, ["s2_10m", "s2_20m", "s1"])
            for band, array in (("B02", arrays["s2_10m"][0]), ("B12", arrays["s2_20m"][5]), ("VV", arrays["s1"][0])):
                array = array[array != 0].astype(np.float64)
                values[band].append(array * 0.01 - 100 if band == "VV" else array)
        found = shards.notes["statistics"]
    for band, parts in values.items():
        pixels = np.concatenate(parts)
        assert found[band]["count"] == pixels.size
        assert found[band]["mean"] == pytest.approx(pixels.mean(), rel=1e-6)
        assert found[band]["std"] == pytest.approx(pixels.std(), rel=1e-6)
    assert "SCL" not in found


def test_sums_by_hand() -> None:
    array = np.array([[[0, 2], [4, 6]], [[0, 0], [0, 0]]], dtype=np.uint16)
    sums = merge_sums([look_sums({"s2_60m": array}, MEMBERS)] * 2)
    assert sums == {"B01": (6, 24.0, 112.0), "B09": (0, 0.0, 0.0)}
    assert statistics(sums) == {"B01": {"mean": 4.0, "std": pytest.approx((8 / 3) ** 0.5), "count": 6}}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12_000), min_size=8, max_size=8), st.integers(1, 7))
def test_parts_add_up_to_the_whole(pixels: list[int], cut: int) -> None:
    def sums(part: list[int]) -> dict[str, tuple[int, float, float]]:
        return look_sums({"s2_60m": np.array([[part], [part[::-1]]], dtype=np.uint16)}, MEMBERS)

    assert merge_sums([sums(pixels[:cut]), sums(pixels[cut:])]) == sums(pixels)
    valid = [pixel for pixel in pixels if pixel]
    found = statistics(sums(pixels))
    assert set(found) == ({"B01", "B09"} if valid else set())
    if valid:
        assert found["B01"] == found["B09"]
        assert found["B01"]["mean"] == pytest.approx(np.mean(valid))
        assert found["B01"]["std"] == pytest.approx(np.std(valid), abs=1e-3)
