"""Where the places lie: the map, the strata against their targets, and how near the splits come to each other."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from geossl_data.grid import unit_vectors
from geossl_data.report.dataset.contents import Contents
from geossl_data.report.dataset.counting import bars, histogram, round_edges
from geossl_data.report.dataset.overview import split_table
from geossl_data.report.dataset.recorded import subset
from geossl_data.report.page import Section
from geossl_data.report.parts import Table, WorldMap
from geossl_data.sampling.nearest import Tree
from geossl_data.sampling.split_distance import split_distance_km

UNNAMED = "(none)"
MOST_STRATA = 40
"""Strata that the map and the bars tell apart; the smaller ones are others."""
MOST_NEAREST = 20_000
"""Places whose nearest other one is looked for; a million would take half a minute."""


def map_section(contents: Contents) -> list[Section]:
    """The map of the places that lie somewhere, by split, stratum, and what was measured; [] where none does."""
    there = np.flatnonzero(contents.located)
    if not len(there):
        return []
    category = {"split": contents.split[there].tolist()}
    strata = grouped(contents.stratum[there].tolist(), MOST_STRATA)
    if len(set(strata)) > 1:
        category["stratum"] = strata
    classes = _classes(contents)
    if classes:
        category["land class"] = [classes[number] for number in there.tolist()]
    measured = {"change score": contents.change[there], "spectral entropy": contents.entropy[there]}
    looks = contents.n_looks[there]
    value = {name: values.tolist() for name, values in measured.items() if np.isfinite(values).any()}
    if len(np.unique(looks)) > 1:
        value["looks"] = looks.astype(float).tolist()
    lon, lat = contents.lon[there], contents.lat[there]
    keys = contents.key.to_pylist()
    part = WorldMap(
        title="Places",
        lon=lon.tolist(),
        lat=lat.tolist(),
        label=[f"{keys[number]}, {position(contents.lon[number], contents.lat[number])}" for number in there.tolist()],
        category=category,
        value=value,
    )
    nowhere = len(contents) - len(there)
    text = f"{nowhere:,} places without a known position are not on the map." if nowhere else ""
    return [
        Section(title="Where the places lie", facts=_coverage(contents), text=text, parts=(part, *_bands(contents)))
    ]


def position(lon: float, lat: float) -> str:
    """As in `45.12° N, 8.30° E`."""
    return f"{abs(lat):.2f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.2f}° {'E' if lon >= 0 else 'W'}"


def grouped(names: list[str], most: int) -> list[str]:
    """The names, those beyond the `most` commonest as `others`; one name for what has none."""
    counts = Counter(name or UNNAMED for name in names)
    kept = {name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]}
    return [(name or UNNAMED) if (name or UNNAMED) in kept else "others" for name in names]


def _classes(contents: Contents) -> list[str]:
    """Name of the land class of each place's first look; [] where no class is known."""
    if not contents.label.any():
        return []
    first = contents.label[contents.first_look]
    names = contents.label_names
    return grouped([names.get(str(number), str(number)) if number else "" for number in first.tolist()], MOST_STRATA)


def _coverage(contents: Contents) -> dict[str, object]:
    """The figures that the draw noted: how evenly its places lie; {} where it did not."""
    noted = contents.notes.get("coverage")
    found = noted.get("facts") if isinstance(noted, dict) else None
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _bands(contents: Contents) -> tuple[Table, ...]:
    noted = contents.notes.get("coverage")
    rows = noted.get("bands") if isinstance(noted, dict) else None
    if not isinstance(rows, list) or len(rows) < 2:
        return ()
    return (Table(rows=[[str(cell) for cell in row] for row in rows], caption="Bands of latitude against candidates."),)


def strata_section(contents: Contents, draw: Mapping[str, Any]) -> list[Section]:
    """The strata against their targets; draw: the notes of the draw, {} where they are not there. [] without strata."""
    drawn = Counter(name for name in contents.stratum.tolist() if name)
    target, available = (_counts(draw.get(name)) for name in ("target", "available"))
    names = sorted({*drawn, *target, *available}, key=lambda name: (-max(drawn[name], target.get(name, 0)), name))
    if len(names) < 2 and not target:
        return []
    what = "in the shards" if contents.is_written else "drawn"
    values = {name: {**({"target": target.get(name, 0)} if target else {}), what: drawn[name]} for name in names}
    head = ("stratum", *(("candidates",) if available else ()), *(("target",) if target else ()), what)
    rows = [
        (
            name,
            *((f"{available.get(name, 0):,}",) if available else ()),
            *((f"{target.get(name, 0):,}",) if target else ()),
            f"{drawn[name]:,}",
            *((f"{max(target.get(name, 0) - drawn[name], 0) or ''}",) if target else ()),
        )
        for name in names
    ]
    table = Table(
        rows=[(*head, *(("short of",) if target else ())), *rows], caption="Places of each stratum, the largest first."
    )
    short = [name for name in names if drawn[name] < target.get(name, 0) / 2]
    facts = {"strata": len(names), **({"below half their target": _listed(short)} if short else {})}
    return [Section(title="Strata", facts=facts, parts=(*bars("Places of each stratum", "places", values), table))]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _counts(noted: object) -> dict[str, int]:
    if not isinstance(noted, dict):
        return {}
    return {str(name): count for name, count in noted.items() if isinstance(count, int)}


def splits_section(contents: Contents) -> list[Section]:
    """The splits: sizes, how near they come to each other, how far places lie apart; [] where there is one split."""
    splits = contents.per_split()
    if len(splits) < 2:
        return []
    there = contents.located
    lon, lat = contents.lon[there], contents.lat[there]
    apart = split_distance_km(lon, lat, contents.split[there]) if there.any() else {}
    facts: dict[str, object] = {f"nearest {one}–{other}": f"{km:,.2f} km" for (one, other), km in apart.items()}
    buffer_km = contents.notes.get("buffer_km")
    if isinstance(buffer_km, int | float) and buffer_km > 0:
        facts["buffer asked for"] = f"{buffer_km:g} km"
    parts = [Table(rows=split_table(contents), caption="Places and looks of each split.")]
    asked = subset(len(lon), MOST_NEAREST, 0)
    points = unit_vectors(lon, lat)
    nearest = Tree(points).nearest(points[asked], own=asked) if len(lon) > 1 else np.zeros(0)
    text = "Distances are between the centres of places." if apart else ""
    if len(asked) < len(lon):
        text += f" Those to the nearest other place are of {len(asked):,} places, drawn by seed."
    # A few places that lie alone would squeeze all others into the first bin.
    edges = round_edges(0.0, float(np.percentile(nearest, 98))) if len(nearest) else None
    spread = histogram("Distance of each place to the nearest other one", "km", {"places": nearest}, edges=edges)
    return [Section(title="Splits", facts=facts, text=text, parts=(*parts, *spread))]
