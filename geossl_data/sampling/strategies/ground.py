"""What a strategy is given and what it answers: values that check themselves, and the signature."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError

if TYPE_CHECKING:
    from geossl_data.sampling.cities import CityRule

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Names = NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What strategies want to know beyond the ground; each reads its own fields only."""

    power: float = 0.5
    """geography: seats of a stratum of k km² go like k**power: 0 equal, 0.5 square root, 1 proportional."""
    quota: Mapping[str, float] | None = None
    """geography, instead of `power`: stratum → count or share, each ≥ 0; only their ratios matter."""
    ground_km2: Mapping[str, float] | None = None
    """Stratum → its true ground, km², seen by a candidate or not; of a stratum left out, what its candidates cover."""
    cities: "CityRule | None" = None
    """cities: where they are, and how far around them places are drawn."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """mixture: strategy → its share of the places, > 0, in the order in which they take their places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where the n candidates lie and what is known of them, as arrays of shape (n,)."""

    lon: FloatArray
    """Degrees east, of the centre."""
    lat: FloatArray
    """Degrees north."""
    epsg: IntArray
    """UTM zone of the candidate's grid."""
    x: FloatArray
    """West edge, metres in the candidate's UTM zone."""
    y: FloatArray
    """North edge, metres."""
    side_m: float
    """Side of every square, metres."""
    stratum: Sequence[str] | Names
    """Class of ground of each candidate."""
    min_distance_km: float = 0.0
    """Least distance between the centres of two places that are drawn."""
    weight: FloatArray | None = None
    """Wanted relative chance of each candidate, ≥ 0; 0 and NaN are never drawn. None: all alike."""
    change: FloatArray | None = None
    """Change score, NaN where it could not be measured."""
    features: FloatArray | None = None
    """Cheap features, shape (n, f), a row with NaN where they could not be measured."""
    rules: Rules = field(default_factory=Rules)
    """What strategies want to know beyond the ground."""
    share: FloatArray | None = None
    """`ground_shares` of these candidates, where it was worked out before; strategies do it themselves otherwise."""

    def __post_init__(self) -> None:
        columns = ("lat", "epsg", "x", "y", "stratum", "weight", "change", "features", "share")
        lengths = {name: len(values) for name in columns if (values := getattr(self, name)) is not None}
        odd = next((name for name, length in lengths.items() if length != len(self.lon)), None)
        if odd is not None:
            raise SamplingError(f"{len(self.lon)} candidates with {lengths[odd]} values of {odd}; give one for each")

    def __len__(self) -> int:
        return len(self.lon)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What a strategy took."""

    indices: IntArray
    """Candidates drawn, ascending, shape (m,) with m ≤ n."""
    inclusion_probability: FloatArray
    """Chance of each drawn candidate to be drawn, shape (m,), in (0, 1]."""
    target: Mapping[str, int] = field(default_factory=dict)
    """Stratum → places it was meant to get, whatever its candidates can give; empty where a strategy has no strata."""
    drawn_by: Names | None = None
    """The strategy that took each, shape (m,); None where there was only one."""


class Strategy(Protocol):
    """Any callable of this signature draws at most `n` candidates; fewer only where no more fit or have a chance."""

    def __call__(self, candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one strategy took of a pool from which others may have taken before it."""

    indices: IntArray
    """In the order in which they were taken."""
    chance: Callable[[IntArray], FloatArray]
    """Chance of any candidates, by their numbers, to be taken by this strategy, in [0, 1]."""
    target: Mapping[str, int] = field(default_factory=dict)

    def draw(self) -> Draw:
        """The same as the answer of a strategy that had the pool for itself."""
        indices = np.sort(self.indices)
        return Draw(indices=indices, inclusion_probability=self.chance(indices), target=self.target)
