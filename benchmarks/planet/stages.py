"""The stages of a rehearsal, each for a process of its own: geossl's own functions, and what they came to."""

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geossl_data import pipeline, tables
from geossl_data.grid import Bounds
from geossl_data.recipe import FetchOptions, PlacesOptions, SampleOptions
from geossl_data.scenes.area import area_of_places
from geossl_data.scenes.plan import expected_items, plan_search
from geossl_data.scenes.providers import PROVIDERS
from geossl_data.scenes.query import Query
from planet.archive import write_archive
from planet.passes import frames_of, views_of
from planet.tiles import NORTH as NORTHMOST
from planet.tiles import SOUTH, Tiles, land_tiles

ALL_PLACES = 1_000_000
"""As many places as are drawn on all land; fewer are drawn on a strip of it, as densely."""
FIRST, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2022, 1, 1, tzinfo=UTC)
MAX_CLOUD = 20.0
ALL_LAND = {"Ghana to Algeria": (6.5, 35.0), "France": (44.0, 48.5)}
"""Latitudes between which there is no sea east of Greenwich."""

Facts = dict[str, Any]


def strip_of(places: int, tiles: Tiles) -> tuple[float, float, float, float]:
    """The ground that so many places are drawn on: from Greenwich eastwards, as wide as holds their share of the land
    tiles; west, south, east, north in degrees."""
    if places >= ALL_PLACES:
        return (-180.0, SOUTH, 180.0, NORTHMOST)
    eastwards = np.sort(tiles.centre[:, 0] % 360.0)
    east = float(np.ceil(eastwards[len(tiles) * places // ALL_PLACES] * 100) / 100)
    return (0.0, SOUTH, min(east, 180.0), NORTHMOST)


def archive(folder: Path, places: int, months: int) -> Facts:
    """The archive of the strip; nothing of geossl is measured here."""
    tiles = land_tiles()
    west, _, east, _ = strip_of(places, tiles)
    if (west, east) != (-180.0, 180.0):
        tiles = tiles.take(np.flatnonzero(_meets(tiles.corners, west, east)))
    frames = frames_of()
    if (west, east) != (-180.0, 180.0):
        frames = frames.take(np.flatnonzero(_meets(frames.corners, west, east)))
    counted = write_archive(folder / "archive", tiles, views_of(tiles), frames, FIRST, _end(months), say=_say)
    return {
        "tiles": len(tiles),
        "sentinel-2 items": counted.s2_items,
        "sentinel-1 items": counted.s1_items,
        "archive GB": counted.nbytes / 1e9,
    }


def _meets(corners: NDArray[np.float64], west: float, east: float) -> NDArray[np.bool_]:
    """Whether polygons, corners in degrees of shape (n, 4, 2), show some of a strip."""
    middle = (west + east) / 2
    lon = (corners[..., 0] - middle + 180.0) % 360.0 - 180.0
    # One that crosses the far side of the globe has both ends.
    is_near = np.ptp(lon, axis=1) < 180.0
    return is_near & (lon.max(axis=1) > west - middle) & (lon.min(axis=1) < east - middle)


def places(folder: Path, count: int, months: int) -> Facts:
    """`geossl sample DIR --anywhere`."""
    options = PlacesOptions(count=count, strategy="uniform", bbox=strip_of(count, land_tiles()))
    done = pipeline.draw_places(folder / "dataset", options, fresh=True)
    return {"places": done.facts["places drawn"]}


def plan(folder: Path, count: int, months: int) -> Facts:
    """`geossl fetch --dry-run` for a year around as many places on all land, and for the strip's own ground and period
    what is expected against what the archive holds."""
    pipeline.draw_places(folder / "everywhere", PlacesOptions(count=count, strategy="uniform"))
    asked = Query(
        area=area_of_places(folder / "everywhere" / "places.parquet"),
        start=FIRST,
        end=datetime(FIRST.year + 1, 1, 1, tzinfo=UTC),
        margin=timedelta(days=3),
    )
    planned = plan_search(PROVIDERS["planetary-computer"], asked)
    facts: Facts = {
        "questions": len(planned.questions),
        "requests": planned.expected_requests,
        "items": planned.expected_items,
        "hours": planned.expected_seconds / 3600,
    }
    east = min(strip_of(count, land_tiles())[2], 5.0)
    for name, (south, north) in ALL_LAND.items():
        for product, collection in (("L2A", "sentinel-2-l2a"), ("RTC", "sentinel-1-rtc")):
            box = (0.0, south, east, north)
            expected = expected_items(product, box, (_end(months) - FIRST).days)
            held = _held(folder / "archive", collection, box)
            facts[f"{collection}, {name}: expected / held"] = f"{expected:,.0f} / {held:,} = {expected / held:.2f}"
    return facts


def _held(archive: Path, collection: str, box: Bounds) -> int:
    """Items of an archive whose boxes meet a box; those across the antimeridian are left out."""
    west, south, east, north = box
    count = 0
    for path in archive.glob(f"{collection}_*.parquet"):
        limits = pq.read_table(path, columns=["bbox"])["bbox"].combine_chunks()
        left, bottom, right, top = (limits.field(name).to_numpy() for name in ("xmin", "ymin", "xmax", "ymax"))
        meets = (left <= east) & (right >= west) & (bottom <= north) & (top >= south) & (right - left < 180)
        count += int(meets.sum())
    return count


def _end(months: int) -> datetime:
    """The first moment after so many months."""
    return datetime(FIRST.year + months // 12, months % 12 + 1, 1, tzinfo=UTC)


def fetch(folder: Path, count: int, months: int) -> Facts:
    """`geossl fetch DIR --places`, from the archive's files."""
    options = FetchOptions(
        catalog=str(folder / "archive"),
        places=str(folder / "dataset" / "places.parquet"),
        start=FIRST.date(),
        end=(_end(months) - timedelta(days=1)).date(),
        max_cloud=MAX_CLOUD,
    )
    done = pipeline.fetch(folder / "dataset", options, fresh=True)
    return {
        "scenes": done.facts["Sentinel-2 scenes"] + done.facts["Sentinel-1 scenes"],
        "pairs": done.facts["pairs"],
        "with a partner": done.facts["Sentinel-2 scenes with a partner"],
    }


def seasons(folder: Path, count: int, months: int) -> Facts:
    """`geossl sample DIR --looks seasons`."""
    return _sampled(folder, SampleOptions(looks="seasons", strategy="uniform"))


def long(folder: Path, count: int, months: int) -> Facts:
    """`geossl sample DIR --looks long --measure off`: there are no pixels to measure change in."""
    return _sampled(folder, SampleOptions(looks="long", years_apart=1, measure="off", strategy="uniform"))


def _sampled(folder: Path, options: SampleOptions) -> Facts:
    done = pipeline.sample(folder / "dataset", options, fresh=True)
    path = folder / "dataset" / "samples.parquet"
    found = tables.open_parquet(path, ["key", "looks", "split"])
    n_looks = np.diff(found["looks"].combine_chunks().offsets.to_numpy())
    if len(found["key"].unique()) != found.num_rows or (len(n_looks) and n_looks.min() < 2):
        raise SystemExit(f"{path}: keys are not unique, or a place has fewer than two looks")
    splits = Counter(found["split"].to_pylist())
    return {
        "places": found.num_rows,
        "looks": int(n_looks.sum()),
        "candidates": done.facts["candidate places"],
        "splits": dict(sorted(splits.items())),
        "samples MB": path.stat().st_size / 1e6,
    }


STAGES: dict[str, Callable[[Path, int, int], Facts]] = {
    "archive": archive,
    "places": places,
    "plan": plan,
    "fetch": fetch,
    "seasons": seasons,
    "long": long,
}


def run(stage: str, folder: Path, count: int, months: int) -> None:
    """Do one stage in this process and print what it took and came to, as JSON."""
    wall = time.perf_counter()
    facts = STAGES[stage](folder, count, months)
    used = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    took = {
        "stage": stage,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_gb": used.ru_maxrss * unit / 1e9,
        "facts": facts,
    }
    print(json.dumps(took))


def _say(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)
