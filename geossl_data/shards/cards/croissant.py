"""The dataset as Croissant, and as GeoCroissant where its ground is known.

Croissant 1.1: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
GeoCroissant 1.0: https://docs.mlcommons.org/croissant/docs/croissant-geo-spec.html
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from geossl_data.bands import Member
from geossl_data.errors import ShardError
from geossl_data.grid import Bounds
from geossl_data.scenes.hrefs import redact
from geossl_data.scenes.items import rfc3339
from geossl_data.shards.cards.facts import Facts, band_of, cleaned, description, facts_of, keywords
from geossl_data.shards.cards.licence import LICENCE_NAME, missions, notice
from geossl_data.shards.cards.table import PARQUET_TYPE, Table
from geossl_data.shards.codec import CODECS
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Entry
from geossl_data.version import VERSION

CROISSANT_NAME = "croissant.json"
CROISSANT_TYPE = 'application/ld+json; profile="http://mlcommons.org/croissant/1.1"'

MOST_FILE_OBJECTS = 100
"""Shards that are named one by one; where there are more a pattern names them, and the manifest holds their hashes."""
MOST_STRATA = 20
"""Strata that are named one by one, the most frequent first."""

_CORE = "http://mlcommons.org/croissant/1.1"
_GEOGRAPHIC = "http://mlcommons.org/croissant/geo/1.0"
_TERMS = "https://sentinel.esa.int/documents/247904/690755/Sentinel_Data_Legal_Notice"
_PREFIX = "geossl:"

_OWN_TERMS = (
    *("annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract"),
    *("field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath"),
    *("key", "md5", "parentField", "path", "readLines", "recordSet", "references", "regex", "repeated", "replace"),
    *("samplingRate", "sdVersion", "separator", "source", "subField", "transform", "unArchive"),
)
_CONTEXT: dict[str, Any] = {term: f"cr:{term}" for term in _OWN_TERMS} | {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "geocr": "http://mlcommons.org/croissant/geo/",
    "name": {"@container": "@language"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}
"""The context of Croissant 1.1 (its appendix 1) as mlcroissant 1.1 expects it, and the prefix of GeoCroissant."""

_ENCODINGS = {
    "npy": "NumPy .npy file",
    "blosc": "one Blosc chunk: imagecodecs.blosc_decode or numcodecs.Blosc().decode, then numpy.frombuffer, reshape",
}
_SPLIT_URLS = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}
_STAC_COLUMNS = ("id", "start_datetime", "end_datetime", "proj:code", "eo:cloud_cover")
"""Columns of the manifest, beside our own, that say something of each sample."""
_FIELDS = {
    "key": "Name of the sample: its files in the tar are {key}.json and {key}.{look}.{member}.{ending}.",
    "split": "Split of the sample's spatial block.",
    "block": "Spatial block that decided the split.",
    "shard": "File name of the tar.",
    "offset": "First byte of the sample's files in the tar.",
    "nbytes": "Length of the sample's files in the tar, headers and padding included.",
    "member_nbytes": "Bytes of each of the sample's files: the JSON, then look by look its members.",
    "member_crc32": "CRC-32 of the same files.",
    "lon": "Centre, degrees east.",
    "lat": "Centre, degrees north.",
    "epsg": "Coordinate reference system of the sample's own grid.",
    "x": "West edge in units of that system.",
    "y": "North edge in units of that system.",
    "size_px": "Side in pixels of the grid that members with factor 1 have.",
    "cell": "Cell of an equal-spacing grid of 10 km that holds the centre.",
    "stratum": "Class of ground that the draw counted the place in.",
    "weight": "Importance weight: proportional to one over the inclusion probability, mean 1.",
    "inclusion_probability": "Chance of the place to be drawn, in (0, 1].",
    "n_looks": "How many looks the sample has.",
    "members": "Members of each look.",
    "acquired": "Sensing time of each look, UTC.",
    "gap_hours": "Sentinel-1 minus Sentinel-2 acquisition time of each look, hours.",
    "s2_ids": "Sentinel-2 scene of each look.",
    "s1_ids": "Sentinel-1 scene of each look.",
    "labels": "Most frequent land class of each look; 0 where no class map holds.",
    "labels_more": "All classes of each look that has several.",
    "cloud_fraction": "Share of cloud and cloud shadow among the classified pixels of each look.",
    "drawn_by": "The strategy that took the place.",
}


def croissant(
    entries: Sequence[Entry], notes: Mapping[str, Any], *, table: Table, title: str | None = None
) -> dict[str, Any]:
    """The dataset as Croissant 1.1, and as GeoCroissant 1.0 where the ground of a place is known.

    notes: as of `manifest.Manifest`. table: the manifest as a file. title: instead of our own.
    Record sets: `samples`, the rows of the manifest; `members`, what the files of a look are; `splits`; `classes`
    where there are labels. datePublished is the day of the newest acquisition, absent where no time is
    known: the date has to be there, and a clock would make another card of the same recipe.
    Raises ShardError without entries, without years for Sentinel pixels, and for a `location` with a secret in it.
    """
    return croissant_of(facts_of(entries, notes), notes, table=table, title=title)


def croissant_of(facts: Facts, notes: Mapping[str, Any], *, table: Table, title: str | None = None) -> dict[str, Any]:
    """`croissant` of facts that were gathered before."""
    title = title or facts.title
    labels = notes["label_names"]
    card: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [_CORE],
        "name": title,
        "description": description(facts),
        "url": "./",
        "license": [f"./{LICENCE_NAME}", *([_TERMS] if facts.sentinels else [])],
        "creator": {
            "@type": "Organization",
            "name": f"geossl {VERSION}",
            "description": "The program that cut the dataset; whoever publishes it puts his own name here.",
        },
        "version": _version(notes),
        "citeAs": _citation(title, facts, notes),
        "keywords": keywords(facts),
        "isLiveDataset": False,
        "recordSet": [
            _samples(table),
            _members(facts, notes),
            _splits(facts),
            *([_classes(labels)] if labels else []),
        ],
    }
    if facts.first is not None and facts.last is not None:
        card |= {
            "description": f"{description(facts)} datePublished is the day of the newest acquisition.",
            "datePublished": facts.last.date().isoformat(),
            "temporalCoverage": f"{rfc3339(facts.first)}/{rfc3339(facts.last)}",
        }
    if facts.box is not None:
        card |= _geography(facts, notes, facts.box)
        card["conformsTo"].append(_GEOGRAPHIC)
    clean: dict[str, Any] = cleaned(card)
    return clean | {"distribution": _distribution(notes, table)}


def _version(notes: Mapping[str, Any]) -> str:
    """Semantic version whose build part is the fingerprint of all choices."""
    fingerprint = str(notes.get("fingerprint", ""))
    return f"1.0.0+{fingerprint}" if re.fullmatch("[0-9A-Za-z-]+", fingerprint) else "1.0.0"


def _citation(title: str, facts: Facts, notes: Mapping[str, Any]) -> str:
    """A BibTeX entry, which holds the Copernicus notice."""
    fields = {"title": title, "howpublished": f"cut by geossl {VERSION}"}
    if facts.last is not None:
        fields["year"] = str(facts.last.year)
    if facts.sentinels:
        fields["note"] = notice(notes["years"])
    values = ", ".join(f"{name} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{geossl_{_version(notes).partition('+')[2] or 'dataset'}, {values}}}"


def _geography(facts: Facts, notes: Mapping[str, Any], box: Bounds) -> dict[str, Any]:
    """Where the places lie, and what GeoCroissant asks for."""
    names = [(member, name) for member in facts.members for name in member.bands]
    sides = [side for member in facts.members if (side := facts.resolution_m(member)) is not None]
    found: dict[str, Any] = {
        "spatialCoverage": [
            {"@type": "Place", "geo": {"@type": "GeoShape", "box": f"{south} {west} {north} {east}"}}
            for west, south, east, north in _uncrossed(box)
        ],
        # Only one is allowed: that of the pixels where they share one, else that of the columns lon and lat.
        "geocr:coordinateReferenceSystem": f"EPSG:{facts.codes[0]}" if len(facts.codes) == 1 else "EPSG:4326",
        "geocr:bandConfiguration": _band_configuration([name for _, name in names]),
        "geocr:samplingStrategy": _sampling_strategy(facts, notes),
        "geocr:spatialBias": _spatial_bias(facts),
    }
    spectral = [band for member, name in names if (band := _spectral_band(member, name))]
    if spectral:
        found["geocr:spectralBandMetadata"] = spectral
    if sides:
        found["geocr:spatialResolution"] = _quantity(min(sides), "m")
    if facts.days is not None:
        least, median, most = (round(days, 3) for days in facts.days)
        found["geocr:temporalResolution"] = _quantity(median, "day") | {"minValue": least, "maxValue": most}
    return found


def _uncrossed(box: Bounds) -> list[Bounds]:
    """A box as boxes that do not cross the antimeridian, which schema.org has no words for."""
    west, south, east, north = box
    return [box] if west <= east else [(west, south, 180.0, north), (-180.0, south, east, north)]


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"@type": "QuantitativeValue", "value": value, "unitText": unit}


def _band_configuration(names: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": "geocr:BandConfiguration",
        "geocr:totalBands": len(names),
        "geocr:bandNameList": list(names),
    }


def _spectral_band(member: Member, name: str) -> dict[str, Any] | None:
    band = band_of(member, name)
    if band is None or band.wavelength_nm is None:
        return None
    return {
        "@type": "geocr:SpectralBand",
        "name": name,
        "geocr:centerWavelength": _quantity(band.wavelength_nm, "nm"),
    }


def _sampling_strategy(facts: Facts, notes: Mapping[str, Any]) -> str:
    """How the samples came about, in numbers."""
    size_px, pixel_m = notes["size_px"], facts.pixel_m
    fewest, most = facts.looks
    parts = [
        f"{facts.n_places:,} squares of {size_px} x {size_px} px" + (f" of {pixel_m:g} m" if pixel_m else ""),
        *(
            ["drawn by " + ", ".join(f"{name} ({n:,})" for name, n in facts.strategies.items())]
            * bool(facts.strategies)
        ),
        f"{fewest} looks each" if fewest == most else f"{fewest} to {most} looks each",
    ]
    if facts.gap_hours is not None:
        parts.append("Sentinel-1 {:+.1f} h to {:+.1f} h from Sentinel-2".format(*facts.gap_hours))
    apart = f", at least {notes['buffer_km']:g} km apart" if notes.get("buffer_km") else ""
    splits = ", ".join(f"{name} {n:,}" for name, n in facts.splits.items())
    text = f"{'; '.join(parts)}. Splits are whole spatial blocks{apart}: {splits}."
    n_skipped = notes.get("n_skipped")
    return f"{text} {n_skipped:,} more were given up; skipped.parquet says why." if n_skipped else text


def _spatial_bias(facts: Facts) -> str:
    """How the places are spread, against the ground that they were drawn from."""
    parts = []
    if facts.latitudes is not None:
        south, north = (f"{abs(lat):.1f} {'N' if lat >= 0 else 'S'}" for lat in facts.latitudes)
        cells = f", in {facts.n_cells:,} cells of 10 km" if facts.n_cells else ""
        parts.append(f"Centres lie between {south} and {north}{cells}.")
    shares = [
        f"{stratum.name} {100 * stratum.of_places:.1f} % ({100 * stratum.of_ground:.1f} %)"
        for stratum in facts.strata
        if stratum.name
    ]
    if shares:
        rest = len(shares) - MOST_STRATA
        parts.append(
            "Share of the places by stratum, and in brackets the share of the sampled ground that their inclusion "
            f"probabilities give it: {', '.join(shares[:MOST_STRATA])}{f' and {rest} more' if rest > 0 else ''}."
        )
    if facts.sentinels:
        parts.append(f"Ground of which {missions(facts.sentinels)} had no look as asked for is absent.")
    return " ".join(parts)


def _shards_at(notes: Mapping[str, Any]) -> str:
    """What stands before a shard's file name; ShardError for a location that tells a secret."""
    location = notes.get("location")
    if location is None:
        return SHARDS_FOLDER
    parts = urlsplit(str(location))
    user = parts.netloc.rpartition("@")[0]
    if parts.query or parts.fragment or (user and (parts.scheme != "abfs" or ":" in user)):
        raise ShardError(
            f"location {redact(str(location))} carries a user name, a key or a signature; give the plain URL"
        )
    return f"{str(location).rstrip('/')}/{SHARDS_FOLDER}"


def _distribution(notes: Mapping[str, Any], table: Table) -> list[dict[str, Any]]:
    shards = sorted(notes["shards"].items())
    shards_at = _shards_at(notes)
    files: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": MANIFEST_NAME,
            "name": MANIFEST_NAME,
            "description": "One row a sample; GeoParquet and stac-geoparquet.",
            "contentUrl": MANIFEST_NAME,
            "contentSize": f"{table.nbytes} B",
            # The registered type, and the older one by which mlcroissant 1.1 knows Parquet.
            "encodingFormat": [PARQUET_TYPE, "application/x-parquet"],
            "sha256": table.sha256,
        }
    ]
    if len(shards) > MOST_FILE_OBJECTS:
        return [
            *files,
            {
                "@type": "cr:FileSet",
                "@id": SHARDS_FOLDER,
                "name": SHARDS_FOLDER,
                "description": f"{len(shards):,} WebDataset tars; {MANIFEST_NAME} has their sizes and hashes, in the "
                "JSON of its metadata entry geossl.",
                "encodingFormat": "application/x-tar",
                "includes": f"{shards_at}/*.tar",
            },
        ]
    return files + [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "description": f"WebDataset tar of {shard['n_samples']:,} samples.",
            "contentUrl": f"{shards_at}/{name}",
            "contentSize": f"{shard['nbytes']} B",
            "encodingFormat": "application/x-tar",
            "sha256": shard["sha256"],
        }
        for name, shard in shards
    ]


def _samples(table: Table) -> dict[str, Any]:
    """One record a row of the manifest."""
    fields = []
    for column in table.columns:
        if column.name not in _STAC_COLUMNS and not column.name.startswith(_PREFIX):
            continue
        name = "key" if column.name == "id" else column.name.removeprefix(_PREFIX)
        field: dict[str, Any] = {
            "@type": "cr:Field",
            "@id": f"samples/{name}",
            "name": name,
            "dataType": column.data_type,
            "source": {"fileObject": {"@id": MANIFEST_NAME}, "extract": {"column": column.name}},
        }
        if name in _FIELDS:
            field["description"] = _FIELDS[name]
        if column.levels:
            field |= {"isArray": True, "arrayShape": ",".join(["-1"] * column.levels)}
        if name == "split":
            field["references"] = {"field": {"@id": "splits/name"}}
        fields.append(field)
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One record a sample: a place and its looks. Arrays hold one value a look, in time order.",
        "key": {"@id": "samples/key"},
        "field": fields,
    }


def _members(facts: Facts, notes: Mapping[str, Any]) -> dict[str, Any]:
    """One record a member of a look: what its file is called, how its bytes become numbers, and what these are.

    The pixels themselves are no record set: mlcroissant unpacks a tar into a folder of its cache that is named after
    the tar's relative address alone, so that a second dataset would be given the pixels of the first.
    """
    codec = CODECS[notes["codec"]]
    described = {
        "name": ("sc:Text", "Name of the member."),
        "sensor": ("sc:Text", "s1 or s2 for Sentinel-1 or Sentinel-2."),
        "bands": ("sc:Text", "Bands in the order in which the array has them."),
        "file_name": ("sc:Text", "What its files are called in the tars."),
        "encoding": ("sc:Text", "How the bytes of a file become an array."),
        "dtype": ("sc:Text", "Type of the stored numbers."),
        "shape": ("sc:Integer", "Shape of the array: bands, rows, columns; rows and columns for class maps."),
        "resolution_m": ("sc:Float", "Side of a pixel in metres."),
        "units": ("sc:Text", "Unit of stored x scale + offset."),
        "scale": ("sc:Float", "See units."),
        "offset": ("sc:Float", "See units."),
        "nodata": ("sc:Float", "The stored number that is no measurement."),
    }
    fields: list[dict[str, Any]] = [
        {
            "@type": "cr:Field",
            "@id": f"members/{name}",
            "name": name,
            "description": text,
            "dataType": data_type,
            **({"isArray": True, "arrayShape": "-1"} if name in ("bands", "shape") else {}),
        }
        for name, (data_type, text) in described.items()
    ]
    rows = [
        {
            "name": member.name,
            "sensor": member.sensor,
            "bands": list(member.bands),
            "file_name": f"{{key}}.{{look}}.{member.name}.{codec.extension}",
            "encoding": _ENCODINGS[codec.extension],
            "dtype": member.dtype,
            "shape": list(member.shape(notes["size_px"])),
            "resolution_m": facts.resolution_m(member),
            "units": member.units,
            "scale": member.scale,
            "offset": member.offset,
            "nodata": member.nodata,
        }
        for member in facts.members
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "members",
        "name": "members",
        "description": "The files of a look.",
        "key": {"@id": "members/name"},
        "field": fields,
        "data": [{f"members/{name}": value for name, value in row.items()} for row in rows],
    }


def _splits(facts: Facts) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"},
        ],
        "data": [{"splits/name": split, "splits/url": _SPLIT_URLS[split]} for split in facts.splits],
    }


def _classes(names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "description": "Land classes of the member label and of samples/labels.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/id"},
        "field": [
            {"@type": "cr:Field", "@id": "classes/id", "name": "id", "dataType": "sc:Integer"},
            {"@type": "cr:Field", "@id": "classes/name", "name": "name", "dataType": "sc:Text"},
        ],
        "data": [
            {"classes/id": int(number), "classes/name": name}
            for number, name in sorted(names.items(), key=lambda item: int(item[0]))
        ],
    }
