"""Places without a catalog at planet scale: seconds of one processor, and the ratio to rejection sampling with shapely.

    python benchmarks/places.py            100,000 and 1,000,000 places at least 5 km apart, by three rules
    python benchmarks/places.py --quick    100,000 only

Each run is a process of its own that is held to one processor and one thread. The rejection sampler is what one writes
with shapely: points evenly over the sphere between the same latitudes, `contains_xy` of the prepared land, and a point
kept when an STRtree of those kept before has none within the distance, all of it on arrays, in batches that grow with
what is kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from geossl_data import tables
from geossl_data.grid import haversine_km, unit_vectors
from geossl_data.records import Site
from geossl_data.sampling import anywhere
from geossl_data.sampling.land import land_pieces, land_polygons
from geossl_data.sampling.spread import chord, pairs
from geossl_data.sampling.strata import strata_of

APART_KM = 5.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
RULES = {
    "uniform": {"strategy": "uniform"},
    "geography by region": {"strategy": "geography"},
    "geography by climate": {"strategy": "geography", "strata": "climate"},
}


def alone(n: int, rule: str) -> dict[str, float]:
    """Seconds of processor time of each step of a draw."""
    seconds: dict[str, float] = {}
    clock = time.process_time()

    def lap(step: str) -> None:
        nonlocal clock
        seconds[step], clock = time.process_time() - clock, time.process_time()

    # The first use of pyproj, pyarrow and the layers loads their files.
    arguments = {**RULES[rule]}
    arguments = {key: strata_of(value) if key == "strata" else value for key, value in arguments.items()}
    anywhere.draw_places(10, **{**arguments, "area": shapely.box(10, 45, 11, 46)}).squares  # noqa: B018
    lap("warming up")
    land_pieces.__globals__["_all_pieces"].cache_clear()
    land_pieces()
    lap("land")
    made, make = [0.0], anywhere.make_sites

    def timed(*given: object, **named: object) -> object:
        start = time.process_time()
        sites = make(*given, **named)
        made[0] = time.process_time() - start
        return sites

    anywhere.make_sites = timed
    sites = anywhere.draw_places(n, min_distance_km=APART_KM, **arguments)
    lap("draw")
    seconds["draw"] -= made[0]
    seconds["keys and splits"] = made[0]
    with tempfile.TemporaryDirectory() as folder:
        rings = sites.squares
        lap("footprints")
        tables.write_columns(Path(folder) / "places.parquet", sites.columns, Site, rings=rings)
        lap("writing")
    seconds["peak_gb"] = peak_gb()
    close = pairs(unit_vectors(sites.lon, sites.lat), chord(APART_KM))
    if len(close[0]) or len(sites) != n or len(np.unique(sites.key)) != n:
        raise SystemExit(f"{len(close[0])} pairs nearer than {APART_KM} km, {len(sites)} places")
    return seconds


def around(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.object_]:
    """Boxes in degrees that hold the circles of the distance around points."""
    high = APART_KM / 111.0
    wide = high / np.cos(np.radians(np.minimum(np.abs(lat) + high, 89.0)))
    return shapely.box(lon - wide, lat - high, lon + wide, lat + high)


def rejection(n: int) -> dict[str, float]:
    """Seconds of processor time of the rejection sampler."""
    start = time.process_time()
    land = shapely.multipolygons(land_polygons())
    shapely.prepare(land)
    draw = np.random.default_rng(0)
    low, high = np.sin(np.radians([-56.0, 83.0]))
    lons, lats = np.zeros(0), np.zeros(0)
    tree = shapely.STRtree([])
    while len(lons) < n:
        batch = max(4096, len(lons) // 2)
        lon, lat = draw.uniform(-180, 180, batch), np.degrees(np.arcsin(draw.uniform(low, high, batch)))
        on_land = shapely.contains_xy(land, lon, lat)
        lon, lat = lon[on_land], lat[on_land]
        new, old = tree.query(around(lon, lat))
        stays = np.ones(len(lon), dtype=bool)
        stays[new[haversine_km(lon[new], lat[new], lons[old], lats[old]) < APART_KM]] = False
        lon, lat = lon[stays], lat[stays]
        later, earlier = shapely.STRtree(shapely.points(lon, lat)).query(around(lon, lat))
        close = (earlier < later) & (haversine_km(lon[later], lat[later], lon[earlier], lat[earlier]) < APART_KM)
        stays = np.ones(len(lon), dtype=bool)
        for one, other in sorted(zip(later[close].tolist(), earlier[close].tolist(), strict=True)):
            stays[one] &= not stays[other]
        lons, lats = np.concatenate([lons, lon[stays]]), np.concatenate([lats, lat[stays]])
        tree = shapely.STRtree(shapely.points(lons, lats))
    return {"rejection": time.process_time() - start}


def peak_gb() -> float:
    """The most memory that this process has held, 10⁹ bytes."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def in_processes(what: str, n: int, repeats: int) -> dict[str, float]:
    """Medians of a run over processes of their own."""
    command = [sys.executable, __file__, "--alone", what, "--count", str(n)]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, env={**os.environ, **ONE_THREAD}).stdout)
        for _ in range(repeats)
    ]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Places without a catalog at planet scale.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the places")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone is not None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(
            json.dumps(
                rejection(options.count) if options.alone == "rejection" else alone(options.count, options.alone)
            )
        )
        return
    counts = (100_000,) if options.quick else (100_000, 1_000_000)
    print(f"at least {APART_KM:g} km apart, seconds of one processor, median of 3")
    for n in counts:
        slow = in_processes("rejection", n, 3)["rejection"]
        print(f"{n:,} by rejection with shapely: {slow:.2f} s", flush=True)
        for rule in RULES:
            found = in_processes(rule, n, 3)
            steps = {step: found[step] for step in found if step not in ("warming up", "peak_gb")}
            drawn = steps["land"] + steps["draw"]
            print(f"{n:,} {rule}: land and draw {drawn:.2f} s, all {sum(steps.values()):.2f} s")
            print(
                f"  {', '.join(f'{step} {seconds:.2f}' for step, seconds in steps.items())}; {found['peak_gb']:.2f} GB"
            )
            if rule == "uniform":
                print(f"  rejection takes {slow / drawn:.1f} × land and draw", flush=True)


if __name__ == "__main__":
    main()
