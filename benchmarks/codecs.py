"""Codecs for the members of a look, on real pixels: how much smaller, and how fast on one processor.

    python benchmarks/codecs.py              the codecs that geossl installs
    pip install blosc2 zarr                  and two more, where they are there

Sentinel-2: the items of the data pack whose twelve bands lie at their own resolution, one array for each resolution.
Sentinel-1: items of 100 px and more, as uint16 in steps of 0.01 dB. Every codec gives back exactly what it was given,
or this fails. A rate is megabytes of numbers over processor time, all arrays together, the median of the rounds; the
codecs take turns. Arrays are decoded into memory that is there already, where a codec can.
"""

import argparse
import importlib.util
import io
import statistics
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import rasterio
from loading.pixels import stack
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from geossl_data.bands import MEMBERS, S1_NODATA, S2_MEMBERS
from geossl_data.shards.codec import CODECS

PATCHES = Path(__file__).resolve().parents[2] / "shared" / "data" / "planet" / "items"
SMALLEST_PX = 100
"""Narrower Sentinel-1 items are left out."""

Array = NDArray[Any]


@dataclass(slots=True, kw_only=True)
class Tried:
    """A codec and what it cost so far."""

    name: str
    encode: Callable[[Array], bytes]
    decode: Callable[[bytes, Array], None]
    encoded: dict[str, int] = field(default_factory=dict)
    """Bytes by sensor."""
    encode_s: dict[str, list[float]] = field(default_factory=dict)
    decode_s: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, sensor: str, arrays: list[Array]) -> None:
        """Encode and decode all arrays once."""
        outs = [np.zeros_like(array) for array in arrays]
        began = time.process_time()
        encoded = [self.encode(array) for array in arrays]
        between = time.process_time()
        for data, out in zip(encoded, outs, strict=True):
            self.decode(data, out)
        ended = time.process_time()
        assert all(np.array_equal(array, out) for array, out in zip(arrays, outs, strict=True)), self.name
        self.encoded[sensor] = sum(map(len, encoded))
        self.encode_s.setdefault(sensor, []).append(between - began)
        self.decode_s.setdefault(sensor, []).append(ended - between)

    def row(self, nbytes: dict[str, int]) -> str:
        """A line of the table; nbytes: of the arrays, by sensor."""
        cells = [f"{self.name:44}"]
        for sensor, size in nbytes.items():
            encode, decode = (statistics.median(seconds[sensor]) for seconds in (self.encode_s, self.decode_s))
            cells += [f"{size / self.encoded[sensor]:.2f}", f"{size / encode / 1e6:.0f}", f"{size / decode / 1e6:.0f}"]
        return "| " + " | ".join(cells) + " |"


def ours(name: str) -> Tried:
    codec = CODECS[name]
    return Tried(name=f"**{name}**", encode=codec.encode, decode=codec.decode_into)


def blosc(compressor: str, level: int, shuffle: str) -> Tried:
    def encode(array: Array) -> bytes:
        return bytes(
            imagecodecs.blosc_encode(
                array, level=level, compressor=compressor, shuffle=shuffle, typesize=array.itemsize, numthreads=1
            )
        )

    def decode(data: bytes, out: Array) -> None:
        imagecodecs.blosc_decode(data, numthreads=1, out=out.reshape(-1).view(np.uint8))

    return Tried(name=f"Blosc {compressor} {level}, {shuffle}", encode=encode, decode=decode)


def pcodec(level: int) -> Tried:
    def decode(data: bytes, out: Array) -> None:
        imagecodecs.pcodec_decode(data, out=out)

    return Tried(name=f"pcodec {level}", encode=partial(imagecodecs.pcodec_encode, level=level), decode=decode)


def blosc2_bytedelta() -> Tried:
    import blosc2

    filters = [blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA]

    def encode(array: Array) -> bytes:
        return bytes(
            blosc2.compress2(
                array, codec=blosc2.Codec.ZSTD, clevel=1, filters=filters, typesize=array.itemsize, nthreads=1
            )
        )

    def decode(data: bytes, out: Array) -> None:
        blosc2.decompress2(data, dst=out, nthreads=1)

    return Tried(name="Blosc2 zstd 1, shuffle and bytedelta", encode=encode, decode=decode)


def npz() -> Tried:
    def encode(array: Array) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, array=array)
        return buffer.getvalue()

    def decode(data: bytes, out: Array) -> None:
        out[...] = np.load(io.BytesIO(data))["array"]

    return Tried(name="npz (zlib 6)", encode=encode, decode=decode)


def zarr_zip() -> Tried:
    import zarr
    from zarr.core.buffer import cpu
    from zarr.storage import MemoryStore

    def encode(array: Array) -> bytes:
        kept: dict[str, Any] = {}
        zarr.create_array(MemoryStore(kept), data=array, chunks=array.shape)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, content in sorted(kept.items()):
                archive.writestr(name, content.to_bytes())
        return buffer.getvalue()

    def decode(data: bytes, out: Array) -> None:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            kept = {name: cpu.Buffer.from_bytes(archive.read(name)) for name in archive.namelist()}
        out[...] = zarr.open_array(MemoryStore(kept, read_only=True), mode="r")[...]

    return Tried(name="Zarr 3, zipped (its default, zstd)", encode=encode, decode=decode)


def geotiff() -> Tried:
    def encode(array: Array) -> bytes:
        bands, height, width = array.shape
        with MemoryFile() as memory:
            with memory.open(
                driver="GTiff",
                count=bands,
                height=height,
                width=width,
                dtype=array.dtype,
                interleave="band",
                compress="deflate",
                predictor=2,
            ) as file:
                file.write(array)
            return bytes(memory.read())

    def decode(data: bytes, out: Array) -> None:
        with MemoryFile(data) as memory, memory.open() as file:
            file.read(out=out)

    return Tried(name="GeoTIFF, DEFLATE, predictor 2", encode=encode, decode=decode)


def tried() -> Iterator[Tried]:
    """Every codec that can be had here."""
    yield from (ours(name) for name in ("npy", "blosc", "archive"))
    yield blosc("lz4", 5, "bitshuffle")
    yield blosc("lz4", 9, "shuffle")
    yield blosc("lz4hc", 4, "shuffle")
    for level in (1, 5):
        yield blosc("zstd", level, "bitshuffle")
    for level in (1, 3, 5, 7):
        yield blosc("zstd", level, "shuffle")
    yield pcodec(4)
    yield pcodec(8)
    if importlib.util.find_spec("blosc2"):
        yield blosc2_bytedelta()
    yield npz()
    if importlib.util.find_spec("zarr"):
        yield zarr_zip()
    yield geotiff()


def optical(folder: Path) -> list[Array]:
    """Members of the Sentinel-2 items that hold all bands, each at its own resolution."""
    found = []
    for item in sorted((folder / "sentinel-2-l2a").iterdir()):
        groups = [MEMBERS[name].bands for name in S2_MEMBERS]
        if not all((item / f"{band}.tif").is_file() for bands in groups for band in bands):
            continue
        fine, middle, coarse = (stack(item, bands) for bands in groups)
        # Some items have all bands on one grid, enlarged.
        if coarse.shape[1] < middle.shape[1] < fine.shape[1]:
            found += [fine, middle, coarse]
    return found


def radar(folder: Path) -> list[Array]:
    """The stored numbers of the Sentinel-1 items that are large enough."""
    found = []
    for item in sorted((folder / "sentinel-1-rtc").iterdir()):
        linear = stack(item, ("vv", "vh")).astype(np.float64)
        if min(linear.shape[1:]) < SMALLEST_PX:
            continue
        valid = np.isfinite(linear) & (linear > 0) & (linear != S1_NODATA)
        found.append(MEMBERS["s1"].stored(10 * np.log10(linear, where=valid, out=np.full(linear.shape, np.nan))))
    return found


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=Path, default=PATCHES, help="planet/items of the data pack")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not options.patches.is_dir():
        parser.error(f"{options.patches}: no data pack")
    arrays = {"Sentinel-2": optical(options.patches), "Sentinel-1": radar(options.patches)}
    nbytes = {sensor: sum(array.nbytes for array in these) for sensor, these in arrays.items()}
    codecs = list(tried())
    for _ in range(options.rounds + 1):
        for codec in codecs:
            for sensor, these in arrays.items():
                codec.measure(sensor, these)
    for codec in codecs:
        # The first round makes memory and caches ready.
        for seconds in (*codec.encode_s.values(), *codec.decode_s.values()):
            del seconds[0]
    titles = [f"{short}: {what}" for short in ("S2", "S1") for what in ("ratio", "encode MB/s", "decode MB/s")]
    print("| " + " | ".join([f"{'codec':44}", *titles]) + " |")
    print("|" + "---|" * (len(titles) + 1))
    for codec in codecs:
        print(codec.row(nbytes))
    counts = ", ".join(
        f"{len(arrays[sensor])} arrays, {size / 1e6:.1f} MB of {sensor}" for sensor, size in nbytes.items()
    )
    print(f"\n{counts}; medians of {options.rounds} rounds; rasterio {rasterio.__version__}, ", end="")
    print(f"imagecodecs {imagecodecs.__version__}")


if __name__ == "__main__":
    main()
