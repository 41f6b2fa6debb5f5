"""The pixel grids that an item states for its assets."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from geossl_data.bands import BANDS, S2_BANDS, SCL_BAND
from geossl_data.grid import Grid
from geossl_data.scenes.items import finite

_LARGEST_SIDE_PX = 1_000_000
_MOST_GRIDS = 1 << 17
"""Of all tiles there are 20,000 with land, of three pixel sizes each; scenes of a tile share its grids."""
_S2_RESOLUTION_M = {SCL_BAND: 20, **{band: BANDS[band].resolution_m for band in S2_BANDS}}


def stated_grid(band: str, asset: Mapping[str, Any], properties: Mapping[str, Any]) -> Grid | None:
    """The pixel grid that an asset states, else the item's; None unless it is north-up, square and in a UTM zone.

    A grid of the item holds for a Sentinel-2 band only when it has the band's own pixel size.
    """
    epsg = _epsg(asset) or _epsg(properties)
    if epsg is None:
        return None
    own = _grid_from(epsg, asset.get("proj:transform"), asset.get("proj:shape", properties.get("proj:shape")))
    if own is not None or asset.get("proj:transform") is not None:
        return own
    shared = _grid_from(epsg, properties.get("proj:transform"), asset.get("proj:shape", properties.get("proj:shape")))
    native_m = _S2_RESOLUTION_M.get(band)
    return shared if shared is not None and native_m in (None, shared.resolution_m) else None


@lru_cache(maxsize=_MOST_GRIDS)
def same_grids(grids: tuple[tuple[str, Grid], ...]) -> Mapping[str, Grid]:
    """Band name → grid; the same mapping for the same grids."""
    return dict(grids)


def _epsg(holder: Mapping[str, Any]) -> int | None:
    code = holder.get("proj:code")
    stated = _number_of(code) if isinstance(code, str) else None
    if stated is not None:
        return stated
    number = finite(holder["proj:epsg"]) if "proj:epsg" in holder else None
    return int(number) if number is not None and number == int(number) else None


@lru_cache(maxsize=1024)
def _number_of(code: str) -> int | None:
    """The number of a code such as EPSG:32632."""
    match = re.fullmatch(r"EPSG:(\d{4,6})", code)
    return int(match[1]) if match else None


def _grid_from(epsg: int, transform: Any, shape: Any) -> Grid | None:
    if not (isinstance(transform, list | tuple) and isinstance(shape, list | tuple)):
        return None
    try:
        return _checked_grid(epsg, tuple(transform), tuple(shape))
    except TypeError:  # something that cannot be hashed stands where a number should
        return None


@lru_cache(maxsize=_MOST_GRIDS)
def _checked_grid(epsg: int, transform: tuple[Any, ...], shape: tuple[Any, ...]) -> Grid | None:
    is_utm = 32601 <= epsg <= 32660 or 32701 <= epsg <= 32760
    numbers = [finite(value) for value in transform]
    sides = [finite(value) for value in shape]
    if not is_utm or len(numbers) not in (6, 9) or len(sides) != 2 or None in numbers or None in sides:
        return None
    width_m, skew_x, x, skew_y, height_m, y = (float(value or 0.0) for value in numbers[:6])
    height, width = (float(value or 0.0) for value in sides)
    whole = all(side == int(side) and 0 < side <= _LARGEST_SIDE_PX for side in (height, width))
    if not whole or width_m <= 0 or height_m != -width_m or skew_x or skew_y:
        return None
    return Grid(epsg, x, y, width_m, int(width), int(height))
