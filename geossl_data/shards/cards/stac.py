"""The dataset as a STAC Collection.

STAC 1.1: https://github.com/radiantearth/stac-spec/blob/v1.1.0/collection-spec/collection-spec.md. How a collection
points to its items in one Parquet file: https://github.com/stac-utils/stac-geoparquet/blob/main/spec/stac-geoparquet-spec.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from geossl_data.bands import Member
from geossl_data.scenes.items import rfc3339
from geossl_data.shards.cards.croissant import CROISSANT_NAME, CROISSANT_TYPE
from geossl_data.shards.cards.facts import Facts, band_of, cleaned, description, facts_of, keywords
from geossl_data.shards.cards.licence import LICENCE_NAME, missions
from geossl_data.shards.cards.table import PARQUET_TYPE, Table
from geossl_data.shards.manifest import COLLECTION, MANIFEST_NAME, Entry

COLLECTION_NAME = "collection.json"

_EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
_INSTRUMENTS = {"s1": "c-sar", "s2": "msi"}


def collection(
    entries: Sequence[Entry], notes: Mapping[str, Any], *, table: Table | None = None, title: str | None = None
) -> dict[str, Any]:
    """The dataset as a STAC 1.1 Collection; its items are the rows of the manifest.

    notes: as of `manifest.Manifest`. table: the manifest as a file, for its size and hash. title: instead of our own.
    The extent is that of the places whose ground is known; a box across the antimeridian has west > east. Where the
    ground of no place is known it is a STAC Catalog with the same fields otherwise: that is what STAC has for things
    without an extent, and the whole world would be a claim. Raises ShardError without entries.
    """
    return collection_of(facts_of(entries, notes), notes, table=table, title=title)


def collection_of(
    facts: Facts, notes: Mapping[str, Any], *, table: Table | None = None, title: str | None = None
) -> dict[str, Any]:
    """`collection` of facts that were gathered before."""
    bands = [_band(member, name, facts) for member in facts.members for name in member.bands]
    summaries = _summaries(facts, notes)
    content: dict[str, Any] = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": _extensions(bands, summaries, table),
        "id": COLLECTION,
        "title": title or facts.title,
        "description": description(facts),
        "keywords": keywords(facts),
        "license": "other",
        "providers": _providers(facts),
        "summaries": summaries,
        "item_assets": {
            "data": {
                "title": "Shard",
                "description": "WebDataset tar; geossl:offset and geossl:nbytes of an item say where its sample lies.",
                "type": "application/x-tar",
                "roles": ["data"],
                "bands": bands,
            }
        },
        "assets": {
            "manifest": {
                "href": f"./{MANIFEST_NAME}",
                "type": PARQUET_TYPE,
                "title": "Samples, one STAC item a row",
                "roles": ["collection-mirror", "stac-items"],
                **({"file:size": table.nbytes, "file:checksum": f"1220{table.sha256}"} if table else {}),
            },
            "croissant": {
                "href": f"./{CROISSANT_NAME}",
                "type": CROISSANT_TYPE,
                "title": "Croissant",
                "roles": ["metadata"],
            },
        },
        "links": [
            {"rel": "root", "href": f"./{COLLECTION_NAME}", "type": "application/json"},
            {"rel": "license", "href": f"./{LICENCE_NAME}", "type": "text/plain", "title": "Terms of the pixels"},
            {"rel": "items", "href": f"./{MANIFEST_NAME}", "type": PARQUET_TYPE},
        ],
    }
    if facts.box is None:
        # The schemas of the extensions know items and collections only.
        content |= {"type": "Catalog", "stac_extensions": []}
    else:
        content["extent"] = {
            "spatial": {"bbox": [list(facts.box)]},
            "temporal": {"interval": [[time and rfc3339(time) for time in (facts.first, facts.last)]]},
        }
    clean: dict[str, Any] = cleaned(content)
    return clean


def _extensions(bands: Sequence[Mapping[str, Any]], summaries: Mapping[str, Any], table: Table | None) -> list[str]:
    """The extensions whose fields are there."""
    used = {
        "eo/v2.0.0": any("eo:common_name" in band for band in bands),
        "file/v2.1.0": table is not None,
        "projection/v2.0.0": "proj:code" in summaries,
        "raster/v2.0.0": any("raster:scale" in band for band in bands),
        "sar/v1.0.0": "sar:polarizations" in summaries,
    }
    return [_EXTENSION.format(name) for name, is_used in used.items() if is_used]


def _summaries(facts: Facts, notes: Mapping[str, Any]) -> dict[str, Any]:
    known = [(member, name) for member in facts.members for name in member.bands]
    radar = [name for member, name in known if (band := band_of(member, name)) is not None and band.sensor == "s1"]
    has_radar = "s1" in facts.sentinels and bool(radar)
    resolutions = {facts.resolution_m(member) for member in facts.members}
    found: dict[str, list[Any]] = {
        "platform": list(facts.platforms),
        "constellation": [missions((sensor,)).lower() for sensor in facts.sentinels],
        "instruments": [_INSTRUMENTS[sensor] for sensor in facts.sentinels],
        "gsd": sorted(side for side in resolutions if side is not None),
        "bands": [_named(member, name) for member, name in known],
        "proj:code": [f"EPSG:{code}" for code in facts.codes],
        "sar:frequency_band": ["C"] if has_radar else [],
        "sar:polarizations": radar if has_radar else [],
        "geossl:members": [member.name for member in facts.members],
        "geossl:split": list(facts.splits),
        "geossl:size_px": [notes["size_px"]],
        "geossl:codec": [notes["codec"]],
    }
    return {name: values for name, values in found.items() if values}


def _named(member: Member, name: str) -> dict[str, Any]:
    """A band with what its sensor sees; micrometres, as the extension wants."""
    band = band_of(member, name)
    if band is None or band.wavelength_nm is None:
        return {"name": name}
    return {"name": name, "eo:common_name": band.common_name, "eo:center_wavelength": band.wavelength_nm / 1000}


def _band(member: Member, name: str, facts: Facts) -> dict[str, Any]:
    """A band with what its stored numbers are."""
    full = _named(member, name) | {"description": f"Member {member.name}", "data_type": member.dtype}
    if member.units:
        full["unit"] = member.units
    if member.nodata is not None:
        full["nodata"] = member.nodata
    if (resolution_m := facts.resolution_m(member)) is not None:
        full["gsd"] = resolution_m
    if member.is_scaled:
        full |= {"raster:scale": member.scale, "raster:offset": member.offset}
    return full


def _providers(facts: Facts) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if facts.sentinels:
        found.append(
            {
                "name": "European Union, ESA, Copernicus",
                "description": f"{missions(facts.sentinels)} data",
                "roles": ["producer", "licensor"],
                "url": "https://sentinels.copernicus.eu",
            }
        )
    if "s1" in facts.sentinels and facts.rtc:
        found.append(
            {
                "name": "Microsoft Planetary Computer",
                "description": "Radiometric terrain correction of Sentinel-1, with Catalyst",
                "roles": ["processor"],
                "url": "https://planetarycomputer.microsoft.com",
            }
        )
    return found
