"""What can be drawn: candidate places with their looks and strata, and a ledger of the ground that cannot.

Strategies are compared over one pool, so that what differs is the strategy and nothing else.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.memory import gc_paused
from geossl_data.progress import Progress, silent
from geossl_data.records import Look, Pair, Scene, Site, Skipped
from geossl_data.sampling.candidates import Candidate, survey
from geossl_data.sampling.land import is_land
from geossl_data.sampling.site_candidates import candidates_at
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.strata import Strata, strata_of
from geossl_data.sampling.tile_grids import Snap, pitch_m

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

NO_STRATUM = "(none)"
"""The stratum of ground about which the layer of strata says nothing."""

FloatArray = NDArray[np.float64]
Names = NDArray[np.str_]
ChooseLooks = Callable[[Sequence[Pair]], tuple[Look, ...]]
"""The pairs that cover a place → its looks in time order, none where there are too few dates."""
FindSpares = Callable[[Sequence[Pair]], tuple[tuple[Look, ...], ...]]
"""The pairs that cover a place → for each of its looks those that may stand in for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Ground that cannot be drawn, and why; arrays of shape (n,)."""

    lon: FloatArray
    lat: FloatArray
    stratum: Names
    reason: Names
    """no-pair, no-dates, sea or buffer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The places that a strategy may choose from, n of them."""

    candidates: list[Candidate]
    looks: list[tuple[Look, ...]]
    """Of each candidate, never empty."""
    stratum: Names
    """Of each candidate, shape (n,)."""
    size_px: int
    rule: SplitRule
    """Decides the split of a candidate that was not drawn beforehand."""
    n_candidates: int
    """Places of the size asked for that at least one pair covers fully; of sites, those that became places."""
    ground_km2: dict[str, float]
    """Stratum → ground that there would be if every square had its dates, km²."""
    rejected: Rejected
    skipped: list[Skipped] = field(default_factory=list)
    """Scenes without squares, and sites without a place."""
    is_of_sites: bool = False
    spare: FindSpares | None = None
    """Finds the spares of the looks; asked for the places drawn only."""
    pitch_m: float | None = None
    """How far apart the centres of neighbouring candidates lie, metres; None where squares lie side by side."""

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def lon(self) -> FloatArray:
        """Centres, degrees east."""
        return np.array([candidate.place.lon for candidate in self.candidates], dtype=np.float64)

    @property
    def lat(self) -> FloatArray:
        """Centres, degrees north."""
        return np.array([candidate.place.lat for candidate in self.candidates], dtype=np.float64)

    @property
    def available(self) -> dict[str, int]:
        """Stratum → candidates that can be drawn, by name."""
        return dict(sorted(Counter(self.stratum.tolist()).items()))

    def n_rejected(self, reason: str) -> int:
        """How many squares were rejected for a reason."""
        return int(np.count_nonzero(self.rejected.reason == reason))


@gc_paused()
def make_pool(
    scenes: Sequence[Scene],
    pairs: Sequence[Pair],
    *,
    choose: ChooseLooks,
    rule: SplitRule,
    spare: FindSpares | None = None,
    size: int = 264,
    strata: Strata | None = None,
    land_km2: Mapping[str, float] | None = None,
    surface: str = "any",
    buffer_km: float = 0.0,
    area: "BaseGeometry | None" = None,
    sites: Sequence[Site] | None = None,
    snap: Snap = "none",
    progress: Progress = silent,
) -> Pool:
    """The places of `size` 10 m pixels that can be drawn among the pairs, with their looks and strata.

    scenes: both sensors, the Sentinel-2 ones with pixel grids. choose: the look rule. spare: finds what may stand in
    for the looks of `choose`; None for looks without spares. strata: None takes the default layer. land_km2: land that
    was asked for, by stratum; what its scenes show of a stratum counts where it is more. surface: `land` leaves out
    places centred at sea. buffer_km: no place nearer than this to a block of another split. area: longitude/latitude;
    only places whose centre lies in it. sites: places drawn beforehand, of that size; only these are candidates, each
    keeps its stratum and split, and no buffer is asked for again. snap: `block` leaves the places that lie in one block
    of every Sentinel-2 band, and moves sites into one, see `candidates`; a place then counts with the ground between it
    and the next ones.
    Raises SamplingError when no place fits, none has the dates, or a block is too small for a place.
    """
    layer = strata_of("regions") if strata is None else strata
    if sites is None:
        found = survey(scenes, pairs, size, area=area, snap=snap, progress=progress)
        candidates, skipped = found.candidates, found.skipped
        bare_lon, bare_lat = found.bare_lon, found.bare_lat
        km2 = np.concatenate([found.km2, found.bare_km2])
        if not candidates:
            where = "" if area is None else " inside the area"
            fits = f"the largest side that fits a scene is {found.largest_px} px"
            hint = fits if found.largest_px else _first_reason(skipped)
            raise SamplingError(f"no pair covers a place of {size} px ({size / 100:g} km) fully{where}; {hint}")
    else:
        candidates, skipped = _at_sites(sites, scenes, pairs, size, area, snap, progress)
        bare_lon = bare_lat = np.zeros(0)
        km2 = np.full(len(sites), (size / 100) ** 2)
    lon, lat = _centres(candidates)
    names = _names(candidates, lon, lat, layer)
    looks = _looks(candidates, choose, progress)
    drawn_before = np.array([candidate.site is not None for candidate in candidates], dtype=bool)
    has_dates = np.array([bool(chosen) for chosen in looks], dtype=bool)
    reason = np.where(has_dates, "", "no-dates").astype("U8")
    if surface == "land":
        reason[has_dates & ~is_land(lon, lat)] = "sea"
    if buffer_km > 0:
        asked = np.flatnonzero((reason == "") & ~drawn_before)
        reason[asked[rule.near_other_splits(lon[asked], lat[asked], buffer_km)]] = "buffer"
    kept = np.flatnonzero(reason == "")
    gone = np.flatnonzero(reason != "")
    bare_names = _named(layer(bare_lon, bare_lat))
    seen = [*names.tolist(), *bare_names.tolist()] if sites is None else [site.stratum for site in sites]
    pool = Pool(
        candidates=[candidates[number] for number in kept.tolist()],
        looks=[looks[number] for number in kept.tolist()],
        stratum=names[kept],
        size_px=size,
        rule=rule,
        n_candidates=len(candidates),
        ground_km2=_ground_km2(seen, km2, land_km2),
        rejected=Rejected(
            lon=np.concatenate([lon[gone], bare_lon]),
            lat=np.concatenate([lat[gone], bare_lat]),
            stratum=np.concatenate([names[gone], bare_names]),
            reason=np.concatenate([reason[gone], np.full(len(bare_lon), "no-pair")]),
        ),
        skipped=skipped,
        is_of_sites=sites is not None,
        spare=spare,
        pitch_m=pitch_m(size * 10.0) if snap == "block" and sites is None else None,
    )
    if not has_dates.any():
        raise SamplingError(f"none of {len(candidates)} candidate places has the dates that --looks needs")
    if not len(pool):
        raise SamplingError(f"no candidate is left: {pool_counts(pool)}; lower --buffer-km or ask for --surface any")
    return pool


def pool_counts(pool: Pool) -> str:
    """How the candidates that were found came to be those that can be drawn, as one line."""
    parts = [f"{pool.n_candidates} found"]
    for reason, text in (
        ("no-dates", "without the dates"),
        ("sea", "at sea"),
        ("buffer", "in the buffer between splits"),
    ):
        if pool.n_rejected(reason):
            parts.append(f"{pool.n_rejected(reason)} {text}")
    return ", ".join(parts)


def _centres(candidates: Sequence[Candidate]) -> tuple[FloatArray, FloatArray]:
    places = [candidate.place for candidate in candidates]
    lon = np.array([place.lon for place in places], dtype=np.float64)
    return lon, np.array([place.lat for place in places], dtype=np.float64)


def _named(names: Names) -> Names:
    return np.where(names == "", NO_STRATUM, names)


def _names(candidates: Sequence[Candidate], lon: FloatArray, lat: FloatArray, layer: Strata) -> Names:
    """The stratum of each candidate: a site's own, else what the layer says of the centre."""
    own = [candidate.site.stratum if candidate.site else None for candidate in candidates]
    if None not in own:
        return np.array(own, dtype=np.str_)
    said = _named(layer(lon, lat))
    return np.array([name or other for name, other in zip(own, said.tolist(), strict=True)], dtype=np.str_)


def same_pairs(pairs: Sequence[Pair]) -> bytes:
    """What is equal for the same pair objects in the same order, as small as can be: there is one for every place."""
    return array("Q", map(id, pairs)).tobytes()


def _looks(candidates: Sequence[Candidate], choose: ChooseLooks, progress: Progress) -> list[tuple[Look, ...]]:
    """The looks of each candidate; the same pairs, as neighbours on a tile have, are looked at once."""
    known: dict[bytes, tuple[Look, ...]] = {}
    looks = []
    with progress("choosing looks", total=len(candidates)) as task:
        for candidate in candidates:
            key = same_pairs(candidate.pairs)
            if key not in known:
                known[key] = choose(candidate.pairs)
            looks.append(known[key])
            task.advance()
    return looks


def _ground_km2(seen: Sequence[str], km2: FloatArray, land_km2: Mapping[str, float] | None) -> dict[str, float]:
    """What each stratum counts with when the count is allocated: its ground, whether it can be drawn or not.

    seen: the stratum of each square; km2: the ground that each stands for, shape (n,).
    """
    ground: dict[str, float] = {}
    for (name, each_km2), count in sorted(Counter(zip(seen, km2.tolist(), strict=True)).items()):
        ground[name] = ground.get(name, 0.0) + count * each_km2
    for name, asked_km2 in (land_km2 or {}).items():
        ground[name or NO_STRATUM] = max(ground.get(name or NO_STRATUM, 0.0), asked_km2)
    return dict(sorted(ground.items()))


def _at_sites(
    sites: Sequence[Site],
    scenes: Sequence[Scene],
    pairs: Sequence[Pair],
    size: int,
    area: "BaseGeometry | None",
    snap: Snap,
    progress: Progress,
) -> tuple[list[Candidate], list[Skipped]]:
    """The sites as candidates, and those given up; SamplingError where the size differs or none has a pair."""
    other = next((site.size_px for site in sites if site.size_px != size), None)
    if other is not None:
        raise SamplingError(
            f"the places drawn beforehand are {other} px wide, {size} px asked for; give --size {other}"
        )
    found, skipped = candidates_at(sites, scenes, pairs, area=area, snap=snap, progress=progress)
    if not found:
        raise SamplingError(f"none of {len(sites)} places drawn beforehand has a pair; {_first_reason(skipped)}")
    return found, skipped


def _first_reason(skipped: Sequence[Skipped]) -> str:
    return f"{skipped[0].id}: {skipped[0].detail}" if skipped else "fetch more scenes or widen --max-gap"
