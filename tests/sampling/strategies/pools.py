"""Pools of candidates for the tests of strategies."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.grid import to_lonlat, utm_epsg
from geossl_data.sampling.strategies import Draw, Ground

SIDE_M = 2640.0


def squares(epsg: Any, x: Any, y: Any, *, side_m: float = SIDE_M, **options: Any) -> Ground:
    """Candidates by zone, west and north edge; stratum `s` unless given."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    zones = np.broadcast_to(np.asarray(epsg, dtype=np.int64), x.shape).copy()
    lon, lat = np.empty(len(x)), np.empty(len(x))
    for zone in np.unique(zones):
        here = zones == zone
        lon[here], lat[here] = to_lonlat(int(zone), x[here] + side_m / 2, y[here] - side_m / 2)
    lon = (lon + 180.0) % 360.0 - 180.0
    values = {"stratum": np.full(len(x), "s"), **options}
    return Ground(lon=lon, lat=lat, epsg=zones, x=x, y=y, side_m=side_m, **values)


def tile(
    columns: int,
    rows: int,
    *,
    epsg: int = 32632,
    x: float = 450_000.0,
    y: float = 5_000_000.0,
    side_m: float = SIDE_M,
    **options: Any,
) -> Ground:
    """Candidates side by side, row by row from the north-west corner (x, y)."""
    xs, ys = np.meshgrid(x + side_m * np.arange(columns), y - side_m * np.arange(rows))
    return squares(epsg, xs.ravel(), ys.ravel(), side_m=side_m, **options)


def row_of(sizes: dict[str, int], **options: Any) -> Ground:
    """Candidates in one row, the strata one after the other."""
    names = [name for name, size in sizes.items() for _ in range(size)]
    return tile(len(names), 1, x=300_000.0, side_m=960.0, stratum=names, **options)


def scattered(n: int, lon: float, lat: float, *, seed: int = 0, spread_m: float = 12_000.0, **options: Any) -> Ground:
    """Candidates of 960 m at random about a point, in the zones on both sides of it."""
    from geossl_data.grid import from_lonlat

    rng = np.random.default_rng(seed)
    zones = np.array([utm_epsg(lon - 0.01, lat), utm_epsg(lon + 0.01, lat)])
    which = rng.integers(0, 2, n)
    centres = [from_lonlat(int(zone), lon, lat) for zone in zones]
    x = np.array([float(east) for east, _ in centres])[which] + rng.uniform(-spread_m, spread_m, n) / 2
    y = np.array([float(north) for _, north in centres])[which] + rng.uniform(-spread_m, spread_m, n) / 2
    return squares(zones[which], x, y, side_m=960.0, **options)


def joined(*grounds: Ground, **options: Any) -> Ground:
    """The candidates of several pools as one."""
    columns = {
        name: np.concatenate([np.asarray(getattr(ground, name)) for ground in grounds])
        for name in ("lon", "lat", "epsg", "x", "y", "stratum")
    }
    return replace(grounds[0], **{**columns, **options})


def shuffled(ground: Ground, order: NDArray[np.int64]) -> Ground:
    """The same candidates in another order."""
    names = ("lon", "lat", "epsg", "x", "y", "stratum", "weight", "change", "features", "share")
    given = {name: values for name in names if (values := getattr(ground, name)) is not None}
    return replace(ground, **{name: np.asarray(values)[order] for name, values in given.items()})


def counts(ground: Ground, draw: Draw) -> dict[str, int]:
    """How many candidates of each stratum were drawn; strata without any are absent."""
    names = np.asarray(ground.stratum)[draw.indices].tolist()
    return {name: names.count(name) for name in sorted(set(names))}


def frequencies(strategy: Any, ground: Ground, n: int, repeats: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each candidate was drawn, and the mean inclusion probability noted for it, of `repeats` draws."""
    hits, noted = np.zeros(len(ground)), np.zeros(len(ground))
    for seed in range(repeats):
        draw = strategy(ground, n, rng=np.random.default_rng(seed))
        hits[draw.indices] += 1
        noted[draw.indices] += draw.inclusion_probability
    return hits / repeats, noted / np.maximum(hits, 1)
