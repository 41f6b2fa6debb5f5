"""Where an image lies on the Earth, as its GeoTIFF fields say: transform and EPSG code.

OGC GeoTIFF 1.1, read as GDAL reads it. Only what has one plain meaning is taken; everything else is left to GDAL.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import isclose, isfinite

from geossl_data.tiles.cogs.directories import Directory, Tag, Tiff
from geossl_data.tiles.cogs.errors import BrokenTiffError, UnknownLayoutError

Transform = tuple[float, float, float, float, float, float]
"""a, b, c, d, e, f: x = a·column + b·row + c, y = d·column + e·row + f, of pixel corners."""
GeoKeys = Mapping[int, int | float | str]

GEO_TAGS = (
    Tag.MODEL_PIXEL_SCALE,
    Tag.MODEL_TIEPOINT,
    Tag.MODEL_TRANSFORMATION,
    Tag.GEO_KEY_DIRECTORY,
    Tag.GEO_DOUBLE_PARAMS,
    Tag.GEO_ASCII_PARAMS,
)
MAX_VALUES = 4096
"""Of one of these fields; a directory of all keys there are has 300."""

_MODEL_TYPE, _RASTER_TYPE, _GEODETIC_CRS, _PROJECTED_CRS = 1024, 1025, 2048, 3072
_ANGULAR_UNITS, _LINEAR_UNITS, _SEMI_MAJOR_AXIS, _INVERSE_FLATTENING = 2054, 3076, 2057, 2059
_CITATIONS = (1026, 2049, 3073)
_PLAIN = {
    *_CITATIONS,
    *(_MODEL_TYPE, _RASTER_TYPE, _GEODETIC_CRS, _PROJECTED_CRS),
    *(_ANGULAR_UNITS, _LINEAR_UNITS, _SEMI_MAJOR_AXIS, _INVERSE_FLATTENING),
}
_PROJECTED, _GEODETIC = 1, 2
_AREA, _POINT = 1, 2
_DEGREE, _METRE = 9102, 9001


def geo_keys(tiff: Tiff, directory: Directory) -> GeoKeys:
    """The keys of an image by number; empty where it has none. BrokenTiffError where they contradict themselves."""
    field = directory.get(Tag.GEO_KEY_DIRECTORY)
    if field is None:
        return {}
    table = tiff.integers(field, MAX_VALUES).tolist()
    if len(table) < 4 or len(table) < 4 + 4 * table[3]:
        raise BrokenTiffError(f"its table of geographic keys ends after {len(table)} numbers, before its last key")
    if table[0] != 1 or table[1] != 1 or table[2] > 1:
        raise UnknownLayoutError(f"geographic keys of version {table[:3]}")
    doubles = directory.get(Tag.GEO_DOUBLE_PARAMS)
    text = directory.get(Tag.GEO_ASCII_PARAMS)
    numbers = () if doubles is None else tiff.doubles(doubles, MAX_VALUES)
    characters = "" if text is None else tiff.text(text, MAX_VALUES).decode("latin-1").removesuffix("\0")
    if not characters.isprintable():
        raise UnknownLayoutError("the text of its geographic keys is no text")
    keys: dict[int, int | float | str] = {}
    for start in range(4, 4 + 4 * table[3], 4):
        key, place, count, value = table[start : start + 4]
        if key in keys:
            raise BrokenTiffError(f"geographic key {key} is there twice")
        if place == 0 and count == 1:
            keys[key] = value
        elif place == Tag.GEO_DOUBLE_PARAMS and count == 1 and value < len(numbers):
            keys[key] = numbers[value]
        elif place == Tag.GEO_ASCII_PARAMS and value + count <= len(characters):
            keys[key] = characters[value : value + count]
        else:
            raise BrokenTiffError(f"geographic key {key} lies where there is nothing: {count} at {value} of {place}")
    return keys


def transform_of(tiff: Tiff, directory: Directory, keys: GeoKeys) -> Transform:
    """From pixel corners to coordinates; half a pixel is taken off where the file states pixel centres, as GDAL does.

    Raises UnknownLayoutError for rotated images, ground control points and images that lie nowhere, BrokenTiffError
    for what is no finite number.
    """
    values = {tag: tiff.doubles(directory[tag], MAX_VALUES) for tag in GEO_TAGS[:3] if tag in directory}
    scale, tie = values.get(Tag.MODEL_PIXEL_SCALE, ()), values.get(Tag.MODEL_TIEPOINT, ())
    matrix = values.get(Tag.MODEL_TRANSFORMATION, ())
    if not all(isfinite(value) for numbers in values.values() for value in numbers):
        raise BrokenTiffError("its georeference holds numbers that are not finite")
    if len(scale) == 3 and len(tie) == 6 and not matrix and scale[0] > 0 and scale[1] > 0:
        a, b, d, e = scale[0], 0.0, 0.0, -scale[1]
        c, f = tie[3] - tie[0] * a, tie[4] - tie[1] * e
    elif len(matrix) == 16 and not scale and not tie:
        a, b, c, d, e, f = matrix[0], matrix[1], matrix[3], matrix[4], matrix[5], matrix[7]
    else:
        found = f"{len(scale)} scales, {len(tie) // 6} tie points, {len(matrix)} numbers of a matrix"
        raise UnknownLayoutError(f"its georeference is no plain transform: {found}")
    if b or d or not a or not e:
        raise UnknownLayoutError(f"rotated or without extent: its transform is {(a, b, c, d, e, f)}")
    kind = keys.get(_RASTER_TYPE, _AREA)
    if kind == _POINT:
        c, f = c - a * 0.5, f - e * 0.5
    elif kind != _AREA:
        raise UnknownLayoutError(f"its pixels are neither areas nor points but {kind}")
    if not (isfinite(c) and isfinite(f)):
        raise BrokenTiffError("its georeference leads beyond the finite numbers")
    return a, b, c, d, e, f


def epsg_of(keys: GeoKeys) -> int | None:
    """The EPSG code of the coordinate reference system; None for an image that has no geographic keys.

    Raises UnknownLayoutError for a system that is described in any other way, or that the other keys change.
    """
    if not keys:
        return None
    model = keys.get(_MODEL_TYPE)
    code = keys.get(_PROJECTED_CRS if model == _PROJECTED else _GEODETIC_CRS)
    is_known = model == _PROJECTED or (model == _GEODETIC and _PROJECTED_CRS not in keys)
    if not is_known or not isinstance(code, int) or not set(keys) <= _PLAIN:
        raise UnknownLayoutError("its coordinate reference system is no plain EPSG code")
    citations = "".join(str(keys.get(key, "")) for key in _CITATIONS)
    # Under these two names, citations hold a definition of their own that GDAL prefers.
    if "ESRI" in citations or "IMAGINE" in citations or not _is_plain(code, model == _PROJECTED, _stated(keys)):
        raise UnknownLayoutError(f"its coordinate reference system is no plain EPSG code: EPSG:{code}, with changes")
    return code


def _stated(keys: GeoKeys) -> tuple[tuple[int, int | float | str], ...]:
    wanted = (_GEODETIC_CRS, _ANGULAR_UNITS, _LINEAR_UNITS, _SEMI_MAJOR_AXIS, _INVERSE_FLATTENING)
    return tuple((key, keys[key]) for key in wanted if key in keys)


@lru_cache(maxsize=1024)
def _is_plain(code: int, projected: bool, stated: tuple[tuple[int, int | float | str], ...]) -> bool:
    """Whether a code stands for a system of that kind, of which the other keys only repeat what it is."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        system = CRS.from_epsg(code)
    except CRSError:
        return False
    geodetic, ellipsoid, axes = system.geodetic_crs, system.ellipsoid, system.axis_info
    is_of_kind = system.is_projected if projected else system.is_geographic and len(axes) == 2
    if not is_of_kind or system.is_deprecated or geodetic is None or ellipsoid is None:
        return False
    # EPSG has a few codes that GDAL takes for others: all UTM zones in one, and longitude before latitude.
    if "Zoned Grid" in system.to_wkt() or (not projected and axes[0].direction == "east"):
        return False
    own = {
        _GEODETIC_CRS: geodetic.to_epsg() if projected else code,
        _ANGULAR_UNITS: _DEGREE if geodetic.axis_info[0].unit_name == "degree" else None,
        _LINEAR_UNITS: _METRE if {axis.unit_name for axis in axes} == {"metre"} else None,
        _SEMI_MAJOR_AXIS: ellipsoid.semi_major_metre,
        _INVERSE_FLATTENING: ellipsoid.inverse_flattening,
    }
    return all(
        expected is not None and isinstance(value, int | float) and isclose(value, expected, rel_tol=1e-12)
        for value, expected in ((value, own[key]) for key, value in stated)
    )
