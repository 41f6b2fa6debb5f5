"""Scenes as columns: what matching needs of a million of them, as arrays."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from geossl_data.records import OrbitState, Scene

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
ObjectArray = NDArray[np.object_]

ORBIT_STATES: tuple[OrbitState, ...] = get_args(OrbitState)
UNKNOWN = -1
"""Code of what a scene does not state."""

Value = TypeVar("Value", bound=Hashable)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Acquisitions:
    """Scenes of one sensor, one array for each property; all arrays have shape (n,).

    Integer codes are -1 where the scene does not state the property. Raises ValueError when lengths differ.
    """

    ids: ObjectArray
    """Item ids, each once."""
    acquired_us: IntArray
    """Sensing time, microseconds since 1970, UTC."""
    footprints: ObjectArray
    """shapely polygons or multipolygons in degrees, each less than half the globe wide."""
    platform: IntArray
    """Position in `platforms`."""
    orbit_state: IntArray
    """Position in ORBIT_STATES."""
    relative_orbit: IntArray
    """1 to 175."""
    tile: IntArray
    """Position in `tiles`."""
    version: IntArray
    """Scenes with the same processing baseline, offset and pixel grids have the same number."""
    platforms: tuple[str, ...] = ()
    """Lower case, as in `sentinel-2a`."""
    tiles: tuple[str, ...] = ()
    """MGRS tiles, as in `32TMT`."""

    def __post_init__(self) -> None:
        columns = (
            self.acquired_us,
            self.footprints,
            self.platform,
            self.orbit_state,
            self.relative_orbit,
            self.tile,
            self.version,
        )
        if any(column.shape != self.ids.shape for column in columns):
            raise ValueError(f"columns of {len(self.ids)} acquisitions differ in length")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> "Acquisitions":
        """The columns of scenes, in their order."""
        platform, platforms = _codes(scene.platform for scene in scenes)
        tile, tiles = _codes(scene.mgrs_tile for scene in scenes)
        version, _ = _codes((scene.baseline, scene.boa_offset, frozenset(scene.grids.items())) for scene in scenes)
        states: dict[OrbitState | None, int] = {state: code for code, state in enumerate(ORBIT_STATES)}
        return cls(
            ids=_objects([scene.id for scene in scenes]),
            acquired_us=_integers((scene.acquired - _EPOCH) // _MICROSECOND for scene in scenes),
            footprints=_objects([scene.footprint for scene in scenes]),
            platform=platform,
            orbit_state=_integers(states.get(scene.orbit_state, UNKNOWN) for scene in scenes),
            relative_orbit=_integers(scene.relative_orbit or UNKNOWN for scene in scenes),
            tile=tile,
            version=version,
            platforms=platforms,
            tiles=tiles,
        )

    def take(self, index: IntArray) -> "Acquisitions":
        """The acquisitions at `index`."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        taken: dict[str, Any] = {name: value[index] for name, value in columns.items() if isinstance(value, np.ndarray)}
        return replace(self, **taken)

    def order_of_ids(self) -> IntArray:
        """Position of each id in the sorted list of ids."""
        import pyarrow as pa
        import pyarrow.compute as pc

        order = pc.sort_indices(pa.array(self.ids, pa.string())).to_numpy().astype(np.int64)
        positions = np.empty(len(self), dtype=np.int64)
        positions[order] = np.arange(len(self))
        return positions


def microseconds(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return duration // _MICROSECOND


def moment(us: int) -> datetime:
    """The UTC time of microseconds since 1970."""
    return _EPOCH + us * _MICROSECOND


def _objects(values: Sequence[Any]) -> ObjectArray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _integers(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, dtype=np.int64)


def _codes(values: Iterable[Value | None]) -> tuple[IntArray, tuple[Value, ...]]:
    """A number for each value, and the values in the order of the numbers; -1 for None."""
    numbers: dict[Value, int] = {}
    codes = _integers(UNKNOWN if value is None else numbers.setdefault(value, len(numbers)) for value in values)
    return codes, tuple(numbers)
