"""Matching at archive scale: seconds, memory, and the ratio to a spatial join.

    python benchmarks/matching.py            100,000 × 100,000 beside geopandas, then 1,000,000 × 1,000,000 alone
    python benchmarks/matching.py --quick    20,000 and 100,000 instead

The catalog is made up: Sentinel-2 scenes of 110 km and Sentinel-1 frames of 250 × 170 km, scattered over continents
that hold a third of the globe and over a year, so that a million of each make about 4.5 million pairs within a day.
`passes` is the same with frames in runs of four, as a satellite takes them, and with one scene in twenty a part of a
tile that two ground stations received; it is matched with the rule that keeps each tile to one orbit.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray

from geossl_data.scenes.matching import match_acquisitions
from geossl_data.scenes.matching.acquisitions import Acquisitions
from geossl_data.scenes.matching.ground import LEAST_SHARE
from geossl_data.scenes.matching.matches import Matches

MAX_GAP = timedelta(days=1)
DAYS = 328
DAY_US = 86_400_000_000
KM_PER_DEGREE = 111.195
FRAMES_PER_PASS = 4
SPLIT_TILES = 0.05


def centres(draw: np.random.Generator, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes and latitudes of `n` points on made-up continents of 15 degrees."""
    lon = draw.uniform(-180, 180, 5 * n)
    lat = np.degrees(np.arcsin(draw.uniform(np.sin(np.radians(-58)), np.sin(np.radians(78)), 5 * n)))
    block = (np.floor(lon / 15) * 7919 + np.floor(lat / 15) * 104_729).astype(np.int64) % 1000
    land = np.flatnonzero(block < 292)[:n]
    return lon[land], lat[land]


def quads(
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    west: NDArray[np.float64],
    east: NDArray[np.float64],
    half_height: float,
    tilt_degrees: NDArray[np.float64],
) -> NDArray[np.object_]:
    """Tilted rectangles, their edges in km from the centre."""
    x = np.stack([west, east, east, west], axis=1)
    y = np.array([-half_height, -half_height, half_height, half_height])
    cosine, sine = np.cos(np.radians(tilt_degrees))[:, None], np.sin(np.radians(tilt_degrees))[:, None]
    per_lon = KM_PER_DEGREE * np.cos(np.radians(lat))[:, None]
    corners = (lon[:, None] + (x * cosine - y * sine) / per_lon, lat[:, None] + (x * sine + y * cosine) / KM_PER_DEGREE)
    return shapely.polygons(np.stack(corners, axis=-1))


def ids(draw: np.random.Generator, prefix: str, n: int) -> NDArray[np.object_]:
    """Item ids as long as real ones, in no order."""
    names = np.empty(n, dtype=object)
    names[:] = [f"{prefix}_20230601T101031_{number:08d}_N0509_R022_T32TMT" for number in draw.permutation(n)]
    return names


def sentinel_2(n: int, seed: int, split: float) -> Acquisitions:
    """`n` scenes, of which a share makes up tiles that come in two parts."""
    draw = np.random.default_rng(seed)
    n_split = int(n * split / 2)
    lon, lat = centres(draw, n - n_split)
    tilt, us = draw.uniform(-15, 15, len(lon)), draw.integers(0, DAYS * DAY_US, len(lon))
    platform, orbit = draw.integers(0, 2, len(lon)), draw.integers(1, 144, len(lon))
    edge = np.full(len(lon), 55.0)
    cut = draw.uniform(-40, 40, n_split)
    again = np.concatenate([np.arange(len(lon)), np.arange(n_split)])
    west = np.concatenate([-edge, cut])
    east = np.concatenate([cut, edge[n_split:], edge[:n_split]])
    us = us[again]
    us[len(lon) :] += 8_000_000
    tile = (np.floor(lon[again]) + 180 + 360 * np.floor(lat[again] + 90)).astype(np.int64)
    return Acquisitions(
        ids=ids(draw, "S2A_MSIL2A", n),
        acquired_us=us,
        footprints=quads(lon[again], lat[again], west, east, 55.0, tilt[again]),
        platform=platform[again],
        orbit_state=np.ones(n, dtype=np.int64),
        relative_orbit=orbit[again],
        tile=tile,
        version=np.zeros(n, dtype=np.int64),
        platforms=("sentinel-2a", "sentinel-2b"),
        tiles=tuple(f"{number:05d}" for number in range(360 * 180)),
    )


def sentinel_1(n: int, seed: int, per_pass: int) -> Acquisitions:
    """`n` frames in runs of `per_pass` along the track, 25 s after each other."""
    draw = np.random.default_rng(seed)
    n_passes = -(-n // per_pass)
    lon, lat = centres(draw, n_passes)
    state = draw.integers(0, 2, n_passes)
    first_us = draw.integers(0, DAYS * DAY_US, n_passes)
    platform = draw.integers(0, 2, n_passes)
    # A place is seen from few orbits.
    orbit = 1 + (2 * np.floor(lon / 2.5).astype(np.int64) + state) % 175
    tilt = np.where(state == 0, 12.0, -12.0) if per_pass > 1 else draw.uniform(-15, 15, n_passes)
    number, step = np.divmod(np.arange(n), per_pass)
    along = 170.0 * step
    lat_of = lat[number] + along * np.cos(np.radians(tilt[number])) / KM_PER_DEGREE
    lon_of = lon[number] - along * np.sin(np.radians(tilt[number])) / (KM_PER_DEGREE * np.cos(np.radians(lat[number])))
    edge = np.full(n, 125.0)
    return Acquisitions(
        ids=ids(draw, "S1A_IW_GRDH", n),
        acquired_us=first_us[number] + 25_000_000 * step,
        footprints=quads(lon_of, np.minimum(lat_of, 85.0), -edge, edge, 85.0, tilt[number]),
        platform=platform[number],
        orbit_state=state[number],
        relative_orbit=orbit[number],
        tile=np.full(n, -1),
        version=np.zeros(n, dtype=np.int64),
        platforms=("sentinel-1a", "sentinel-1b"),
    )


def timed(run: Callable[[], Matches]) -> tuple[float, float, Matches]:
    """Seconds of wall clock and of processor, and the answer."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = run()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def spatial_join(s2: Acquisitions, s1: Acquisitions) -> tuple[float, int, set[tuple[int, int]]]:
    """Seconds, pairs in space, and pairs in space and time of geopandas."""
    left = geopandas.GeoDataFrame({"s2_us": s2.acquired_us}, geometry=s2.footprints, crs=4326)
    right = geopandas.GeoDataFrame({"s1_us": s1.acquired_us}, geometry=s1.footprints, crs=4326)
    wall = time.perf_counter()
    joined = geopandas.sjoin(left, right, predicate="intersects")
    near = joined[(joined.s2_us - joined.s1_us).abs() <= MAX_GAP.total_seconds() * 1e6]
    seconds = time.perf_counter() - wall
    return seconds, len(joined), set(zip(near.index.tolist(), near.index_right.tolist(), strict=True))


def share(a: shapely.Geometry, b: shapely.Geometry) -> float:
    """Shared area over the smaller area."""
    return a.intersection(b).area / min(a.area, b.area)


def beside_geopandas(n: int, repeats: int) -> None:
    """Print the ratio to geopandas on `n` scenes of each sensor; both have to find the same."""
    s2, s1 = sentinel_2(n, 1, 0.0), sentinel_1(n, 2, 1)
    own = [timed(lambda: match_acquisitions(s2, s1, max_gap=MAX_GAP, orbit="any")) for _ in range(repeats)]
    seconds, n_joined, expected = spatial_join(s2, s1)
    own += [timed(lambda: match_acquisitions(s2, s1, max_gap=MAX_GAP, orbit="any")) for _ in range(repeats)]
    found = own[0][2]
    with_more = np.diff(found.s1_more.offsets)
    pairs = set(zip(found.s2_index.tolist(), found.s1_index.tolist(), strict=True)) | set(
        zip(np.repeat(found.s2_index, with_more).tolist(), found.s1_more.values.tolist(), strict=True)
    )
    # geopandas counts pairs that only touch, and its longitudes end at the antimeridian.
    west, _, east, _ = shapely.bounds(s2.footprints).T
    s1_west, _, s1_east, _ = shapely.bounds(s1.footprints).T
    too_many = [
        (a, b) for a, b in pairs - expected if max(east[a], s1_east[b]) < 180 and min(west[a], s1_west[b]) > -180
    ]
    missed = [(a, b) for a, b in expected - pairs if share(s2.footprints[a], s1.footprints[b]) > LEAST_SHARE]
    if too_many or missed:
        raise SystemExit(f"not the same pairs: {len(missed)} missed, {len(too_many)} too many")
    median = statistics.median(wall for wall, _, _ in own)
    slowest = max(wall for wall, _, _ in own)
    print(f"{n:,} × {n:,} scenes, within {MAX_GAP.days} d")
    print(
        f"  geopandas sjoin + time filter   {seconds:8.2f} s   {n_joined:,} pairs in space, {len(expected):,} in time"
    )
    runs = f"median of {len(own)}, {slowest:.2f} at most"
    print(f"  geossl                          {median:8.2f} s   {len(found):,} pairs ({runs})")
    print(f"  ratio                           {seconds / median:8.1f} ×", flush=True)


def alone(n: int, kind: str) -> None:
    """Print what matching `n` scenes of each sensor takes, as JSON; one processor where the system allows it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    passes = kind == "passes"
    s2 = sentinel_2(n, 1, SPLIT_TILES if passes else 0.0)
    s1 = sentinel_1(n, 2, FRAMES_PER_PASS if passes else 1)
    before = peak_gb()
    orbit = "same-relative" if passes else "any"
    wall, cpu, found = timed(lambda: match_acquisitions(s2, s1, max_gap=MAX_GAP, orbit=orbit))
    mosaics = int((np.diff(found.s1_more.offsets) > 0).sum())
    result = {"wall_s": wall, "cpu_s": cpu, "before_gb": before, "peak_gb": peak_gb(), "pairs": len(found)}
    print(json.dumps({**result, "mosaics": mosaics}))


def peak_gb() -> float:
    """The most memory that this process has held, 10⁹ bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def in_a_process(n: int, kind: str, repeats: int) -> None:
    """Print the medians of `alone`, each run in a process of its own."""
    command = [sys.executable, __file__, "--alone", str(n), "--kind", kind]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(repeats)]
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    print(f"{n:,} × {n:,} scenes, within {MAX_GAP.days} d, {kind}, one processor, median of {repeats}")
    print(f"  wall clock, processor           {median['wall_s']:8.2f} s  {median['cpu_s']:8.2f} s")
    print(f"  peak memory (before matching)   {median['peak_gb']:8.2f} GB ({median['before_gb']:.2f} GB)")
    print(f"  pairs (of several frames)       {median['pairs']:,.0f} ({median['mosaics']:,.0f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Matching at archive scale.")
    parser.add_argument("--quick", action="store_true", help="a fifth and a tenth of the scenes")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kind", default="scattered", choices=("scattered", "passes"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone is not None:
        alone(options.alone, options.kind)
        return
    beside_geopandas(20_000 if options.quick else 100_000, repeats=3)
    for kind in ("scattered", "passes"):
        in_a_process(100_000 if options.quick else 1_000_000, kind, repeats=3)


if __name__ == "__main__":
    main()
