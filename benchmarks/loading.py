"""Loading samples: geossl beside webdataset, litdata, mosaicml-streaming, Zarr in tar and GeoTIFFs, and the copy alone.

    python -m venv PEERS && PEERS/bin/pip install 'torch>=2.11,<2.14' webdataset litdata zarr rasterio
    python -m venv STREAMING && STREAMING/bin/pip install 'torch>=2.11,<2.14' mosaicml-streaming
    python benchmarks/loading.py --peers PEERS --streaming STREAMING

A sample is four dates of twelve Sentinel-2 and two Sentinel-1 bands, 264 px of 10 m a side. The pixels are real, out of
the data pack: patches of 256 and 224 px, mirrored to 264, turned, and made a little brighter or darker, so that no two
samples are equal. Every data set is written from the same arrays. The peers hold what their documentation shows, one
array of all bands at 10 m and one of Sentinel-1 as float32 (8.92 MB a sample); geossl holds bands at their own
resolution and Sentinel-1 in steps of 0.01 dB (4.21 MB), out of which a GPU makes the same stack. "webdataset on
geossl's npy shards" reads those 4.21 MB: what of the difference is layout, and what is the loader.

Everything comes from the page cache. Each loader runs in a process that stays; the processes are asked for one pass at
a time, in turns. Workers stay from pass to pass. geossl shuffles globally, the others read in the order of their files.
A first pass adds all bytes up, and is not timed: "exact" says that they are those of the arrays. Zarr and GeoTIFF are
slow and read every fourth sample's worth. "CPU ms" counts workers. The limit copies the members of geossl's npy shards
into batch buffers that are used again. "× webdataset" is times its documented pipeline with 0 or 2 workers, whichever
is faster; for one date that pipeline decodes all four and picks, because that is how its samples are stored.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from loading.comparison import Setting, compare
from loading.pixels import pixels_in
from loading.runs import Python

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "build" / "benchmarks" / "loading"
BEGAN = time.monotonic()
PATCHES = ROOT.parent / "shared" / "data" / "planet" / "items"


def main() -> None:
    """Make the pixels and the data sets that are not there, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data sets; build/benchmarks/loading")
    parser.add_argument("--patches", type=Path, default=PATCHES, help="planet/items of the data pack")
    parser.add_argument("--peers", type=Path, help="virtual environment of the peers")
    parser.add_argument("--streaming", type=Path, help="virtual environment of mosaicml-streaming")
    parser.add_argument("--samples", type=int, default=192)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=[""], help="how the names of the cases to run begin")
    parser.add_argument("--keep", action="store_true", help="do not write geossl's shards anew")
    options = parser.parse_args()
    pythons: dict[Python, str] = {"own": sys.executable}
    for name, folder in (("peers", options.peers), ("streaming", options.streaming)):
        if folder is None:
            continue
        if not (folder / "bin" / "python").is_file():
            parser.error(f"{folder}: no virtual environment; make one with python -m venv")
        pythons[name] = str(folder.resolve() / "bin" / "python")
    # So that the readers are ended by whatever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    pixels = pixels_in(options.data.resolve(), options.patches, samples=options.samples, say=say)
    setting = Setting(
        folder=pixels.parent,
        samples=options.samples,
        batch=options.batch,
        pythons=pythons,
        keep=options.keep,
        say=say,
    )
    compare(setting, rounds=options.rounds, wanted=options.cases)


def say(text: str) -> None:
    """Progress, beside the tables."""
    print(f"… {time.monotonic() - BEGAN:4.0f} s  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
