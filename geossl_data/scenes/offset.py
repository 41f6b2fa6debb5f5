"""The offset of Sentinel-2's digital numbers: what follows from the processing baseline and from a catalog's flag."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from geossl_data.bands import S2_BANDS, S2_BOA_OFFSET
from geossl_data.scenes.items import finite
from geossl_data.scenes.reasons import ItemError

BASELINE_KEYS = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
"""Properties that state the processing baseline, the most trusted first."""
APPLIED_KEYS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
"""Flags with which a catalog says that its files have been shifted already."""
BAND_LISTS = (("raster:bands", ""), ("bands", "raster:"))
"""Where an asset describes its bands, before and since STAC 1.1, and the prefix of the names in there."""

_FIRST_BASELINE_WITH_OFFSET = "04.00"


def processing_baseline(name: str, item: Mapping[str, Any], properties: Mapping[str, Any]) -> str | None:
    """The processing baseline as `05.10`, from the properties, else from the product's name; None where unknown.

    Raises ItemError where the two stand on different sides of 04.00.
    """
    stated = next((text for key in BASELINE_KEYS if (text := _baseline_text(properties.get(key))) is not None), None)
    uri = properties.get("s2:product_uri", properties.get("sentinel:product_id"))
    names = [match for text in (uri, item.get("id")) if isinstance(text, str) for match in _named_baselines(text)]
    named = names[0] if names else None
    if stated is not None and named is not None and _native_offset(stated) != _native_offset(named):
        raise ItemError("offset-contradiction", f"{name}: baseline {stated} in the properties, {named} in the name")
    return stated or named


def boa_offset(
    name: str,
    baseline: str | None,
    properties: Mapping[str, Any],
    assets: Mapping[str, Mapping[str, Any]],
    rule: Literal["stored", "flag", "applied"] = "flag",
) -> int | None:
    """What is to be added to the digital numbers in the files: 0 or -1000; None where nothing tells.

    rule: what the catalog does to its files, see Provider. The baseline decides what the product was made with, never
    the date. A catalog that has already subtracted it says so with a flag; the `raster:bands` offset then goes on to
    describe the original product (Earth Search), so that the two are compared only where the flag is not set. Raises
    ItemError where what is stated cannot all be true.
    """
    native = None if baseline is None else _native_offset(baseline)
    flag = next((properties[key] for key in APPLIED_KEYS if isinstance(properties.get(key), bool)), None)
    if rule != "flag" and flag is (rule == "stored"):
        raise ItemError(
            "offset-contradiction", f"{name}: the item says that its offset is {'' if flag else 'not '}applied already"
        )
    if rule == "applied":
        return 0
    if flag is True:
        if native == 0:
            raise ItemError(
                "offset-contradiction", f"{name}: said to be shifted by -1000, but baseline {baseline} has no offset"
            )
        return 0
    stated = {offset for band in S2_BANDS for offset in _raster_offsets(assets[band])}
    if native is not None and stated - {native}:
        raise ItemError(
            "offset-contradiction",
            f"{name}: baseline {baseline} means an offset of {native}, raster:bands state {sorted(stated)}",
        )
    return native


def _baseline_text(value: Any) -> str | None:
    if finite(value) is not None:
        value = f"{value:.2f}"
    match = re.fullmatch(r"(\d{1,2})\.(\d{2})", value) if isinstance(value, str) else None
    return f"{int(match[1]):02d}.{match[2]}" if match else None


def _named_baselines(text: str) -> Iterable[str]:
    return (f"{number[:2]}.{number[2:]}" for number in re.findall(r"_N(\d{4})_", text))


def _native_offset(baseline: str) -> int:
    return S2_BOA_OFFSET if baseline >= _FIRST_BASELINE_WITH_OFFSET else 0


def _raster_offsets(asset: Mapping[str, Any]) -> list[float]:
    """Offsets of a reflectance asset in digital numbers, whole or infinite, from `raster:bands` or `bands`."""
    found = []
    for key, prefix in BAND_LISTS:
        bands = asset.get(key)
        for band in bands if isinstance(bands, list) else []:
            offset = finite(band.get(f"{prefix}offset")) if isinstance(band, Mapping) else None
            scale = finite(band.get(f"{prefix}scale")) if isinstance(band, Mapping) else None
            if offset is not None and scale is not None and scale > 0:
                numbers = offset / scale
                found.append(round(numbers) if math.isfinite(numbers) else numbers)
    return found
