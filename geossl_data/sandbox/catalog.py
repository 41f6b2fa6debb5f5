"""STAC items of the sandbox, with the asset keys and properties that the Planetary Computer's items have."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from geossl_data.bands import BANDS, LABEL_BAND, S1_NODATA, SCL_BAND
from geossl_data.grid import Grid, to_lonlat
from geossl_data.sandbox.land import CHANGES
from geossl_data.sandbox.radar import LOOKS
from geossl_data.sandbox.regions import Region
from geossl_data.sandbox.schedule import OpticalPass, RadarPass
from geossl_data.sandbox.surfaces import OPTICAL_BANDS, SANDBOX_CLASSES

S2_COLLECTION = "sentinel-2-l2a"
S1_COLLECTION = "sentinel-1-rtc"
LABEL_COLLECTION = "geossl-sandbox-labels"
CHANGE_BAND = "change"

_EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_CLOUD_KEYS = {
    2: "s2:dark_features_percentage",
    3: "s2:cloud_shadow_percentage",
    4: "s2:vegetation_percentage",
    5: "s2:not_vegetated_percentage",
    6: "s2:water_percentage",
    7: "s2:unclassified_percentage",
    8: "s2:medium_proba_clouds_percentage",
    9: "s2:high_proba_clouds_percentage",
    10: "s2:thin_cirrus_percentage",
    11: "s2:snow_ice_percentage",
}
Corner = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A straight edge of the data: pixels are valid where east * col + south * row <= limit, on the region's plane."""

    east: float
    south: float
    limit: float


def clipped(corners: Sequence[Corner], cut: Cut) -> list[Corner]:
    """The part of a convex polygon on the valid side of a cut; coordinates are columns and rows.

    Sutherland and Hodgman (1974), one edge.
    """
    signed = [cut.east * col + cut.south * row - cut.limit for col, row in corners]
    kept: list[Corner] = []
    for k, (corner, side) in enumerate(zip(corners, signed, strict=True)):
        before, side_before = corners[k - 1], signed[k - 1]
        if (side <= 0) != (side_before <= 0):
            t = side_before / (side_before - side)
            kept.append((before[0] + t * (corner[0] - before[0]), before[1] + t * (corner[1] - before[1])))
        if side <= 0:
            kept.append(corner)
    return kept


def footprint(epsg: int, corners: Sequence[Corner]) -> tuple[dict[str, Any], list[float]]:
    """GeoJSON polygon in longitude and latitude, and its bounding box, of a polygon in projected metres.

    Edges get points in between, because a straight line of the projection is none in degrees. Coordinates are rounded
    to 1e-7 degrees, about a centimetre.
    """
    xs: list[float] = []
    ys: list[float] = []
    for k, (x, y) in enumerate(corners):
        next_x, next_y = corners[(k + 1) % len(corners)]
        pieces = max(1, math.ceil(math.hypot(next_x - x, next_y - y) / 10_000))
        xs += [x + (next_x - x) * step / pieces for step in range(pieces)]
        ys += [y + (next_y - y) * step / pieces for step in range(pieces)]
    lon, lat = to_lonlat(epsg, xs, ys)
    ring = [[round(float(a), 7), round(float(b), 7)] for a, b in zip(lon, lat, strict=True)]
    # The plane's rows run south, so its clockwise is the map's; GeoJSON wants outer rings counter-clockwise.
    ring = [*ring, ring[0]][::-1]
    west, south = (min(point[axis] for point in ring) for axis in (0, 1))
    east, north = (max(point[axis] for point in ring) for axis in (0, 1))
    return {"type": "Polygon", "coordinates": [ring]}, [west, south, east, north]


def s2_id(item: OpticalPass, tile: str) -> str:
    """Item id as on the Planetary Computer."""
    sensed, processed = (f"{when:%Y%m%dT%H%M%S}" for when in (item.acquired, item.processed))
    return f"S2{item.platform}_MSIL2A_{sensed}_R{item.orbit:03d}_T{tile}_{processed}"


def s1_id(item: RadarPass) -> str:
    """Item id as on the Planetary Computer."""
    start, end = (f"{item.acquired + timedelta(seconds=seconds):%Y%m%dT%H%M%S}" for seconds in (-12, 13))
    return f"S1A_IW_GRDH_1SDV_{start}_{end}_{item.absolute_orbit:06d}_{_datatake(item):06X}_rtc"


def _datatake(item: RadarPass) -> int:
    return 280_000 + item.absolute_orbit * 5 // 2


def _time(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _transform(grid: Grid) -> list[float]:
    return [grid.resolution_m, 0.0, grid.x, 0.0, -grid.resolution_m, grid.y]


def _projection(grid: Grid) -> dict[str, Any]:
    return {
        "proj:bbox": list(grid.bounds),
        "proj:shape": [grid.height, grid.width],
        "proj:transform": _transform(grid),
    }


def _item(
    collection: str, identifier: str, geometry: Mapping[str, Any], bbox: Sequence[float], extensions: Sequence[str]
) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [_EXTENSION.format(name) for name in extensions],
        "id": identifier,
        "collection": collection,
        "geometry": dict(geometry),
        "bbox": list(bbox),
        "links": [],
    }


def _href(collection: str, identifier: str, name: str) -> str:
    return f"./{collection}/{identifier}/{name}.tif"


def s2_item(
    item: OpticalPass,
    tile: str,
    grids: Mapping[str, Grid],
    corners: Sequence[Corner],
    counts: Sequence[int],
    sun: tuple[float, float],
) -> dict[str, Any]:
    """Item of one Sentinel-2 scene.

    corners: valid-data polygon in metres. counts: pixels of every scene class 0 to 11; `eo:cloud_cover` is the share
    of classes 8, 9 and 10 among the valid ones. sun: elevation and azimuth in radians.
    """
    identifier = s2_id(item, tile)
    epsg = grids["B02"].epsg
    geometry, bbox = footprint(epsg, corners)
    valid = sum(counts[1:])
    shares = {name: round(100 * counts[code] / valid, 6) for code, name in _CLOUD_KEYS.items()}
    tag = f"N{item.baseline.replace('.', '')}"
    absolute = 29000 + round((item.acquired - datetime(2021, 1, 1, tzinfo=UTC)) / timedelta(days=10) * 143)
    stem = f"S2{item.platform}_MSIL2A_{item.acquired:%Y%m%dT%H%M%S}"
    assets = {}
    for band in OPTICAL_BANDS:
        about = BANDS[band]
        assets[band] = {
            "href": _href(S2_COLLECTION, identifier, band),
            "type": _COG,
            "roles": ["data"],
            "title": f"Band {band.removeprefix('B').lstrip('0')} - {about.resolution_m}m",
            "gsd": float(about.resolution_m),
            "eo:bands": [
                {
                    "name": band,
                    "common_name": about.common_name,
                    "center_wavelength": round((about.wavelength_nm or 0) / 1000, 3),
                }
            ],
            **_projection(grids[band]),
        }
    assets[SCL_BAND] = {
        "href": _href(S2_COLLECTION, identifier, SCL_BAND),
        "type": _COG,
        "roles": ["data"],
        "title": "Scene classification map (SCL)",
        "gsd": 20.0,
        **_projection(grids[SCL_BAND]),
    }
    return _item(S2_COLLECTION, identifier, geometry, bbox, ("eo/v1.1.0", "sat/v1.0.0", "projection/v1.2.0")) | {
        "assets": assets,
        "properties": {
            "datetime": _time(item.acquired),
            "platform": f"Sentinel-2{item.platform}",
            "constellation": "Sentinel 2",
            "instruments": ["msi"],
            "proj:code": f"EPSG:{epsg}",
            "proj:epsg": epsg,
            "sat:orbit_state": "descending",
            "sat:relative_orbit": item.orbit,
            "eo:cloud_cover": round(100 * sum(counts[8:11]) / valid, 6),
            "s2:mgrs_tile": tile,
            "s2:processing_baseline": item.baseline,
            "s2:product_type": "S2MSI2A",
            "s2:product_uri": f"{stem}_{tag}_R{item.orbit:03d}_T{tile}_{item.processed:%Y%m%dT%H%M%S}.SAFE",
            "s2:datatake_id": f"GS2{item.platform}_{item.acquired:%Y%m%dT%H%M%S}_{absolute:06d}_N{item.baseline}",
            "s2:datatake_type": "INS-NOBS",
            "s2:generation_time": _time(item.processed),
            "s2:mean_solar_zenith": round(90 - math.degrees(sun[0]), 6),
            "s2:mean_solar_azimuth": round(math.degrees(sun[1]), 6),
            "s2:nodata_pixel_percentage": round(100 * counts[0] / sum(counts), 6),
            **shares,
        },
    }


def s1_item(item: RadarPass, grid: Grid, corners: Sequence[Corner]) -> dict[str, Any]:
    """Item of one Sentinel-1 scene; corners: valid-data polygon in metres."""
    identifier = s1_id(item)
    geometry, bbox = footprint(grid.epsg, corners)
    names = {"vv": "VV: vertical transmit, vertical receive", "vh": "VH: vertical transmit, horizontal receive"}
    band = {"nodata": S1_NODATA, "data_type": "float32", "spatial_resolution": 10.0}
    assets = {
        name: {
            "href": _href(S1_COLLECTION, identifier, name),
            "type": _COG,
            "roles": ["data"],
            "title": title,
            "description": "Terrain-corrected gamma naught in linear power.",
            "raster:bands": [dict(band)],
        }
        for name, title in names.items()
    }
    extensions = ("sar/v1.0.0", "sat/v1.0.0", "projection/v1.2.0", "raster/v1.1.0")
    return _item(S1_COLLECTION, identifier, geometry, bbox, extensions) | {
        "assets": assets,
        "properties": {
            "datetime": _time(item.acquired),
            "start_datetime": _time(item.acquired - timedelta(seconds=12)),
            "end_datetime": _time(item.acquired + timedelta(seconds=13)),
            "platform": "SENTINEL-1A",
            "constellation": "Sentinel-1",
            "proj:code": f"EPSG:{grid.epsg}",
            "proj:epsg": grid.epsg,
            **_projection(grid),
            "sat:orbit_state": item.state,
            "sat:relative_orbit": item.orbit,
            "sat:absolute_orbit": item.absolute_orbit,
            "s1:datatake_id": str(_datatake(item)),
            "s1:resolution": "high",
            "s1:processing_level": "1",
            "sar:frequency_band": "C",
            "sar:center_frequency": 5.405,
            "sar:instrument_mode": "IW",
            "sar:product_type": "GRD",
            "sar:polarizations": ["VV", "VH"],
            "sar:observation_direction": "right",
            "sar:looks_equivalent_number": LOOKS,
            "sar:pixel_spacing_range": 10,
            "sar:pixel_spacing_azimuth": 10,
            "sar:resolution_range": 20,
            "sar:resolution_azimuth": 22,
        },
    }


def label_id(region: Region, tile: str, year: int) -> str:
    """Item id of a tile's labels in a year."""
    return f"labels_{region.name}_T{tile}_{year}"


def label_item(region: Region, tile: str, year: int, grid: Grid, corners: Sequence[Corner]) -> dict[str, Any]:
    """Item of a tile's land classes and changes in one year; true for every look taken in it."""
    identifier = label_id(region, tile, year)
    geometry, bbox = footprint(grid.epsg, corners)
    legends = {
        LABEL_BAND: ("Land class", {0: "no data", **SANDBOX_CLASSES}),
        CHANGE_BAND: ("Change since the first year", {0: "none", **{code: name for name, code in CHANGES.items()}}),
    }
    assets = {
        name: {
            "href": _href(LABEL_COLLECTION, identifier, name),
            "type": _COG,
            "roles": ["data"],
            "title": title,
            "gsd": 10.0,
            "classification:classes": [
                {"value": value, "name": text.replace(" ", "-"), "description": text} for value, text in legend.items()
            ],
            **_projection(grid),
        }
        for name, (title, legend) in legends.items()
    }
    start = datetime(year, 1, 1, tzinfo=UTC)
    end = datetime(year + 1, 1, 1, tzinfo=UTC) - timedelta(seconds=1)
    return _item(LABEL_COLLECTION, identifier, geometry, bbox, ("classification/v2.0.0", "projection/v1.2.0")) | {
        "assets": assets,
        "properties": {
            "datetime": None,
            "start_datetime": _time(start),
            "end_datetime": _time(end),
            "proj:code": f"EPSG:{grid.epsg}",
            "proj:epsg": grid.epsg,
            "s2:mgrs_tile": tile,
        },
    }
