"""What is recorded of the scenes that looks are of: platforms, orbits, baselines, and how far the radar image lies off.

Shards say it in the JSON of each sample, of which a seeded share is read; before there are shards the tables of pairs
and scenes do.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from geossl_data.errors import GeosslError
from geossl_data.progress import Progress, silent
from geossl_data.report.dataset.contents import PAIRS, SCENES, Contents, some_columns
from geossl_data.scenes.items import finite

if TYPE_CHECKING:
    from geossl_data.shards.reading.shards import Shards

MOST_SAMPLES = 2000
"""Samples whose JSON is read: enough for shares to within a percent or two."""
THREADS = 8
"""How many are read side by side, for shards in an object store."""
_BASELINE = "s2:processing_baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFacts:
    """What is known of one scene; empty text where it is not."""

    platform: str = ""
    """As in `sentinel-2a`."""
    direction: str = ""
    """`ascending` or `descending`."""
    relative_orbit: str = ""
    baseline: str = ""
    """Of Sentinel-2, as in `05.10`."""
    collection: str = ""
    product: str = ""

    @property
    def words(self) -> str:
        """One line, as in `Sentinel-2B, orbit 29 descending, baseline 05.10`; empty where nothing is known."""
        orbit = " ".join(filter(None, (self.relative_orbit, self.direction)))
        parts = (
            _name(self.platform),
            f"orbit {orbit}" if orbit else "",
            f"baseline {self.baseline}" if self.baseline else "",
        )
        return ", ".join(filter(None, parts))


def _name(platform: str) -> str:
    """`sentinel-2b` as people write it."""
    return platform[:1].upper() + platform[1:-1] + platform[-1:].upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class LookFacts:
    """What is known of the scenes of one look."""

    look: int
    """Its number among all looks."""
    s2: SceneFacts = field(default_factory=SceneFacts)
    s1: SceneFacts = field(default_factory=SceneFacts)
    shift_px: float = math.nan
    """How far the radar image lies off the optical one, pixels of 10 m; NaN where it was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What is recorded of the looks of some samples."""

    looks: Sequence[LookFacts]
    n_samples: int
    """Of how many samples."""
    n_unread: int = 0
    """Samples whose JSON could not be read."""


def recorded_in(shards: "Shards", contents: Contents, *, seed: int = 0, progress: Progress = silent) -> Recorded:
    """What the JSON of a seeded choice of at most MOST_SAMPLES samples says; those that cannot be read are counted."""
    chosen = subset(len(contents), MOST_SAMPLES, seed)
    first = contents.first_look

    def read(sample: int) -> list[LookFacts] | None:
        try:
            described = looks_of(shards.meta(sample))
        except GeosslError:
            return None
        if len(described) != int(contents.n_looks[sample]):
            return None
        return [look_facts(int(first[sample]) + number, look) for number, look in enumerate(described)]

    found: list[LookFacts] = []
    n_unread = 0
    with ThreadPoolExecutor(THREADS) as pool, progress("reading provenance", len(chosen)) as task:
        for facts in pool.map(read, chosen.tolist()):
            found += facts or []
            n_unread += facts is None
            task.advance()
    return Recorded(looks=found, n_samples=len(chosen), n_unread=n_unread)


def recorded_of(folder: Path, contents: Contents, *, seed: int = 0) -> Recorded:
    """What tables of pairs and scenes say of a seeded choice of at most MOST_SAMPLES samples; nothing without them."""
    if not (folder / PAIRS).is_file() or not len(contents.place):
        return Recorded(looks=(), n_samples=0)
    chosen = subset(len(contents), MOST_SAMPLES, seed)
    looks = np.flatnonzero(np.isin(contents.place, chosen))
    s1_ids, s2_ids = contents.s1_id.take(pa.array(looks)), contents.s2_id.take(pa.array(looks))
    pairs = some_columns(folder / PAIRS, ["s1_id", "s2_id", *_OF_S1.values(), *_OF_S2.values()])
    scenes = some_columns(folder / SCENES, ["id", _BASELINE]) if (folder / SCENES).is_file() else None
    s1 = _looked_up(s1_ids, pairs, "s1_id", _OF_S1)
    s2 = _looked_up(s2_ids, pairs, "s2_id", _OF_S2)
    s2 |= {} if scenes is None else _looked_up(s2_ids, scenes, "id", {"baseline": _BASELINE})
    facts = [
        LookFacts(
            look=look,
            s1=SceneFacts(**{name: values[row] for name, values in s1.items()}),
            s2=SceneFacts(**{name: values[row] for name, values in s2.items()}),
        )
        for row, look in enumerate(looks.tolist())
    ]
    return Recorded(looks=facts, n_samples=len(chosen))


_OF_S1 = {"platform": "s1_platform", "direction": "s1_orbit_state", "relative_orbit": "s1_relative_orbit"}
_OF_S2 = {"platform": "s2_platform", "relative_orbit": "s2_relative_orbit"}


def _looked_up(ids: pa.Array, table: pa.Table, column: str, wanted: Mapping[str, str]) -> dict[str, list[str]]:
    """Name → text for each of the ids, empty where the table does not tell."""
    if column not in table.column_names:
        return {}
    rows = pc.index_in(ids, value_set=table[column].combine_chunks().cast(pa.string()))
    return {
        name: pc.fill_null(table[source].cast(pa.string()).take(rows), "").to_pylist()
        for name, source in wanted.items()
        if source in table.column_names
    }


def subset(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """All numbers below `count`, or `most` of them drawn by seed; ascending."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


# ------------------------------------------------------------------------------------------------ one sample's JSON


def looks_of(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The looks that a sample's JSON describes; empty where it describes none."""
    looks = meta.get("looks")
    return [look for look in looks if isinstance(look, dict)] if isinstance(looks, list) else []


def look_facts(number: int, look: Mapping[str, Any]) -> LookFacts:
    """The facts of a look of this number, from its part of the JSON; what is missing or of another type is left out."""
    shift = _inside(_inside(look, "quality"), "shift")
    dx, dy = finite(shift.get("dx_px")), finite(shift.get("dy_px"))
    return LookFacts(
        look=number,
        s2=_scene_facts(_inside(look, "s2")),
        s1=_scene_facts(_inside(look, "s1")),
        shift_px=math.nan if dx is None or dy is None else math.hypot(dx, dy),
    )


def _scene_facts(scene: Mapping[str, Any]) -> SceneFacts:
    orbit = scene.get("sat:relative_orbit")
    return SceneFacts(
        platform=_word(scene.get("platform")),
        direction=_word(scene.get("sat:orbit_state")),
        relative_orbit=str(orbit) if type(orbit) is int else "",
        baseline=_word(scene.get(_BASELINE)),
        collection=_word(scene.get("collection")),
        product=_word(scene.get("sar:product_type")),
    )


def _inside(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _word(value: Any) -> str:
    return value[:80] if isinstance(value, str) else ""
