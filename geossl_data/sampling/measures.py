"""What is measured of candidate places before they are drawn, from coarse images of whole tiles.

Places are measured together where they lie together: in blocks of a Sentinel-2 tile, whose scenes are fitted to each
other over the whole block. A place's measures depend on its block and its looks alone, not on which other places are
asked for.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from geossl_data.records import Look, Scene
from geossl_data.sampling.change import (
    DECIBEL_FLOOR,
    REFLECTANCE_FLOOR,
    Image,
    Map,
    change_map,
    combined,
    decibels,
    distance,
    lower_median,
    moments,
    period_means,
    spectral_entropy,
    upper_mean,
)
from geossl_data.sampling.periods import aligned, within

FloatArray = NDArray[np.float64]

MEASURED_S2 = ("B02", "B03", "B04", "B08", "B11", "B12")
"""Bands in which the ground is compared: visible, near and short-wave infrared."""
MEASURED_S1 = ("VV", "VH")
GROWN_M = 40
"""By how much clouds and other ground that is not to be compared grow, at least by a pixel."""

TwoLooks = tuple[Look, Look]
Window = tuple[slice, slice]
"""Rows and columns of a place in the coarse images of its block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What is measured of n candidates, in their order; NaN where it is not known."""

    change: FloatArray
    """Change score by both sensors, or by the one that is known: 0 for none; shape (n,)."""
    change_s2: FloatArray
    change_s1: FloatArray
    entropy: FloatArray
    """Spectral entropy in bits per band, 0 to 6; the median over the looks."""
    features: FloatArray
    """Mean and standard deviation of each Sentinel-2 band (reflectance), then of VV and VH (dB); shape (n, f)."""

    def __post_init__(self) -> None:
        assert len({len(getattr(self, entry.name)) for entry in fields(self)}) == 1

    def __len__(self) -> int:
        return len(self.change)


def n_features(sensors: str) -> int:
    """How many features there are of `s1`, `s2` or `both`."""
    return 2 * ((sensors != "s1") * len(MEASURED_S2) + (sensors != "s2") * len(MEASURED_S1))


def unknown(n: int, sensors: str) -> Measures:
    """The measures of n candidates of which nothing is known yet; the arrays may be written to."""
    columns = {name: np.full(n, np.nan) for name in ("change", "change_s2", "change_s1", "entropy")}
    return Measures(**columns, features=np.full((n, n_features(sensors)), np.nan))


@dataclass(slots=True, kw_only=True)
class Block:
    """The coarse images of a block, and what has been worked out of them so far."""

    s2: Mapping[tuple[str, ...], Image]
    """Reflectance by the ids of the acquisition's parts; a look whose images are missing is left out."""
    s1: Mapping[tuple[str, ...], Image]
    """Linear power by the ids of the pass's frames."""
    scenes: Mapping[str, Scene]
    _distances: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Map] = field(default_factory=dict)
    _decibels: dict[tuple[str, ...], Image] = field(default_factory=dict)

    def change(self, looks: Sequence[Look]) -> tuple[Map | None, Map | None]:
        """Change of every pixel of the block between the two periods of some looks, by Sentinel-2 and Sentinel-1.

        None where a sensor has no two dates that may be compared.
        """
        seasons = [(looks[i], looks[j]) for i, j in aligned(looks)]
        periods = [(looks[i], looks[j]) for i, j in within(looks)]
        return self._optical(seasons, periods), self._radar(seasons, periods)

    def backscatter(self, ids: tuple[str, ...]) -> Image:
        """Decibels of a pass."""
        if ids not in self._decibels:
            self._decibels[ids] = decibels(self.s1[ids])
        return self._decibels[ids]

    def _optical(self, seasons: Sequence[TwoLooks], periods: Sequence[TwoLooks]) -> Map | None:
        def distances(pairs: Sequence[TwoLooks]) -> list[Map]:
            known = [(a.s2_ids, b.s2_ids) for a, b in pairs if a.s2_ids in self.s2 and b.s2_ids in self.s2]
            return [self._distance("s2", a, b) for a, b in known]

        long = distances(seasons)
        return change_map(long, distances(periods)) if long else None

    def _radar(self, seasons: Sequence[TwoLooks], periods: Sequence[TwoLooks]) -> Map | None:
        by_orbit: dict[tuple[object, ...], list[tuple[tuple[str, ...], tuple[str, ...]]]] = defaultdict(list)
        for before, after in seasons:
            orbit = self._orbit(before.s1_ids, after.s1_ids)
            if orbit is not None:
                by_orbit[orbit].append((before.s1_ids, after.s1_ids))
        if not by_orbit:
            return None
        long = []
        for pairs in by_orbit.values():
            early, late = period_means([self.s1[a] for a, _ in pairs], [self.s1[b] for _, b in pairs])
            long.append(distance(decibels(early), decibels(late), DECIBEL_FLOOR))
        known = [(a.s1_ids, b.s1_ids) for a, b in periods if self._orbit(a.s1_ids, b.s1_ids) is not None]
        return change_map([lower_median(long)], [self._distance("s1", a, b) for a, b in known])

    def _orbit(self, a: tuple[str, ...], b: tuple[str, ...]) -> tuple[object, ...] | None:
        """What two passes share that may be compared; None where they differ, are unknown or could not be read."""
        if a not in self.s1 or b not in self.s1 or a == b:
            return None
        keys = [
            (scene.collection, scene.orbit_state, scene.relative_orbit)
            for scene in (self.scenes[a[0]], self.scenes[b[0]])
        ]
        is_known = None not in keys[0]
        return keys[0] if is_known and keys[0] == keys[1] else None

    def _distance(self, sensor: str, a: tuple[str, ...], b: tuple[str, ...]) -> Map:
        key = (sensor, a, b)
        if key not in self._distances:
            self._distances[key] = (
                distance(self.s2[a], self.s2[b], REFLECTANCE_FLOOR)
                if sensor == "s2"
                else distance(self.backscatter(a), self.backscatter(b), DECIBEL_FLOOR)
            )
        return self._distances[key]


def measure_place(
    measures: Measures, row: int, block: Block, looks: Sequence[Look], window: Window, maps: Sequence[Map | None]
) -> None:
    """Write the measures of one candidate into its row.

    maps: the change of the block by Sentinel-2 and Sentinel-1 between the periods of these looks.
    """
    rows, columns = window
    s2_change, s1_change = (np.nan if found is None else upper_mean(found[rows, columns]) for found in maps)
    measures.change_s2[row], measures.change_s1[row] = s2_change, s1_change
    measures.change[row] = float(combined(np.array(s2_change), np.array(s1_change)))
    optical = [block.s2[look.s2_ids][:, rows, columns] for look in looks if look.s2_ids in block.s2]
    passes = sorted({look.s1_ids for look in looks if look.s1_ids in block.s1})
    radar = [block.backscatter(ids)[:, rows, columns] for ids in passes]
    entropies = [value for image in optical if np.isfinite(value := spectral_entropy(image))]
    if entropies:
        measures.entropy[row] = float(np.median(entropies))
    found = [moments(images) for images in (optical, radar) if images]
    values = np.concatenate(found) if found else np.zeros(0)
    # A row is known as a whole or not at all: places are compared by all their features.
    if len(values) == measures.features.shape[1] and np.isfinite(values).all():
        measures.features[row] = values
