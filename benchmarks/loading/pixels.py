"""The pixels that every loader is given: real ones where the data pack lies beside the checkout, else a made field."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from geossl_data.bands import MEMBERS, S1_NODATA

Array = NDArray[Any]
Patch = dict[str, Array]
"""Stored numbers by member, shape (bands, side, side)."""

SIZE_PX = 264
DATES = 4
KEPT = ("s2_10m", "s2_20m", "s2_60m", "s1")
"""Members of a date; neither scene classes nor labels, which the peers' sets do not hold."""
SHIFT = 20
"""Most that is added to or taken from the numbers of a patch, so that samples differ and their texture does not."""
MADE = 16
"""Patches that are made where there are no real ones."""


def side(name: str) -> int:
    """Pixels along a member."""
    return SIZE_PX // MEMBERS[name].factor


def pixels_in(folder: Path, patches: Path, *, samples: int, say: Callable[[str], None]) -> Path:
    """A folder with `{member}.npy`, shape (samples, dates, bands, side, side); written once and found again.

    patches: `planet/items` of the data pack; where it is absent the pixels are made, and the folder is called so.
    """
    real = patches.is_dir()
    found = folder / f"{samples}-{'real' if real else 'made'}" / "pixels"
    if (found / "complete").is_file():
        return found
    say("pixels, from " + (str(patches) if real else "a 1/f field with noise, because there is no data pack"))
    optical, radar = real_patches(patches) if real else made_patches()
    found.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        sources = [patch[name] for patch in (radar if name == "s1" else optical)]
        shape = (samples, DATES, len(MEMBERS[name].bands), side(name), side(name))
        array = np.lib.format.open_memmap(found / f"{name}.npy", mode="w+", dtype=MEMBERS[name].dtype, shape=shape)
        for number in range(samples * DATES):
            array[number // DATES, number % DATES] = varied(sources, number, side(name))
        array.flush()
    (found / "complete").touch()
    return found


def varied(sources: Sequence[Array], number: int, size: int) -> Array:
    """Patch `number` of endlessly many: one of `sources`, mirrored beyond its edge, turned, its numbers shifted."""
    source = sources[number % len(sources)]
    turn = number // len(sources)
    padding = [(0, 0), *((0, max(0, size - length)) for length in source.shape[1:])]
    grown = np.pad(source, padding, mode="symmetric")[:, :size, :size]
    turned = np.rot90(grown[:, ::-1] if turn // 4 % 2 else grown, turn % 4, axes=(1, 2))
    change = int(np.random.default_rng(number).integers(-SHIFT, SHIFT + 1))
    shifted = np.clip(turned.astype(np.int64) + change, 1, 65535)
    return np.where(turned == 0, 0, shifted).astype(np.uint16)


def real_patches(folder: Path) -> tuple[list[Patch], list[Patch]]:
    """Sentinel-2 patches of 256 px, each band at its own resolution, and Sentinel-1 patches of 224 px."""
    optical = []
    for item in sorted((folder / "sentinel-2-l2a").glob("satclip_*")):
        optical.append({name: stack(item, MEMBERS[name].bands) for name in KEPT if name != "s1"})
    radar = []
    for item in sorted((folder / "sentinel-1-rtc").glob("terramind_*")):
        linear = stack(item, ("vv", "vh")).astype(np.float64)
        valid = np.isfinite(linear) & (linear > 0) & (linear != S1_NODATA)
        decibels = 10 * np.log10(linear, where=valid, out=np.full(linear.shape, np.nan))
        radar.append({"s1": MEMBERS["s1"].stored(decibels)})
    return optical, radar


def stack(item: Path, bands: Sequence[str]) -> Array:
    """Bands of one item that lie on one grid, shape (bands, rows, columns)."""
    arrays = []
    for band in bands:
        with rasterio.open(item / f"{band}.tif") as file:
            arrays.append(file.read(1))
    return np.stack(arrays)


def made_patches() -> tuple[list[Patch], list[Patch]]:
    """A 1/f field that all bands share in part, with noise of the sensor; speckle of 4.4 looks in Sentinel-1.

    Blosc with LZ4 and bitshuffle makes it about as small as real pixels: Sentinel-2 to 1/1.5, Sentinel-1 to 1/1.5.
    """
    rng = np.random.default_rng(0)
    optical, radar = [], []
    for _ in range(MADE):
        common = field(rng)
        patch = {}
        for name in KEPT:
            factor, bands = MEMBERS[name].factor, len(MEMBERS[name].bands)
            layers = [0.8 * common + 0.2 * field(rng) for _ in range(bands)]
            coarse = np.stack([layer[::factor, ::factor] for layer in layers])
            if name == "s1":
                speckle = 10 * np.log10(rng.gamma(4.4, 1 / 4.4, coarse.shape))
                level = np.array([-10.0, -17.0])[:, np.newaxis, np.newaxis]
                radar.append({"s1": MEMBERS["s1"].stored(level + 2 * coarse + speckle)})
            else:
                level = rng.uniform(500, 3000, (bands, 1, 1))
                noisy = level * np.exp(0.25 * coarse) + rng.normal(0, 12, coarse.shape)
                patch[name] = np.clip(np.rint(noisy), 1, 65535).astype(np.uint16)
        optical.append(patch)
    return optical, radar


def field(rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise with a spectrum of 1/f amplitude, mean 0 and deviation 1, shape (SIZE_PX, SIZE_PX)."""
    frequency = np.hypot(np.fft.fftfreq(SIZE_PX)[:, np.newaxis], np.fft.rfftfreq(SIZE_PX)[np.newaxis])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(SIZE_PX, SIZE_PX))) / frequency**1.5
    found = np.fft.irfft2(spectrum, s=(SIZE_PX, SIZE_PX))
    return (found - found.mean()) / found.std()
