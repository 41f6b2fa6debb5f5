"""How looks and places are distributed: times, gaps, clouds, valid pixels, scenes, change."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from geossl_data.records import SPLITS
from geossl_data.report.dataset.contents import Contents, FloatArray
from geossl_data.report.dataset.counting import bars, histogram
from geossl_data.report.dataset.recorded import Recorded
from geossl_data.report.page import Part, Section
from geossl_data.report.parts import Bars

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PERCENT = np.arange(0.0, 101.0, 5.0)


def distribution_sections(contents: Contents, recorded: Recorded) -> list[Section]:
    """Histograms of the looks, and of what was measured of the places; without those of which nothing is known."""
    looks: list[Part] = [
        *histogram(
            "Gap between the sensors (Sentinel-1 less Sentinel-2)", "h", _by_split(contents, contents.gap_hours)
        ),
        *histogram("Cloud and cloud shadow", "%", _by_split(contents, 100 * contents.cloud), edges=_PERCENT),
        *histogram(
            "Valid pixels",
            "%",
            {"Sentinel-2": 100 * contents.s2_valid, "Sentinel-1": 100 * contents.s1_valid},
            edges=_PERCENT,
            log=True,
        ),
        *_times(contents),
        *_scenes(recorded),
    ]
    places: list[Part] = [
        *histogram("Change score", "", _of_places(contents, contents.change)),
        *histogram("Spectral entropy", "", _of_places(contents, contents.entropy)),
        *_looks_a_place(contents),
    ]
    found = []
    if looks:
        found.append(Section(title="Looks", text=_read(recorded, contents), parts=tuple(looks)))
    if places:
        text = "" if np.isfinite(contents.change).any() else _UNMEASURED
        found.append(Section(title="Change and variety", text=text, parts=tuple(places)))
    return found


_UNMEASURED = "Change was not measured; `geossl sample --measure both` does that when the places are drawn."


def _by_split(contents: Contents, values: FloatArray) -> dict[str, FloatArray]:
    """The values of the looks of each split."""
    split = contents.split[contents.place]
    return {name: values[split == name] for name in SPLITS if (split == name).any()}


def _of_places(contents: Contents, values: FloatArray) -> dict[str, FloatArray]:
    return {name: values[contents.split == name] for name in SPLITS if (contents.split == name).any()}


def _times(contents: Contents) -> list[Bars]:
    """Looks by month of the year and by year, of each split."""
    known = ~np.isnat(contents.acquired)
    months = contents.acquired[known].astype("datetime64[M]").astype(np.int64) + 1970 * 12
    split = contents.split[contents.place][known]
    names: list[str] = [name for name in SPLITS if (split == name).any()]
    month = {
        text: {name: int(((months % 12 == number) & (split == name)).sum()) for name in names}
        for number, text in enumerate(MONTHS)
    }
    year = {
        str(one): {name: int(((months // 12 == one) & (split == name)).sum()) for name in names}
        for one in np.unique(months // 12).tolist()
    }
    return [*bars("Month of the looks", "looks", month), *bars("Year of the looks", "looks", year)]


def _scenes(recorded: Recorded) -> list[Bars]:
    """Looks by platform, direction of flight and processing baseline, as far as they are recorded."""
    looks = recorded.looks
    directions = {
        "Sentinel-2": Counter(one.s2.direction for one in looks if one.s2.direction),
        "Sentinel-1": Counter(one.s1.direction for one in looks if one.s1.direction),
    }
    flown = {
        name: {sensor: counts[name] for sensor, counts in directions.items() if counts}
        for name in ("ascending", "descending")
    }
    return [
        *bars(
            "Platform", "looks", _counted(platform for one in looks for platform in (one.s2.platform, one.s1.platform))
        ),
        *bars("Direction of flight", "looks", flown),
        *bars(
            "Relative orbit of Sentinel-1",
            "looks",
            _counted(f"{one.s1.relative_orbit} {one.s1.direction}".strip() for one in looks if one.s1.relative_orbit),
        ),
        *bars("Processing baseline of Sentinel-2", "looks", _counted(one.s2.baseline for one in looks)),
    ]


def _counted(names: Iterable[str]) -> dict[str, dict[str, float]]:
    counts = Counter(name for name in names if name)
    return {name: {"looks": counts[name]} for name in sorted(counts, key=_natural)}


def _natural(text: str) -> tuple[int, str]:
    """An order in which orbit 29 comes before orbit 102."""
    first = text.split(" ", 1)[0]
    return (int(first) if first.isdigit() else 0, text)


def _looks_a_place(contents: Contents) -> Sequence[Bars]:
    values, counts = np.unique(contents.n_looks, return_counts=True)
    if len(values) < 2:
        return ()
    numbers = zip(values.tolist(), counts.tolist(), strict=True)
    return bars("Looks of a place", "places", {str(value): {"places": count} for value, count in numbers})


def _read(recorded: Recorded, contents: Contents) -> str:
    """How much of the dataset the charts of scenes are about."""
    parts = []
    if 0 < recorded.n_samples < len(contents):
        parts.append(
            f"Platforms, orbits and baselines are those of {recorded.n_samples:,} of {len(contents):,} places, drawn "
            "by seed."
        )
    if recorded.n_unread:
        parts.append(f"What is recorded of {recorded.n_unread:,} places could not be read; see `geossl verify`.")
    return " ".join(parts)
