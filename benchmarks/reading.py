"""Reading windows of remote scenes: geossl beside rasterio, async-geotiff, stackstac and odc-stac, on the same windows.

    python -m venv PEERS && PEERS/bin/pip install rasterio async-geotiff obstore stackstac odc-stac
    python benchmarks/reading.py --peers PEERS             all tables and the profile
    python benchmarks/reading.py --memory                  geossl's memory over 10,000 windows

Four full-size Sentinel-2 scenes of the sandbox (5 GB, rendered once in some minutes and found again) lie behind an
nginx on loopback that answers every request 50 ms late and counts requests and bytes. A window is 264 px of 10 m in
twelve bands, each at its own resolution. Every run of a method is a process of its own with nothing known from earlier;
its imports are not counted. Repetitions are interleaved, the figures medians. Pixels are compared, by checksum, with
what rasterio reads from the local files; "exact" is the share of bands of windows that agree.

"/ each" is the bytes of the answers over those of the blocks that each window touches, "/ shared" over the same blocks
counted once, however many windows touch them. Headers are part of what is sent. "CPU ms" is the method's own process;
nginx runs on the same processors. "snapped" windows were moved into one block of every band, as `--snap block` does it.
From disk means from the page cache.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from reading.comparison import Setting, compare, remember
from reading.scenes import scenes_in
from reading.server import serving

DATA = Path(__file__).resolve().parents[1] / "build" / "benchmarks" / "reading"


def main() -> None:
    """Render what is not there, serve it, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the scenes; build/benchmarks/reading")
    parser.add_argument("--peers", type=Path, help="virtual environment of the peers")
    parser.add_argument("--windows", type=int, help="200; with --memory 10,000")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=[""], help="how the names of the methods to run begin")
    parser.add_argument("--places", nargs="+", choices=("network", "disk"), default=["network", "disk"])
    parser.add_argument("--kinds", nargs="+", choices=("random", "snapped"), default=["random", "snapped"])
    parser.add_argument("--memory", action="store_true", help="only geossl's memory over many windows")
    options = parser.parse_args()
    if options.peers and not (options.peers / "bin" / "python").is_file():
        parser.error(f"{options.peers}: no virtual environment; make one with python -m venv")
    # So that nginx is ended by whatever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    items = scenes_in(options.data, workers=min(2, os.cpu_count() or 1), say=say)
    with serving(options.data, delay_s=options.latency_ms / 1e3) as server:
        setting = Setting(
            items=items,
            folder=options.data,
            server=server,
            delay_s=options.latency_ms / 1e3,
            peers=options.peers,
            seed=options.seed,
            say=say,
        )
        if options.memory:
            remember(setting, windows=options.windows or 10_000)
        else:
            compare(
                setting,
                windows=options.windows or 200,
                repeats=options.repeats,
                places=options.places,
                kinds=options.kinds,
                methods=options.methods,
            )


def say(text: str) -> None:
    """Progress, beside the tables."""
    print(f"… {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
