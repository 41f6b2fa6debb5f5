"""The headline numbers of a dataset."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geossl_data import tables
from geossl_data.bands import BANDS, Member
from geossl_data.records import SPLITS
from geossl_data.report.dataset.contents import PAIRS, SAMPLES, Contents
from geossl_data.report.dataset.origin import version_of
from geossl_data.report.numbers import UNKNOWN
from geossl_data.report.page import Section
from geossl_data.shards.manifest import MANIFEST_NAME

SENSORS = {"s1": "Sentinel-1", "s2": "Sentinel-2"}


def overview(folder: Path, contents: Contents | None, members: Mapping[str, Member]) -> Section:
    """What the folder holds, in a dozen numbers; members: those of the shards, {} before there are any."""
    notes = tables.read_metadata(folder / PAIRS)
    facts: dict[str, object] = {
        "Sentinel-2 scenes found": notes.get("n_s2"),
        "Sentinel-1 scenes found": notes.get("n_s1"),
    }
    if contents is None:
        facts["pairs"] = tables.open_parquet(folder / PAIRS, ["rank"]).num_rows if (folder / PAIRS).is_file() else None
        text = "No places are drawn yet: `geossl sample` draws them."
    else:
        facts = {**_facts(contents, members), **facts}
        text = _state(folder, contents)
    facts["written by"] = version_of(folder)
    known = {name: value for name, value in facts.items() if value not in (None, "", UNKNOWN)}
    return Section(title="Overview", facts=known, text=text)


def _facts(contents: Contents, members: Mapping[str, Member]) -> dict[str, object]:
    n_looks = contents.n_looks
    splits = contents.per_split()
    strata = {name for name in contents.stratum.tolist() if name}
    return {
        "places": len(contents),
        "looks": int(n_looks.sum()) or None,
        "looks a place": _between(n_looks) if n_looks.any() else None,
        "ground": _ground(contents),
        "years": _years(contents),
        "size": _size(contents.notes),
        "side of a place": _side(contents),
        "sensors": _sensors(members) if members else _sensors_by_id(contents),
        "strata": len(strata) or None,
        " / ".join(splits): " / ".join(f"{count:,}" for count in splits.values()),
        "median gap between the sensors": _median(np.abs(contents.gap_hours), "h"),
        "median cloud": _median(100 * contents.cloud, "%"),
        "median change score": _median(contents.change, ""),
    }


def _between(counts: Any) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _ground(contents: Contents) -> str | None:
    """The area of all places, which never overlap where geossl drew them."""
    if contents.pixel_m is None or not contents.located.any():
        return None
    side_km = contents.size_px[contents.located] * contents.pixel_m / 1000
    km2 = float((side_km**2).sum())
    return f"{km2:,.0f} km²" if km2 >= 100 else f"{km2:.3g} km²"


def _years(contents: Contents) -> str | None:
    known = contents.acquired[~np.isnat(contents.acquired)]
    years = np.unique(known.astype("datetime64[Y]").astype(np.int64) + 1970).tolist()
    if len(years) > 6:
        return f"{years[0]} to {years[-1]}"
    return ", ".join(map(str, years)) or None


def _size(notes: Mapping[str, Any]) -> str | None:
    shards = notes.get("shards")
    if not isinstance(shards, dict) or not shards:
        return None
    nbytes = sum(shard["nbytes"] for shard in shards.values())
    size = f"{nbytes / 1e9:,.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:,.1f} MB"
    return f"{size} in {len(shards):,} shard{'s' if len(shards) != 1 else ''}"


def _side(contents: Contents) -> str | None:
    if not len(contents):
        return None
    pixels = _between(contents.size_px)
    if contents.pixel_m is None:
        return f"{pixels} px"
    return f"{pixels} px of {contents.pixel_m:g} m"


def _sensors(members: Mapping[str, Member]) -> str:
    """As in `Sentinel-2 (12 bands), Sentinel-1 (VV, VH), label`."""
    bands: dict[str, list[str]] = {}
    for member in members.values():
        bands.setdefault(member.sensor, []).extend(() if member.plane else member.bands)
    parts = []
    for sensor in sorted(bands, key=lambda name: (name not in SENSORS, name != "s2", name)):
        names = bands[sensor]
        name = SENSORS[sensor] if sensor in SENSORS and set(names) <= set(BANDS) else sensor
        listed = ", ".join(names) if len(names) <= 4 else f"{len(names)} bands"
        parts.append(f"{name} ({listed})" if listed else name)
    return ", ".join(parts)


def _sensors_by_id(contents: Contents) -> str | None:
    """Before there are shards: the sensors of which looks name a scene."""
    names = [
        SENSORS[sensor]
        for sensor, ids in (("s2", contents.s2_id), ("s1", contents.s1_id))
        if any(name for name in ids.slice(0, 1000).to_pylist())
    ]
    return " and ".join(names) or None


def _median(values: Any, unit: str) -> str | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    value = float(np.median(known))
    digits = 1 if abs(value) < 100 else 0
    digits = 2 if not unit else digits
    return f"{value:.{digits}f} {unit}".strip()


def _state(folder: Path, contents: Contents) -> str:
    """What is still to be done before the numbers above are those of a dataset to train on."""
    if not contents.is_written:
        if not len(contents.place):
            return "These places are drawn without a catalog; `geossl fetch --places` finds scenes for them."
        return "These places are drawn; their pixels are not cut yet: `geossl shard` does that."
    stale = _n_gone(folder, contents)
    if stale:
        return (
            f"The places were drawn anew after the shards were cut: {stale:,} of those in the shards are not among "
            "them any more. What follows is about the shards; `geossl shard --fresh` cuts them anew."
        )
    return ""


def _n_gone(folder: Path, contents: Contents) -> int:
    """How many places of the shards are no longer among those that are drawn."""
    import pyarrow.compute as pc

    if not (folder / SAMPLES).is_file() or not (folder / MANIFEST_NAME).is_file():
        return 0
    drawn = tables.open_parquet(folder / SAMPLES, ["key"])["key"].combine_chunks()
    there = pc.sum(pc.is_in(contents.key, value_set=drawn)).as_py()
    return len(contents) - int(there or 0)


def split_table(contents: Contents) -> list[tuple[str, ...]]:
    """Header and a row for each split: places with their share, looks, blocks, strata, years."""
    rows: list[tuple[str, ...]] = [("split", "places", "share", "looks", "blocks", "strata")]
    for name in SPLITS:
        of = contents.split == name
        count = int(of.sum())
        if count:
            share = 100 * count / max(len(contents), 1)
            blocks = len({block for block in np.unique(contents.block[of]).tolist() if block})
            strata = len({stratum for stratum in np.unique(contents.stratum[of]).tolist() if stratum})
            looks = int(contents.n_looks[of].sum())
            rows.append((name, f"{count:,}", _share(share), f"{looks:,}", f"{blocks:,}", f"{strata:,}"))
    return rows


def _share(percent: float) -> str:
    return UNKNOWN if math.isnan(percent) else f"{percent:.1f} %"
