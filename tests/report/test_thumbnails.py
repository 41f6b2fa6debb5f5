"""Small pictures show what was measured, by a stretch that is the same for every look."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagecodecs import jpeg8_decode, png_decode

from geossl_data.bands import MEMBERS, Member
from geossl_data.report.thumbnails import GREY, SCL_PALETTE, resized, thumbnails

SIDE = 12


def s2_10m(blue: int, green: int, red: int, nir: int, side: int = 24) -> np.ndarray:
    """A look of one colour everywhere, reflectance × 10000."""
    return np.stack([np.full((side, side), value, dtype=np.uint16) for value in (blue, green, red, nir)])


def s1(vv_db: float, vh_db: float, side: int = 24) -> np.ndarray:
    values = np.stack([np.full((side, side), value) for value in (vv_db, vh_db)])
    return MEMBERS["s1"].stored(values)


def middle(jpeg: bytes) -> list[int]:
    picture = jpeg8_decode(jpeg)
    assert picture.shape == (SIDE, SIDE, 3)
    return picture[SIDE // 2, SIDE // 2].tolist()


def test_colours_by_hand() -> None:
    pictures = thumbnails({"s2_10m": s2_10m(blue=3000, green=1500, red=750, nir=2500)}, MEMBERS, SIDE)
    assert list(pictures) == ["true colour", "false colour"]
    # 0.3 is the brightest red, green and blue, 0.5 the brightest near infrared; the power is 0.75.
    half, quarter = 255 * 0.5**0.75, 255 * 0.25**0.75
    assert middle(pictures["true colour"]) == pytest.approx([quarter, half, 255], abs=4)
    assert middle(pictures["false colour"]) == pytest.approx([half, quarter, half], abs=4)


def test_radar_by_hand() -> None:
    pictures = thumbnails({"s1": s1(vv_db=-12.5, vh_db=-18.5)}, MEMBERS, SIDE)
    assert list(pictures) == ["radar"]
    # Half of −25 to 0 dB, half of −32 to −5 dB, and a ratio of 6 dB of 2 to 14 dB.
    assert middle(pictures["radar"]) == pytest.approx([127.5, 127.5, 85], abs=4)


def test_radar_is_averaged_as_power() -> None:
    stored = s1(-10, -20)
    stored[:, ::2] = s1(-20, -30)[:, ::2]
    picture = thumbnails({"s1": stored}, MEMBERS, SIDE)["radar"]
    mean_db = 10 * np.log10((0.1 + 0.01) / 2)
    assert middle(picture)[0] == pytest.approx(255 * (mean_db + 25) / 25, abs=4)


def test_one_polarisation_is_grey() -> None:
    member = Member("s1", "s1", ("VV",), 1, "float32", "gamma naught in dB")
    picture = thumbnails({"s1": np.full((1, 24, 24), -12.5, np.float32)}, {"s1": member}, SIDE)["radar"]
    assert middle(picture) == pytest.approx([127.5] * 3, abs=2)


def test_classes_have_the_colours_of_their_legend() -> None:
    classes = np.repeat(np.repeat(np.array([[4, 6], [9, 99]], dtype=np.uint8), 6, axis=0), 6, axis=1)
    picture = png_decode(thumbnails({"scl": classes}, MEMBERS, SIDE)["classes"])
    found = [[picture[row, column].tolist() for column in (0, 11)] for row in (0, 11)]
    assert found == [[SCL_PALETTE[4].tolist(), SCL_PALETTE[6].tolist()], [SCL_PALETTE[9].tolist(), [GREY] * 3]]


def test_what_was_not_measured_is_grey() -> None:
    stored = s2_10m(3000, 3000, 3000, 5000)
    stored[1, :, :12] = 0
    picture = jpeg8_decode(thumbnails({"s2_10m": stored}, MEMBERS, SIDE)["true colour"]).astype(int)
    assert picture[:, :4] == pytest.approx(GREY, abs=6)
    assert picture[:, 8:] == pytest.approx(255, abs=6)


def test_all_pictures_of_a_look_are_as_large() -> None:
    look = {
        "s2_10m": s2_10m(900, 900, 900, 900, side=60),
        "s1": s1(-12, -18, side=60),
        "scl": np.full((30, 30), 4, np.uint8),
    }
    pictures = thumbnails(look, MEMBERS, SIDE)
    assert list(pictures) == ["true colour", "false colour", "radar", "classes"]
    shapes = {(png_decode if name == "classes" else jpeg8_decode)(data).shape for name, data in pictures.items()}
    assert shapes == {(SIDE, SIDE, 3)}
    assert thumbnails(look, MEMBERS, SIDE) == pictures


def test_looks_compare_since_the_stretch_is_fixed() -> None:
    dark, bright = (
        thumbnails({"s2_10m": s2_10m(value, value, value, value)}, MEMBERS, SIDE)["true colour"]
        for value in (500, 2000)
    )
    assert middle(bright)[0] > middle(dark)[0] + 60


@pytest.mark.parametrize(
    ("member", "stored", "expected"),
    [
        (Member("own", "own", ("R", "G", "B"), 1, "uint8", ""), (10, 100, 200), ("true colour", [10, 100, 200])),
        (Member("own", "own", ("a", "b", "c", "d"), 1, "uint8", ""), (10, 100, 200, 7), ("image", [10, 100, 200])),
        (Member("own", "own", ("a",), 1, "uint8", ""), (77,), ("image", [77, 77, 77])),
    ],
    ids=["colours by name", "first three bands", "one band"],
)
def test_bytes_are_shown_as_they_are(member: Member, stored: tuple[int, ...], expected: tuple[str, list[int]]) -> None:
    array = np.stack([np.full((16, 16), value, dtype=np.uint8) for value in stored])
    ((name, picture),) = thumbnails({"own": array}, {"own": member}, SIDE).items()
    assert name == expected[0]
    assert middle(picture) == pytest.approx(expected[1], abs=4)


def test_numbers_of_unknown_meaning_are_stretched_between_their_percentiles() -> None:
    member = Member("own", "own", ("height",), 1, "float32", "m")
    ramp = np.linspace(1000, 2000, SIDE, dtype=np.float32)[None, None, :].repeat(SIDE, axis=1)
    picture = jpeg8_decode(thumbnails({"own": ramp}, {"own": member}, SIDE)["image"]).astype(int)
    assert picture[:, 0] == pytest.approx(0, abs=8)
    assert picture[:, -1] == pytest.approx(255, abs=8)
    flat = thumbnails({"own": np.full((1, 8, 8), np.nan, np.float32)}, {"own": member}, SIDE)["image"]
    assert middle(flat) == pytest.approx([GREY] * 3, abs=2)


def test_class_maps_alone_give_no_image() -> None:
    assert thumbnails({"label": np.ones((8, 8), np.uint8)}, MEMBERS, SIDE) == {}


@settings(max_examples=30)
@given(count=st.integers(1, 40), side=st.integers(1, 40), seed=st.integers(0, 2**32 - 1), missing=st.floats(0, 0.3))
def test_resizing_keeps_the_mean_of_what_is_measured(count: int, side: int, seed: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1e4, (count, count))
    assert resized(values, side).mean() == pytest.approx(values.mean(), rel=1e-9)
    gaps = np.where(rng.random((count, count)) < missing, np.nan, values)
    found = resized(gaps, side)
    known = found[np.isfinite(found)]
    assert found.shape == (side, side)
    assert len(known) == 0 or (known.min() >= np.nanmin(gaps) - 1e-6 and known.max() <= np.nanmax(gaps) + 1e-6)


def test_whole_blocks_are_their_means_and_half_measured_ones_count() -> None:
    values = np.arange(16.0).reshape(4, 4)
    assert resized(values, 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    values[0, 0] = values[1, 1] = np.nan
    assert resized(values, 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    values[0, 1] = np.nan
    assert np.isnan(resized(values, 2)[0, 0])
