"""Tiles → xarray: a sample's looks as one Dataset with coordinates, CRS and band names, for people to look at.

The one door to xarray and rioxarray, which are imported when a dataset is made.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import (
    BANDS,
    LABEL_NODATA,
    MEMBERS,
    S1_BANDS,
    S2_NODATA,
    S2_QUANTIFICATION,
    SCL_BAND,
    SCL_NODATA,
    Member,
)
from geossl_data.errors import ReadError
from geossl_data.records import Sample
from geossl_data.scenes.items import finite
from geossl_data.tiles.build import Tile, TileLook

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[Any]

RESOLUTIONS_M = (10, 20, 60)
"""Pixel sides that a dataset may have: the resolutions that the bands are stored at."""
VARIABLES = (*(name for name, band in BANDS.items() if band.sensor == "s2"), SCL_BAND, *S1_BANDS, "label")
"""Names of the variables, in their order."""
SCL_NAMES = (
    "no_data",
    "saturated_or_defective",
    "dark_area",
    "cloud_shadow",
    "vegetation",
    "not_vegetated",
    "water",
    "unclassified",
    "cloud_medium_probability",
    "cloud_high_probability",
    "thin_cirrus",
    "snow",
)
"""Names of the Sen2Cor scene classes 0 to 11 (Sentinel-2 L2A Algorithm Theoretical Basis Document, table of SCL)."""


def to_dataset(tile: Tile, *, resolution_m: int = 10, label_names: Mapping[str, str] | None = None) -> "Dataset":
    """A sample's looks as an xarray Dataset with dimensions (time, y, x), all bands on one grid of `resolution_m`.

    Variables: B01 … B12 as float32 reflectance and VV, VH as float32 dB, NaN where there is no data; SCL and label as
    uint8 classes, 0 where there is none. What no look has is absent. x, y: pixel centres in metres, y falling, in the
    CRS that `.rio.crs` says; time: Sentinel-2 sensing times, UTC; along it `gap_hours`, the scenes' ids,
    `offset_applied` (NaN where nobody stated one) and `cloud_fraction` (NaN without a classification).
    A band coarser than resolution_m has its pixels repeated. A finer one is averaged over the valid pixels of each
    block, decibels in linear power; of classes the most frequent one is taken, of equally frequent ones the lower
    number. A variable's attribute `resampling` says which.
    label_names: class value → name, as the notes of the manifest have them.
    Attributes are numbers and texts, so that the dataset can be written to a file; `provenance` is JSON, one object
    for each look. Raises ReadError for another resolution.
    """
    import rioxarray  # noqa: F401 - gives datasets their .rio
    import xarray

    if resolution_m not in RESOLUTIONS_M:
        raise ReadError(f"resolution {resolution_m} m is not one of {RESOLUTIONS_M}")
    sample, place = tile.sample, tile.sample.place
    side = place.size_px * 10 // resolution_m
    centres = (np.arange(side) + 0.5) * resolution_m
    variables = {
        band: (("time", "y", "x"), values, _attributes(band, member, resolution_m, label_names or {}))
        for member in MEMBERS.values()
        if any(member.name in look.members for look in tile.looks)
        for band, values in _variables(member, tile.looks, side, resolution_m).items()
    }
    dataset = xarray.Dataset(
        {band: variables[band] for band in VARIABLES if band in variables},
        coords={
            **_look_coordinates(tile),
            "y": ("y", place.y - centres, _axis("Y", "northing")),
            "x": ("x", place.x + centres, _axis("X", "easting")),
        },
        attrs=_sample_attributes(sample, tile.looks),
    )
    placed: Dataset = dataset.rio.write_crs(f"EPSG:{place.epsg}")
    return placed


def _variables(member: Member, looks: Sequence[TileLook], side: int, resolution_m: int) -> dict[str, Array]:
    """The bands of a member by variable name, each of shape (looks, side, side); no data where a look lacks it."""
    bands = ("label",) if member.name == "label" else member.bands
    is_class = member.name in ("scl", "label")
    stack = np.full(
        (len(bands), len(looks), side, side),
        LABEL_NODATA if is_class else np.nan,
        dtype=np.uint8 if is_class else np.float32,
    )
    for position, look in enumerate(looks):
        if member.name in look.members:
            stack[:, position] = _on_grid(look.members[member.name], member, resolution_m)
    return dict(zip(bands, stack, strict=True))


def _on_grid(stored: Array, member: Member, resolution_m: int) -> Array:
    """A member in physical units at another resolution; class maps as they are."""
    if member.name in ("scl", "label"):
        return _at_resolution(stored, member.resolution_m, resolution_m, _most_frequent)
    if member.sensor == "s1":
        return _at_resolution(stored.astype(np.float32), member.resolution_m, resolution_m, _mean_db)
    reflectance = np.where(stored == S2_NODATA, np.float32(np.nan), stored.astype(np.float32) / S2_QUANTIFICATION)
    return _at_resolution(reflectance, member.resolution_m, resolution_m, _mean)


def _at_resolution(values: Array, native_m: int, wanted_m: int, shrink: Callable[[Array], Array]) -> Array:
    """Repeated where wanted finer than native, else what `shrink` makes of blocks laid out along the last axis."""
    if wanted_m <= native_m:
        times = native_m // wanted_m
        return values.repeat(times, axis=-2).repeat(times, axis=-1)
    step = wanted_m // native_m
    *bands, height, width = values.shape
    blocks = values.reshape(*bands, height // step, step, width // step, step).swapaxes(-3, -2)
    return shrink(blocks.reshape(*blocks.shape[:-2], step * step))


def _mean(blocks: Array) -> Array:
    """The mean of the finite values along the last axis, NaN where there are none."""
    valid = np.isfinite(blocks)
    counts = np.count_nonzero(valid, axis=-1)
    sums = blocks.sum(axis=-1, where=valid, dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _mean_db(blocks: Array) -> Array:
    """Decibels of the mean linear power along the last axis, NaN where nothing is valid."""
    return np.asarray(10.0 * np.log10(_mean(10.0 ** (blocks.astype(np.float64) / 10.0))))


def _most_frequent(blocks: Array) -> Array:
    """The most frequent class above 0 along the last axis, 0 where there is none; of equals the lower number."""
    winners = np.zeros(blocks.shape[:-1], dtype=np.uint8)
    most = np.zeros(blocks.shape[:-1], dtype=np.int64)
    for value in np.unique(blocks[blocks != SCL_NODATA]):
        counts = np.count_nonzero(blocks == value, axis=-1)
        winners = np.where(counts > most, value, winners)
        most = np.maximum(counts, most)
    return winners


def _attributes(band: str, member: Member, resolution_m: int, label_names: Mapping[str, str]) -> dict[str, Any]:
    """What a variable is, in the words of the CF conventions, and how it came to its resolution."""
    common = {
        "native_resolution_m": member.resolution_m,
        "resampling": _resampling(member, resolution_m),
    }
    if member.name == "label":
        names = {int(value): str(name) for value, name in label_names.items() if value.isdecimal()}
        known = {value: names[value].replace(" ", "_") for value in sorted(names) if value <= np.iinfo(np.uint8).max}
        flags = {"flag_values": np.array(list(known), dtype=np.uint8), "flag_meanings": " ".join(known.values())}
        return {"long_name": "land class", **(flags if known else {}), **common}
    if member.name == "scl":
        values = np.arange(len(SCL_NAMES), dtype=np.uint8)
        return {
            "long_name": "Sen2Cor scene class",
            "flag_values": values,
            "flag_meanings": " ".join(SCL_NAMES),
            **common,
        }
    measured = BANDS[band]
    if measured.wavelength_nm is None:
        return {"long_name": f"{band} backscatter", "units": "dB", "polarization": band, **common}
    return {
        "long_name": f"{band} reflectance ({measured.common_name})",
        "units": "1",
        "common_name": measured.common_name,
        "wavelength_nm": measured.wavelength_nm,
        **common,
    }


def _resampling(member: Member, resolution_m: int) -> str:
    if resolution_m == member.resolution_m:
        return "none"
    if resolution_m < member.resolution_m:
        times = member.resolution_m // resolution_m
        return f"each pixel repeated {times} × {times} times"
    step = resolution_m // member.resolution_m
    blocks = f"of each block of {step} × {step} pixels"
    if member.name in ("scl", "label"):
        return f"most frequent class {blocks}"
    return f"mean of the valid pixels {blocks}" + (", in linear power" if member.sensor == "s1" else "")


def _axis(axis: str, name: str) -> dict[str, str]:
    standard_name = f"projection_{axis.lower()}_coordinate"
    return {"axis": axis, "standard_name": standard_name, "long_name": name, "units": "m"}


def _look_coordinates(tile: Tile) -> dict[str, Any]:
    """What is known of each look, along `time`."""
    looks = tile.sample.looks
    optical = [look.meta["s2"] for look in tile.looks]
    times = np.array([look.acquired.replace(tzinfo=None) for look in looks], dtype="datetime64[us]")
    return {
        "time": ("time", times, {"standard_name": "time", "long_name": "Sentinel-2 sensing time, UTC"}),
        "gap_hours": (
            "time",
            np.array([look.gap_hours for look in looks], dtype=np.float64),
            {"long_name": "Sentinel-1 minus Sentinel-2 acquisition time, in hours"},
        ),
        "s2_id": ("time", np.array([look.s2_id for look in looks])),
        "s1_id": ("time", np.array([look.s1_id for look in looks])),
        "offset_applied": (
            "time",
            _numbers([meta.get("geossl:offset_applied") for meta in optical]),
            {"long_name": "added to the stored digital numbers before they became reflectance"},
        ),
        "cloud_fraction": (
            "time",
            _numbers([meta.get("geossl:cloud_fraction") for meta in optical]),
            {"long_name": "share of the classified pixels that are cloud or cloud shadow"},
        ),
    }


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """Numbers of a description, NaN for what is none."""
    found = [finite(value) for value in values]
    return np.array([np.nan if value is None else value for value in found], dtype=np.float64)


def _sample_attributes(sample: Sample, looks: Sequence[TileLook]) -> dict[str, Any]:
    gaps = [(look.acquired, hours) for look in sample.looks for hours in (0.0, look.gap_hours)]
    years = sorted({(time + timedelta(hours=hours)).year for time, hours in gaps})
    return {
        "key": sample.key,
        "lon": sample.place.lon,
        "lat": sample.place.lat,
        "split": sample.split,
        "stratum": sample.stratum,
        "attribution": f"Contains modified Copernicus Sentinel data {years}",
        "provenance": json.dumps([_without_hrefs(look.meta) for look in looks], sort_keys=True),
    }


def _without_hrefs(value: Any) -> Any:
    """A look's description without the addresses of its files, which differ with where the catalog lies."""
    if isinstance(value, Mapping):
        return {key: _without_hrefs(member) for key, member in value.items() if key != "assets"}
    return [_without_hrefs(member) for member in value] if isinstance(value, list | tuple) else value
