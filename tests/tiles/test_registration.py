"""How near the estimated shift comes to planted ones: made-up texture, the sandbox, and real pairs."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.bands import SCL_CLOUD
from geossl_data.tiles.registration import LEAST_PEAK, REACH_PX, Shift, estimated_shift

MARGIN = 18
"""Pixels around a window, of which a planted shift brings some in."""
PLANTED = ((0.0, 0.0), (1.0, 0.0), (0.0, -1.0), (-2.5, 0.0), (1.5, 2.0), (4.0, 0.0), (-2.4, 3.2))
"""Shifts of 0, 1, 2.5 and 4 pixels in several directions, east and south."""


def moved(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """The image with its content moved to the right and down, by the shift theorem; the sides wrap around."""
    height, width = image.shape[-2:]
    turns = np.fft.fftfreq(height)[:, None] * dy + np.fft.fftfreq(width) * dx
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(-2j * np.pi * turns)).real


def cropped(image: np.ndarray, margin: int = MARGIN) -> np.ndarray:
    return image[..., margin:-margin, margin:-margin]


def mosaic(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Fields as the two sensors see them: the same borders, unrelated values, speckle on the one; no shift."""
    rng = np.random.default_rng(seed)
    at = rng.random((height * width // 400, 2)) * (height, width)
    rows, columns = np.indices((height, width))
    nearest = np.zeros((height, width), dtype=int)
    least = np.full((height, width), np.inf)
    for number, (row, column) in enumerate(at):
        squares = (rows - row) ** 2 + (columns - column) ** 2
        nearest[squares < least] = number
        least = np.minimum(least, squares)
    optical = rng.random(len(at))[nearest] * 2000 + 500
    radar = -18 + 10 * rng.random(len(at))[nearest] + rng.normal(0, 2, (height, width))
    return optical, radar


def off(found: Shift | None, dx: float, dy: float) -> float:
    """Pixels between an estimate and the truth; infinite where there is none."""
    return math.inf if found is None else math.hypot(found.dx_px - dx, found.dy_px - dy)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50), st.floats(-9, 9), st.floats(-9, 9), st.sampled_from([np.float32, np.float64]))
def test_a_planted_shift_is_found_with_its_sign(seed: int, dx: float, dy: float, dtype: type) -> None:
    optical, radar = mosaic(seed, 150, 171)
    found = estimated_shift(
        cropped(optical).astype(dtype), cropped(moved(radar, dx, dy)).astype(dtype), np.ones((114, 135), dtype=bool)
    )
    assert off(found, dx, dy) < 0.5
    assert found is not None
    assert found.peak >= LEAST_PEAK


def test_one_bright_corner_moved_by_hand() -> None:
    """Right is east, down is south: the radar image is cut two rows and three columns earlier."""
    optical, radar = mosaic(1, 140, 160)
    found = estimated_shift(optical[10:130, 10:150], radar[8:128, 7:147], np.ones((120, 140), dtype=bool))
    assert found is not None
    assert (round(found.dx_px), round(found.dy_px)) == (3, 2)


def test_several_bands_and_one_band_agree() -> None:
    optical, radar = mosaic(2, 150, 150)
    whole = np.ones((150, 150), dtype=bool)
    one = estimated_shift(optical, radar, whole)
    assert one == estimated_shift(optical[None], radar[None], whole)
    three = estimated_shift(np.stack([optical, 9000 - 3 * optical]), np.stack([radar, radar]), whole)
    assert off(three, 0, 0) < 0.2


def test_units_do_not_matter() -> None:
    optical, radar = mosaic(3, 150, 150)
    whole = np.ones((150, 150), dtype=bool)
    one = estimated_shift(optical, radar, whole)
    other = estimated_shift(optical / 10_000, 100 - 2 * radar, whole)
    assert one is not None
    assert other is not None
    assert off(other, one.dx_px, one.dy_px) < 1e-3


def test_what_is_not_valid_has_no_influence() -> None:
    optical, radar = mosaic(4, 186, 190)
    optical, radar = cropped(optical), cropped(moved(radar, 3.0, -2.0))
    valid = np.ones(optical.shape, dtype=bool)
    valid[:60, :80] = False
    valid[100:110] = False
    found = estimated_shift(optical, radar, valid)
    assert off(found, 3.0, -2.0) < 0.35
    for rubbish in (np.nan, 0.0, 1e6):
        spoilt = estimated_shift(np.where(valid, optical, rubbish), np.where(valid, radar, -rubbish), valid)
        assert spoilt == found


@pytest.mark.parametrize("seed", range(6))
def test_a_mask_that_both_share_is_no_match(seed: int) -> None:
    """Clouds cut the same holes into both images; they must not pass for ground that fits at shift 0."""
    optical, _ = mosaic(seed, 150, 150)
    _, radar = mosaic(seed + 100, 150, 150)
    rows, columns = np.indices(optical.shape)
    valid = (np.sin(rows / 11) + np.cos(columns / 7)) < 1.0
    # Bright and loud on one side, so that the holes' rims would be strong edges.
    assert estimated_shift(optical + 100 * columns, radar + columns, valid) is None


def test_unrelated_ground_hardly_ever_gives_a_shift() -> None:
    """One window of 120 pixels in 500 does; these are always the same forty."""
    whole = np.ones((120, 120), dtype=bool)
    found = [estimated_shift(mosaic(n, 120, 120)[0], mosaic(n + 100, 120, 120)[1], whole) for n in range(40)]
    assert sum(shift is not None for shift in found) <= 1


def test_no_shift_without_enough_to_go_by() -> None:
    optical, radar = mosaic(5, 150, 150)
    whole = np.ones((150, 150), dtype=bool)
    assert estimated_shift(optical, radar, whole) is not None
    assert estimated_shift(np.full_like(optical, 1234.5), radar, whole) is None
    assert estimated_shift(optical, np.full_like(radar, -17.3), whole) is None
    assert estimated_shift(optical, radar, np.zeros_like(whole)) is None
    assert estimated_shift(optical, radar, np.random.default_rng(0).random(whole.shape) < 0.29) is None
    assert estimated_shift(optical, radar, np.random.default_rng(0).random(whole.shape) < 0.8) is None
    assert estimated_shift(optical[:59], radar[:59], whole[:59]) is None


def test_a_shift_beyond_the_search_is_not_taken_for_one_within() -> None:
    optical, radar = mosaic(6, 190, 190)
    whole = np.ones((154, 154), dtype=bool)
    for dx, dy in ((REACH_PX + 3.0, 0.0), (0.0, -REACH_PX - 4.0)):
        assert estimated_shift(cropped(optical), cropped(moved(radar, dx, dy)), whole) is None


# ------------------------------------------------------------------------------------------------ sandbox


def read(path: Path, x: float, y: float, side: int) -> np.ndarray:
    """A square window whose north-west corner is given in metres."""
    import rasterio
    from rasterio.windows import Window

    with rasterio.open(path) as raster:
        column, row = ~raster.transform * (x, y)
        return raster.read(1, window=Window(round(column), round(row), side, side)).astype(np.float64)


def sandbox_looks(root: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Clear windows of 300 × 300 pixels: B04 and B08, and the power of a Sentinel-1 scene of the same year."""
    import rasterio

    for optical in sorted((root / "sentinel-2-l2a").iterdir()):
        with rasterio.open(optical / "B04.tif") as raster:
            crs, transform = raster.crs, raster.transform
        for radar in sorted((root / "sentinel-1-rtc").iterdir()):
            with rasterio.open(radar / "vv.tif") as raster:
                if raster.crs != crs or radar.name.split("_")[4][:6] != optical.name.split("_")[2][:6]:
                    continue
            x, y = transform.c + 1080, transform.f
            classes = read(optical / "SCL.tif", x, y, 150)
            power = np.stack([read(radar / f"{band}.tif", x, y, 300) for band in ("vv", "vh")])
            if np.isin(classes, (0, *SCL_CLOUD)).mean() < 0.1 and (power > 0).all():
                yield np.stack([read(optical / f"{band}.tif", x, y, 300) for band in ("B04", "B08")]), power


def decibels_of(power: np.ndarray, dx: float, dy: float, margin: int) -> np.ndarray:
    """Backscatter of a moved scene. Its fourth root is moved, which has no peaks that would ring."""
    root = moved(power**0.25, dx, dy) if dx or dy else power**0.25
    return 40 * np.log10(np.maximum(cropped(root, margin), 0.02))


def test_planted_shifts_in_the_sandbox_are_found_to_a_quarter_of_a_pixel(planet: Path) -> None:
    errors = []
    for optical, power in sandbox_looks(planet.parent):
        for dx, dy in PLANTED:
            found = estimated_shift(
                cropped(optical), decibels_of(power, dx, dy, MARGIN), np.ones((264, 264), dtype=bool)
            )
            errors.append(off(found, dx, dy))
    assert len(errors) >= 5 * len(PLANTED)
    assert np.median(errors) < 0.12
    assert np.max(errors) < 0.3


# ------------------------------------------------------------------------------------------------ real pairs


def real_looks(root: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Pairs of TerraMind (224 px) and BigEarthNet (120 px): site, B04 and B08, power."""
    import rasterio

    with (root / "pairs.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["s2_collection"] == "sentinel-2-l2a"]
    for row in rows:
        if not row["site"].startswith(("terramind", "bigearthnet")):
            continue
        optical = root / "items" / "sentinel-2-l2a" / row["s2_item"]
        radar = root / "items" / "sentinel-1-rtc" / row["s1_item"]
        with rasterio.open(optical / "B04.tif") as raster:
            x, y, side = raster.bounds.left, raster.bounds.top, raster.width
        bands = np.stack([read(optical / f"{band}.tif", x, y, side) for band in ("B04", "B08")])
        yield row["site"], bands, np.stack([read(radar / f"{band}.tif", x, y, side) for band in ("vv", "vh")])


def test_planted_shifts_between_real_images_are_followed(real_planet: Path) -> None:
    """The pairs lie up to 2 px off each other as they are, so it is the difference that is known."""
    followed = []
    for _, optical, power in real_looks(real_planet.parent):
        bands = cropped(optical, 6)
        whole = np.ones(bands.shape[1:], dtype=bool)
        before = estimated_shift(bands, decibels_of(power, 0, 0, 6), whole)
        if before is not None:
            for dx, dy in PLANTED[1:]:
                after = estimated_shift(bands, decibels_of(power, dx, dy, 6), whole)
                followed.append(off(after, before.dx_px + dx, before.dy_px + dy))
    assert len(followed) >= 3 * len(PLANTED[1:])
    assert np.median(followed) < 0.15
    assert np.max(followed) < 0.5


def test_real_images_of_different_places_do_not_fit(real_planet: Path) -> None:
    looks = [look for look in real_looks(real_planet.parent) if look[0].startswith("terramind")]
    whole = np.ones((212, 212), dtype=bool)
    for site, optical, _ in looks:
        for other, _, power in looks:
            if other != site:
                assert estimated_shift(cropped(optical, 6), decibels_of(power, 0, 0, 6), whole) is None
