"""Layers of one's own: a field of the features of a vector file."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.sampling.layers.polygons import Polygons, on_earth
from geossl_data.vector_files import read_vector_file

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

_FARTHEST_DEGREES = 720.0
"""Longitudes beyond this are none."""
_LISTED = 12
"""Fields that a message names."""

FloatArray = NDArray[np.float64]


def names_from_file(path: Path, field: str) -> Callable[[FloatArray, FloatArray], NDArray[np.str_]]:
    """What a field of a file's polygons says at points; "" where no polygon is, or the field is empty.

    path: any vector file that geopandas reads, in any CRS that it states; its first layer. Of polygons that overlap
    the first in the file counts. Whole numbers are named without decimals. Raises SamplingError in one line where the
    file or the field is not there, or no polygon is.
    """
    frame = read_layer(path, field)
    polygons = polygons_of(path, frame)
    names = np.array([*map(_name, frame[field].tolist()), ""], dtype=np.str_)

    def at(lon: FloatArray, lat: FloatArray) -> NDArray[np.str_]:
        return names[polygons.first(lon, lat)]

    return at


def _name(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def read_layer(path: Path, field: str) -> "GeoDataFrame":
    """The features of a vector file in longitude and latitude, `field` among their columns.

    Raises SamplingError in one line where the file cannot be read, states no CRS or has no such field.
    """
    if not path.is_file():
        raise SamplingError(
            f"{path}: no such file; a layer of one's own is FILE:FIELD, as in ecoregions.gpkg:BIOME_NAME"
        )
    placed = read_vector_file(path, SamplingError)
    require_field(path, field, (name for name in placed.columns if name != placed.geometry.name))
    return placed


def require_field(path: Path, field: str, fields: Iterable[Any]) -> None:
    """Raise SamplingError, which lists what there is, unless a file has a field."""
    known = [str(name) for name in fields]
    if field not in known:
        listed = ", ".join(known[:_LISTED]) + (" …" if len(known) > _LISTED else "") or "none"
        raise SamplingError(f"{path}: no field {field!r}; it has {listed}")


def polygons_of(path: Path, frame: "GeoDataFrame") -> Polygons:
    """The polygons of features in longitude and latitude, numbered by row; SamplingError where there is none."""
    import shapely

    shapes = np.array(frame.geometry.to_numpy(), dtype=object)
    is_polygon = np.isin(shapely.get_type_id(shapes), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    shapes[~is_polygon | shapely.is_empty(shapes)] = None
    bounds = shapely.bounds(shapes[[shape is not None for shape in shapes]])
    if not len(bounds):
        raise SamplingError(f"{path}: holds no polygon; a layer of strata needs polygons")
    # Also false for the infinities of ground that a projection cannot place.
    on_globe = (np.abs(bounds[:, ::2]) <= _FARTHEST_DEGREES).all() and (np.abs(bounds[:, 1::2]) <= 90.0 + 1e-6).all()
    if not on_globe:
        raise SamplingError(
            f"{path}: some polygons do not lie on the Earth; check the file's coordinate reference system"
        )
    return Polygons(on_earth(shapes))
