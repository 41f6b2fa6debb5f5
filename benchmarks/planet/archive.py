"""An archive of items as the Planetary Computer publishes it: stac-geoparquet, a file for each month and collection.

All fields and assets are there that its items have; addresses are of the real form and lead nowhere. Cloud cover is
drawn for each item from a seed, by latitude.
"""

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geossl_data.grid import from_lonlat, utm_epsgs
from planet.orbits import EPOCH, SENTINEL_2, SLICE_US, IntArray, microseconds
from planet.passes import Frames, Views, frames_taken, taken_by_day
from planet.tiles import SIDE_M, Tiles

ROWS = 5000
"""Items in a row group."""
API = "https://planetarycomputer.microsoft.com/api/stac/v1"
DATA = "https://planetarycomputer.microsoft.com/api/data/v1/item"
S2_BLOB = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2"
S1_BLOB = "https://sentinel1euwestrtc.blob.core.windows.net/sentinel1-grd-rtc"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
NOTICE = "https://sentinel.esa.int/documents/247904/690755/Sentinel_Data_Legal_Notice"

_S2_RASTERS = {
    **{name: (10, "AOT" if name == "AOT" else "WVP") for name in ("AOT", "WVP")},
    "B01": (60, "coastal"),
    "B02": (10, "blue"),
    "B03": (10, "green"),
    "B04": (10, "red"),
    "B05": (20, "rededge"),
    "B06": (20, "rededge"),
    "B07": (20, "rededge"),
    "B08": (10, "nir"),
    "B09": (60, "nir09"),
    "B11": (20, "swir16"),
    "B12": (20, "swir22"),
    "B8A": (20, "rededge"),
    "SCL": (20, "classes"),
    "visual": (10, "true colour"),
}
_S2_FILES = {
    "safe-manifest": "manifest.safe",
    "inspire-metadata": "INSPIRE.xml",
    "product-metadata": "MTD_MSIL2A.xml",
    "granule-metadata": "GRANULE/{granule}/MTD_TL.xml",
    "datastrip-metadata": "DATASTRIP/MTD_DS.xml",
    "preview": "GRANULE/{granule}/QI_DATA/T{tile}_PVI.tif",
}
_PERCENTAGES = (
    "snow_ice",
    "vegetation",
    "water",
    "thin_cirrus",
    "cloud_shadow",
    "unclassified",
    "dark_features",
    "not_vegetated",
    "degraded_msi_data",
    "high_proba_clouds",
    "medium_proba_clouds",
    "saturated_defective_pixel",
)
_TEXT, _NUMBER = pa.string(), pa.float64()
_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What an archive holds."""

    s2_items: int
    s1_items: int
    nbytes: int


def write_archive(
    folder: Path,
    tiles: Tiles,
    views: Views,
    frames: Frames,
    first: datetime,
    end: datetime,
    *,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Counted:
    """Write the items of a period month by month; the same arguments give the same items.

    first, end: UTC midnights, the end exclusive. Memory holds one row group of items and a month of their times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n_s2 = n_s1 = 0
    optical, radar = _Optical(tiles, views, seed), _Radar(frames)
    while first < end:
        following = min(end, (first.replace(day=1) + timedelta(days=32)).replace(day=1))
        limits = (microseconds(first), microseconds(following))
        n_s2 += _write(folder / f"sentinel-2-l2a_{first:%Y-%m}.parquet", optical.tables(*limits))
        n_s1 += _write(folder / f"sentinel-1-rtc_{first:%Y-%m}.parquet", radar.tables(*limits))
        say(f"{first:%Y-%m}: {n_s2:,} Sentinel-2 and {n_s1:,} Sentinel-1 items so far")
        first = following
    return Counted(s2_items=n_s2, s1_items=n_s1, nbytes=sum(path.stat().st_size for path in folder.glob("*.parquet")))


def _write(path: Path, tables: Iterator[pa.Table]) -> int:
    """Row groups, one for each table; the file is there whole or not at all."""
    geo = {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Polygon"]}},
    }
    notes = {b"geo": json.dumps(geo).encode(), b"stac-geoparquet": b'{"version": "1.0.0"}'}
    temporary, count = path.with_suffix(".part"), 0
    writer: pq.ParquetWriter | None = None
    for table in tables:
        if writer is None:
            writer = pq.ParquetWriter(temporary, table.schema.with_metadata(notes), compression="zstd")
        writer.write_table(table.replace_schema_metadata(notes))
        count += table.num_rows
    if writer is not None:
        writer.close()
        temporary.replace(path)
    return count


# ------------------------------------------------------------------------------------------------ columns


def _texts(values: Sequence[str]) -> pa.Array:
    return pa.array(values, _TEXT)


def _times(at_us: IntArray) -> pa.Array:
    return pa.array(at_us + int(EPOCH.timestamp()) * 1_000_000, pa.int64()).cast(_TIME)


def _same(value: Any, kind: pa.DataType, n: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), n)


def _rows(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """A list for each row of a matrix."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel(), kind))


def _struct(members: Mapping[str, pa.Array]) -> pa.Array:
    return pa.StructArray.from_arrays(list(members.values()), list(members))


def _wkb(ring: NDArray[np.float64]) -> bytes:
    return struct.pack("<BIII", 1, 3, 1, len(ring)) + np.ascontiguousarray(ring, dtype="<f8").tobytes()


def _box(rings: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.array([(*ring.min(axis=0), *ring.max(axis=0)) for ring in rings]).reshape(-1, 4)


def _boxes(limits: NDArray[np.float64]) -> pa.Array:
    return _struct({name: pa.array(limits[:, k], _NUMBER) for k, name in enumerate(("xmin", "ymin", "xmax", "ymax"))})


def _links(collection: str, ids: Sequence[str], n: int) -> pa.Array:
    """The six links that every item has; one entry after the other in one array."""
    kind = pa.struct([(name, _TEXT) for name in ("href", "rel", "type", "title")])
    json_type = "application/json"
    hrefs: list[str] = []
    for name in ids:
        hrefs += (
            f"{API}/collections/{collection}",
            f"{API}/collections/{collection}",
            f"{API}/",
            f"{API}/collections/{collection}/items/{name}",
            NOTICE,
            f"{DATA}/map?collection={collection}&item={name}",
        )
    six = [
        ("collection", json_type, None),
        ("parent", json_type, None),
        ("root", json_type, None),
        ("self", "application/geo+json", None),
        ("license", None, None),
        ("preview", "text/html", "Map of item"),
    ]
    members = [_texts(hrefs), *(_texts([row[k] for row in six] * n) for k in range(3))]
    values = pa.StructArray.from_arrays(members, fields=list(kind))
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * 6), values)


def _link_assets(collection: str, ids: Sequence[str], n: int) -> dict[str, pa.Array]:
    """The two assets that are services."""
    query = f"collection={collection}&item={{}}&assets=visual&asset_bidx=visual%7C1%2C2%2C3&nodata=0&format=png"
    named = {"tilejson": ("tilejson.json", "application/json"), "rendered_preview": ("preview.png", "image/png")}
    return {
        key: _struct(
            {
                "href": _texts([f"{DATA}/{page}?{query.format(name)}" for name in ids]),
                "type": _same(kind, _TEXT, n),
                "title": _same("Rendered" if key == "rendered_preview" else "Default rendering", _TEXT, n),
                "roles": _same(["overview"], pa.list_(_TEXT), n),
            }
        )
        for key, (page, kind) in named.items()
    }


# ------------------------------------------------------------------------------------------------ Sentinel-2


class _Optical:
    """The items of Sentinel-2."""

    def __init__(self, tiles: Tiles, views: Views, seed: int) -> None:
        self.tiles, self.views = tiles, views
        self.random = np.random.default_rng(seed)
        self.wkb = np.array([_wkb(ring) for ring in views.rings], dtype=object)
        self.boxes = _box(views.rings)

    def tables(self, first_us: int, end_us: int) -> Iterator[pa.Table]:
        """Row groups of the items of a period."""
        taken = taken_by_day(self.views, self.tiles, first_us, end_us)
        cloud = _clouds(self.random, self.tiles.centre[self.views.tile[taken.view], 1])
        for start in range(0, len(taken.view), ROWS):
            part = slice(start, start + ROWS)
            columns = (taken.view[part], taken.at_us[part], taken.take_us[part], taken.satellite[part], cloud[part])
            yield self._table(*columns)

    def _table(
        self, view: IntArray, at_us: IntArray, take_us: IntArray, satellite: IntArray, cloud: NDArray[np.float64]
    ) -> pa.Table:
        n, tile = len(view), self.views.tile[view]
        names = self.tiles.name[tile].tolist()
        orbit = self.views.orbit[view] + 1
        absolute = np.rint(at_us / SENTINEL_2.period_us).astype(np.int64) % 100_000
        sensed, taken = _stamps(at_us), _stamps(take_us)
        # Collections 0 and 1 of baselines, as the archive was processed at that time.
        baseline = np.where(at_us < microseconds(datetime(2022, 1, 25, tzinfo=UTC)), "02.14", "05.09").tolist()
        ids, safes, granules, folders = [], [], [], []
        letters, generated = "AB", _stamps(at_us + 40_000_000_000)
        rows = zip(satellite.tolist(), taken, orbit.tolist(), names, sensed, absolute.tolist(), baseline, strict=True)
        for (which, take, r, name, seen, number, base), made in zip(rows, generated, strict=True):
            ids.append(f"S2{letters[which]}_MSIL2A_{take}_R{r:03d}_T{name}_{made}")
            safes.append(f"S2{letters[which]}_MSIL2A_{take}_N{base[:2]}{base[3:]}_R{r:03d}_T{name}_{made}.SAFE")
            granules.append(f"L2A_T{name}_A{number:06d}_{seen}")
            folders.append(
                f"{S2_BLOB}/{int(name[:2])}/{name[2]}/{name[3:]}/{take[:4]}/{take[4:6]}/{take[6:8]}/{safes[-1]}"
            )
        x, y = self.tiles.x[tile], self.tiles.y[tile]
        assets = {key: self._raster(key, x, y, folders, granules, names, taken) for key in _S2_RASTERS} | _files(
            folders, granules, names
        )
        percentages = {
            f"s2:{name}_percentage": pa.array(np.round(cloud / 7 + k, 6)) for k, name in enumerate(_PERCENTAGES)
        }
        columns: dict[str, pa.Array] = {
            "type": _same("Feature", _TEXT, n),
            "stac_version": _same("1.0.0", _TEXT, n),
            "stac_extensions": _same(_extensions("eo", "sat", "projection"), pa.list_(_TEXT), n),
            "id": _texts(ids),
            "collection": _same("sentinel-2-l2a", _TEXT, n),
            "geometry": pa.array(self.wkb[view].tolist(), pa.binary()),
            "bbox": _boxes(self.boxes[view]),
            "datetime": _times(at_us),
            "links": _links("sentinel-2-l2a", ids, n),
            "assets": _struct(assets | _link_assets("sentinel-2-l2a", ids, n)),
            "platform": _texts([f"Sentinel-2{letters[which]}" for which in satellite.tolist()]),
            "constellation": _same("Sentinel 2", _TEXT, n),
            "instruments": _same(["msi"], pa.list_(_TEXT), n),
            "proj:epsg": pa.array(self.tiles.epsg[tile]),
            "eo:cloud_cover": pa.array(cloud),
            "sat:orbit_state": _same("descending", _TEXT, n),
            "sat:relative_orbit": pa.array(orbit),
            "s2:mgrs_tile": _texts(names),
            "s2:granule_id": _texts([f"S2_OPER_MSI_L2A_TL_{granule}" for granule in granules]),
            "s2:datatake_id": _texts([f"GS2_{take}_N{base}" for take, base in zip(taken, baseline, strict=True)]),
            "s2:product_uri": _texts(safes),
            "s2:product_type": _same("S2MSI2A", _TEXT, n),
            "s2:datatake_type": _same("INS-NOBS", _TEXT, n),
            "s2:generation_time": _texts([f"{m[:4]}-{m[4:6]}-{m[6:11]}:{m[11:13]}:{m[13:]}.0Z" for m in generated]),
            "s2:processing_baseline": _texts(baseline),
            "s2:mean_solar_zenith": _same(45.0, _NUMBER, n),
            "s2:mean_solar_azimuth": _same(160.0, _NUMBER, n),
            "s2:reflectance_conversion_factor": _same(1.0, _NUMBER, n),
            "s2:nodata_pixel_percentage": pa.array(np.round(100 * (1 - self.views.share[view]), 6)),
            **percentages,
        }
        return pa.table(columns)

    def _raster(
        self,
        key: str,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        folders: Sequence[str],
        granules: Sequence[str],
        names: Sequence[str],
        taken: Sequence[str],
    ) -> pa.Array:
        metres, title = _S2_RASTERS[key]
        n, name = len(x), "TCI" if key == "visual" else key
        rows = zip(folders, granules, names, taken, strict=True)
        hrefs = [
            f"{folder}/GRANULE/{granule}/IMG_DATA/R{metres}m/T{tile}_{take}_{name}_{metres}m.tif"
            for folder, granule, tile, take in rows
        ]
        side, none = int(SIDE_M) // metres, np.zeros(n)
        transform = np.column_stack([none + metres, none, x, none, none - metres, y])
        band = [{"name": key, "common_name": title, "description": title, "center_wavelength": 0.6}]
        kind = pa.list_(
            pa.struct([("name", _TEXT), ("common_name", _TEXT), ("description", _TEXT), ("center_wavelength", _NUMBER)])
        )
        return _struct(
            {
                "href": _texts(hrefs),
                "type": _same(COG, _TEXT, n),
                "title": _same(f"{key} - {title} - {metres}m", _TEXT, n),
                "roles": _same(["data"], pa.list_(_TEXT), n),
                "gsd": _same(float(metres), _NUMBER, n),
                "proj:bbox": _rows(np.column_stack([x, y - SIDE_M, x + SIDE_M, y]), _NUMBER),
                "proj:shape": _same([side, side], pa.list_(pa.int64()), n),
                "proj:transform": _rows(transform, _NUMBER),
                "eo:bands": _same(band, kind, n),
            }
        )


def _files(folders: Sequence[str], granules: Sequence[str], names: Sequence[str]) -> dict[str, pa.Array]:
    """The assets that are no rasters of the tile."""
    n = len(folders)
    rows = list(zip(folders, granules, names, strict=True))
    return {
        key: _struct(
            {
                "href": _texts([f"{at}/{pattern.format(granule=granule, tile=tile)}" for at, granule, tile in rows]),
                "type": _same("application/xml", _TEXT, n),
                "title": _same(key, _TEXT, n),
                "roles": _same(["metadata"], pa.list_(_TEXT), n),
            }
        )
        for key, pattern in _S2_FILES.items()
    }


def _clouds(random: np.random.Generator, lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percent of cloud, most scenes nearly clear or nearly covered; means as of the zonal climatology, roughly:
    70 % at the equator, 40 % at 25°, 65 % beyond 50°."""
    mean = np.interp(np.abs(lat), [0.0, 10.0, 25.0, 50.0, 90.0], [0.7, 0.62, 0.4, 0.65, 0.68])
    return np.asarray(np.round(100 * random.beta(1.1 * mean, 1.1 * (1 - mean)), 6))


def _stamps(at_us: IntArray) -> list[str]:
    """Times as in names: `20200601T101031`."""
    seconds = (np.datetime64(EPOCH.replace(tzinfo=None), "s") + at_us // 1_000_000).astype("datetime64[s]")
    known, position = np.unique(seconds, return_inverse=True)
    texts = [text.replace("-", "").replace(":", "") for text in np.datetime_as_string(known).tolist()]
    return [texts[number] for number in position.tolist()]


def _extensions(*names: str) -> list[str]:
    return [f"https://stac-extensions.github.io/{name}/v1.0.0/schema.json" for name in names]


# ------------------------------------------------------------------------------------------------ Sentinel-1


class _Radar:
    """The items of Sentinel-1."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        lon = (frames.corners[..., 0] + 180.0) % 360.0 - 180.0
        rings = np.concatenate([np.stack([lon, frames.corners[..., 1]], axis=-1)] * 2, axis=1)[:, :5]
        self.wkb = np.array([_wkb(ring) for ring in rings], dtype=object)
        self.boxes = _box(list(rings))
        self.epsg = utm_epsgs((frames.middle[:, 0] + 180.0) % 360.0 - 180.0, frames.middle[:, 1])
        self.transform, self.shape = np.zeros((len(lon), 9)), np.zeros((len(lon), 2), dtype=np.int64)
        for code in np.unique(self.epsg).tolist():
            rows = np.flatnonzero(self.epsg == code)
            x, y = from_lonlat(code, frames.corners[rows, :, 0], frames.corners[rows, :, 1])
            west, north = np.floor(x.min(axis=1) / 10) * 10, np.ceil(y.max(axis=1) / 10) * 10
            none = np.zeros(len(rows))
            self.transform[rows] = np.column_stack(
                [none + 10, none, west, none, none - 10, north, none, none, none + 1]
            )
            sides = (np.ceil((north - y.min(axis=1)) / 10), np.ceil((x.max(axis=1) - west) / 10))
            self.shape[rows] = np.column_stack(sides).astype(np.int64)

    def tables(self, first_us: int, end_us: int) -> Iterator[pa.Table]:
        """Row groups of the items of a period."""
        found = frames_taken(self.frames, first_us, end_us)
        for start in range(0, len(found[0]), ROWS):
            yield self._table(*(column[start : start + ROWS] for column in found))

    def _table(self, frame: IntArray, at_us: IntArray, satellite: IntArray, absolute: IntArray) -> pa.Table:
        n, letters = len(frame), "AB"
        begins, ends = _stamps(at_us), _stamps(at_us + SLICE_US)
        rows = zip(satellite.tolist(), begins, ends, (absolute % 1_000_000).tolist(), strict=True)
        grd = [
            f"S1{letters[which]}_IW_GRDH_1SDV_{begin}_{end}_{number:06d}_{number * 7 % 0xFFFFFF:06X}"
            for which, begin, end, number in rows
        ]
        ids = [f"{name}_rtc" for name in grd]
        folders = [
            f"{S1_BLOB}/GRD/{begin[:4]}/{int(begin[4:6])}/{int(begin[6:8])}/IW/DV/{name}_{number:04X}/measurement"
            for begin, name, number in zip(begins, grd, (frame % 0xFFFF).tolist(), strict=True)
        ]
        band = [{"nodata": -32768, "data_type": "float32", "spatial_resolution": 10.0}]
        kind = pa.list_(pa.struct([("nodata", pa.int64()), ("data_type", _TEXT), ("spatial_resolution", _NUMBER)]))
        assets = {
            key: _struct(
                {
                    "href": _texts([f"{folder}/iw-{key}.rtc.tiff" for folder in folders]),
                    "type": _same(COG, _TEXT, n),
                    "title": _same(key.upper(), _TEXT, n),
                    "roles": _same(["data"], pa.list_(_TEXT), n),
                    "file:size": _same(1_800_000_000, pa.int64(), n),
                    "raster:bands": _same(band, kind, n),
                }
            )
            for key in ("vh", "vv")
        }
        ascending = self.frames.is_ascending[frame].tolist()
        columns: dict[str, pa.Array] = {
            "type": _same("Feature", _TEXT, n),
            "stac_version": _same("1.0.0", _TEXT, n),
            "stac_extensions": _same(_extensions("sar", "sat", "projection"), pa.list_(_TEXT), n),
            "id": _texts(ids),
            "collection": _same("sentinel-1-rtc", _TEXT, n),
            "geometry": pa.array(self.wkb[frame].tolist(), pa.binary()),
            "bbox": _boxes(self.boxes[frame]),
            "datetime": _times(at_us + SLICE_US // 2),
            "start_datetime": _times(at_us),
            "end_datetime": _times(at_us + SLICE_US),
            "links": _links("sentinel-1-rtc", ids, n),
            "assets": _struct(assets | _link_assets("sentinel-1-rtc", ids, n)),
            "platform": _texts([f"SENTINEL-1{letters[which]}" for which in satellite.tolist()]),
            "constellation": _same("Sentinel-1", _TEXT, n),
            "proj:epsg": pa.array(self.epsg[frame]),
            "proj:shape": _rows(self.shape[frame], pa.int64()),
            "proj:transform": _rows(self.transform[frame], _NUMBER),
            "sat:orbit_state": _texts(["ascending" if up else "descending" for up in ascending]),
            "sat:relative_orbit": pa.array(self.frames.orbit[frame] + 1),
            "sat:absolute_orbit": pa.array(absolute),
            "sar:instrument_mode": _same("IW", _TEXT, n),
            "sar:product_type": _same("GRD", _TEXT, n),
            "sar:polarizations": _same(["VV", "VH"], pa.list_(_TEXT), n),
            "sar:frequency_band": _same("C", _TEXT, n),
            "sar:center_frequency": _same(5.405, _NUMBER, n),
            "s1:resolution": _same("high", _TEXT, n),
            "s1:processing_level": _same("1", _TEXT, n),
        }
        return pa.table(columns)
