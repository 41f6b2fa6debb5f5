"""How the numbers of each band are distributed."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import BANDS, Member
from geossl_data.errors import GeosslError
from geossl_data.progress import Progress, silent
from geossl_data.report.dataset.contents import Contents
from geossl_data.report.dataset.counting import histogram, round_edges
from geossl_data.report.dataset.recorded import subset
from geossl_data.report.numbers import shown
from geossl_data.report.page import Section
from geossl_data.report.parts import Table

if TYPE_CHECKING:
    from geossl_data.shards.reading.shards import Shards

MOST_LOOKS = 200
"""Looks whose pixels are read."""
MOST_VALUES = 2048
"""Pixels that are taken of a band of one look: what lies beside one another is alike anyway."""
MOST_CHARTS = 20
"""Bands with a histogram; of pictures with hundreds of bands the others stand in the table alone."""
BINS = 48
OUTSIDE_PERCENT = 0.5
"""Of the numbers at either end that count in the first or last bin: clouds would leave no room for the ground."""

FloatArray = NDArray[np.float64]


def band_sections(
    shards: "Shards", contents: Contents, *, seed: int = 0, most: int = MOST_LOOKS, progress: Progress = silent
) -> list[Section]:
    """A histogram of each band over a seeded choice of looks, and the statistics that training uses.

    [] where there is no band but class maps. Looks that cannot be read are left out.
    """
    members = {name: member for name, member in shards.members.items() if not member.plane}
    if not members:
        return []
    chosen = subset(len(contents.place), most, seed)
    values, n_read = _values(shards, contents, chosen, members, progress)
    charts = [
        chart
        for name, member in members.items()
        for band in member.bands
        for chart in _chart(band, member.units, values.get((name, band), np.zeros(0)))
    ]
    text = (
        f"From {n_read:,} of {len(contents.place):,} looks, drawn by seed, at most {MOST_VALUES:,} valid pixels of "
        f"each band. The lowest and highest {OUTSIDE_PERCENT:g} % are in the first and last bin."
    )
    rows = _table(members, shards.notes.get("statistics", {}))
    caption = "Mean and standard deviation over the valid pixels of the training split, as training uses them."
    return [Section(title="Bands", text=text, parts=(*charts[:MOST_CHARTS], Table(rows=rows, caption=caption)))]


def _values(
    shards: "Shards", contents: Contents, chosen: NDArray[np.int64], members: Mapping[str, Member], progress: Progress
) -> tuple[dict[tuple[str, str], FloatArray], int]:
    """(member, band) → physical values of the valid pixels, and how many looks could be read."""
    found: dict[tuple[str, str], list[FloatArray]] = {}
    first, n_read = contents.first_look, 0
    with progress("reading looks", len(chosen)) as task:
        for number in chosen.tolist():
            task.advance()
            sample = int(contents.place[number])
            look = number - int(first[sample])
            try:
                there = [name for name in members if shards.has(sample, look, name)]
                arrays = shards.read(sample, look, there)
            except GeosslError:
                continue
            n_read += 1
            for name, array in arrays.items():
                for band, stored in zip(members[name].bands, array, strict=True):
                    found.setdefault((name, band), []).append(_thinned(members[name], stored))
    return {key: np.concatenate(parts) for key, parts in found.items()}, n_read


def _thinned(member: Member, stored: NDArray[Any]) -> FloatArray:
    """At most MOST_VALUES of the valid pixels, at even steps along the rows."""
    flat = stored.ravel()
    step = max(1, -(-flat.size // MOST_VALUES))
    # A step that shares a factor with the side would take whole columns and leave others out.
    while step > 1 and math.gcd(step, stored.shape[-1]) > 1:
        step += 1
    some = flat[::step]
    return np.asarray(member.physical(some)[member.valid(some)], dtype=np.float64)


def _chart(band: str, units: str, values: FloatArray) -> Sequence[Any]:
    known = values[np.isfinite(values)]
    if not len(known):
        return ()
    low, high = np.percentile(known, (OUTSIDE_PERCENT, 100 - OUTSIDE_PERCENT)).tolist()
    return histogram(_name(band), units, {"pixels": known}, edges=round_edges(low, high, BINS))


def _name(band: str) -> str:
    """As in `B04, red, 665 nm`."""
    known = BANDS.get(band)
    if known is None or known.wavelength_nm is None:
        return band
    return f"{band}, {known.common_name}, {known.wavelength_nm:g} nm"


def _table(members: Mapping[str, Member], statistics: Any) -> list[tuple[str, ...]]:
    noted = statistics if isinstance(statistics, dict) else {}
    rows: list[tuple[str, ...]] = [("band", "member", "pixel", "mean", "deviation", "unit")]
    for name, member in members.items():
        for band in member.bands:
            one = noted.get(band)
            figures = one if isinstance(one, dict) else {}
            pixel = f"{member.resolution_m} m" if member.sensor in ("s1", "s2") else f"1/{member.factor}"
            mean, deviation = (shown(figures.get(key)) for key in ("mean", "std"))
            rows.append((band, name, pixel, mean, deviation, member.units))
    return rows
