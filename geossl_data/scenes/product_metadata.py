"""What a Sentinel-2 product's own metadata file says: consulted where a catalog's item leaves a doubt.

The file is XML from outside; two kinds of element are looked for as text, so that no parser follows its entities.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geossl_data.errors import GeosslError, SceneError
from geossl_data.scenes.hrefs import host_of, leads_inside, redact, resolve_href, split
from geossl_data.scenes.http import Http

_LOG = logging.getLogger(__name__)

ASSETS = ("product-metadata", "product_metadata", "granule-metadata", "granule_metadata")
"""Keys of the assets that hold it, the most telling first."""
MAX_NBYTES = 4 * 2**20
_DEADLINE_S = 60.0

_BASELINE = re.compile(rb"<PROCESSING_BASELINE>\s*(\d{2}\.\d{2})\s*</PROCESSING_BASELINE>")
_TILE_BASELINE = re.compile(rb"<TILE_ID\b[^>]*>[A-Z0-9_]{1,120}_N(\d{2}\.\d{2})\s*</TILE_ID>")
_OFFSET = re.compile(rb"<(?:BOA|RADIO)_ADD_OFFSET\b[^>]{0,40}>\s*(-?\d{1,6})\s*</(?:BOA|RADIO)_ADD_OFFSET>")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductMetadata:
    """Baseline and offsets as the product states them."""

    baseline: str | None
    """As in `05.10`; None where the file does not tell."""
    offsets: frozenset[int]
    """All distinct BOA_ADD_OFFSET or RADIO_ADD_OFFSET; empty before baseline 04.00."""


def parse_product_metadata(content: bytes) -> ProductMetadata:
    """Baseline and offsets in the bytes of MTD_MSIL2A.xml, MTD_MSIL1C.xml or MTD_TL.xml."""
    found = _BASELINE.search(content) or _TILE_BASELINE.search(content)
    return ProductMetadata(
        baseline=found[1].decode() if found else None,
        offsets=frozenset(int(value) for value in _OFFSET.findall(content)),
    )


def consult(item: Mapping[str, Any], base: str, sign: Callable[[str], str]) -> ProductMetadata | None:
    """What the metadata file of an item says; None where there is none that can be read.

    base: what relative hrefs are relative to. sign: makes an unsigned href one that opens.
    """
    assets = item.get("assets")
    for key in ASSETS:
        asset = assets.get(key) if isinstance(assets, Mapping) else None
        href = asset.get("href") if isinstance(asset, Mapping) else None
        if not isinstance(href, str):
            continue
        try:
            stated = parse_product_metadata(_content(resolve_href(href, base), base, sign))
        except (GeosslError, OSError) as error:
            _LOG.info("%s: its metadata cannot be read: %s", str(item.get("id"))[:80], error)
            continue
        if stated.baseline is not None:
            return stated
    return None


def _content(href: str, base: str, sign: Callable[[str], str]) -> bytes:
    """At most MAX_NBYTES of a local or http(s) file; SceneError for other addresses and for those of this network."""
    if "://" not in href:
        with Path(href).open("rb") as file:
            return file.read(MAX_NBYTES)
    parts = split(href)
    if parts is None or parts.scheme not in ("http", "https"):
        raise SceneError("metadata is read from files and http only")
    if leads_inside(str(parts.hostname), host_of(base)):
        raise SceneError(f"{redact(href)}: leads into a private network")
    url = sign(href)
    with Http(url) as http:
        return http.request("GET", url, deadline_s=_DEADLINE_S, max_nbytes=MAX_NBYTES).content
