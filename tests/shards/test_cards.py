"""The cards: a STAC Collection, Croissant with GeoCroissant, and the licence text, read by those who defined them."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.bands import MEMBERS, Member
from geossl_data.errors import ShardError, StorageError
from geossl_data.grid import to_lonlat
from geossl_data.shards.cards import collection, croissant, facts, licence_text, table_of, write_cards
from geossl_data.shards.cards.croissant import MOST_FILE_OBJECTS, MOST_STRATA
from geossl_data.shards.cards.table import Column, Table
from geossl_data.shards.codec import CODECS
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Entry, member_note
from geossl_data.shards.stac_table import write_manifest

START = datetime(2021, 3, 4, 10, 20, 30, tzinfo=UTC)
SIZE_PX = 12
S2_ID = "S2{}_MSIL2A_20210304T102030_R065_T32TMS_{}"
S1_ID = "S1A_IW_GRDH_1SDV_20210304T052030_20210304T052055_036{:03d}_044D5E{}"
TABLE = Table(nbytes=1234, sha256="ab" * 32, columns=(Column("id", "sc:Text", 0), Column("geossl:split", "sc:Text", 0)))


def make_entry(number: int = 0, **change: Any) -> Entry:
    """Sample `number` with two looks 100 days apart and every field filled; 1020 m from the next."""
    x, y = 500_000.0 + 1020.0 * number, 5_000_040.0
    lon, lat = to_lonlat(32632, x + SIZE_PX * 5, y - SIZE_PX * 5)
    names = ("s2_10m", "s1", "label")
    values: dict[str, Any] = {
        "key": f"place-{number:03d}",
        "split": "train",
        "block": f"block-{number}",
        "shard": "train-000000.tar",
        "offset": 8192 * number,
        "nbytes": 8192,
        "lon": float(lon),
        "lat": float(lat),
        "epsg": 32632,
        "x": x,
        "y": y,
        "size_px": SIZE_PX,
        "cell": f"0500U_{number:04d}R",
        "stratum": "temperate",
        "weight": 1.0,
        "inclusion_probability": 0.1,
        "n_looks": 2,
        "members": (names, names),
        "acquired": (START, START + timedelta(days=100)),
        "gap_hours": (-5.0, 2.5),
        "s2_ids": (S2_ID.format("A", number), S2_ID.format("B", number)),
        "s1_ids": (S1_ID.format(number, "_rtc"), S1_ID.format(number, "_rtc")),
        "member_nbytes": (100,) * 7,
        "member_crc32": (7,) * 7,
        "labels": (3, 0),
        "cloud_fraction": (None, 0.25),
        "s2_valid_fraction": (1.0, 0.75),
        "s1_valid_fraction": (1.0, 1.0),
        "drawn_by": "stratified",
        "change_score": 0.5,
    }
    return Entry(**(values | change))


def at(lon: float, lat: float, number: int = 0) -> Entry:
    """A sample around a point, on the grid of the UTM zone that `lon` lies in."""
    from geossl_data.grid import from_lonlat, utm_epsg

    epsg = utm_epsg(lon, lat)
    x, y = from_lonlat(epsg, lon, lat)
    return make_entry(number, lon=lon, lat=lat, epsg=epsg, x=float(x) - SIZE_PX * 5, y=float(y) + SIZE_PX * 5)


UNLOCATED = {"lon": None, "lat": None, "epsg": None, "x": None, "y": None, "cell": ""}
NO_IDS = {"s2_ids": ("", ""), "s1_ids": ("", ""), "gap_hours": (None, None)}


def make_notes(names: Sequence[str] = ("s2_10m", "s1", "label"), **change: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "codec": "blosc",
        "size_px": SIZE_PX,
        "pixel_m": 10.0,
        "fingerprint": "0123456789abcdef",
        "members": [member_note(MEMBERS[name]) for name in names],
        "statistics": {"B02": {"mean": 1000.0, "std": 10.0, "count": 5}},
        "label_names": {"10": "crops", "2": "water"},
        "shards": {"train-000000.tar": {"nbytes": 10_240, "sha256": "cd" * 32, "n_samples": 3}},
        "n_skipped": 4,
        "buffer_km": 5.0,
        "years": [2021, 2020],
    }
    return values | change


def own_notes(**change: Any) -> dict[str, Any]:
    """Notes of a dataset of other people's rasters."""
    member = Member("camera", "camera", ("red", "thermal"), 1, "float32", "")
    return make_notes(members=[member_note(member)], label_names={}, years=[], pixel_m=None) | change


def own_entry(number: int = 0, **change: Any) -> Entry:
    return make_entry(number, **(UNLOCATED | NO_IDS | {"stratum": "", "drawn_by": None} | change))


def valid_core(card: dict[str, Any]) -> None:
    """Check a card against the STAC 1.1 schemas that come with pystac; no network."""
    pytest.importorskip("jsonschema", reason="jsonschema of the dev extra is not installed")
    from pystac.validation import validate_dict

    assert validate_dict(card | {"stac_extensions": []}) == [
        f"https://schemas.stacspec.org/v1.1.0/{card['type'].lower()}-spec/json-schema/{card['type'].lower()}.json"
    ]


def test_the_collection_is_valid_and_points_to_its_files() -> None:
    card = collection([make_entry(n) for n in range(3)], make_notes(), table=TABLE)
    valid_core(card)
    read = pystac.Collection.from_dict(card)
    assert (read.id, read.license, read.title) == ("geossl", "other", "Sentinel-1 and Sentinel-2 looks at 3 places")
    assert read.extent.temporal.intervals == [[START - timedelta(hours=5), START + timedelta(days=100, hours=2.5)]]
    manifest = read.assets["manifest"]
    assert (manifest.href, manifest.media_type) == ("./manifest.parquet", "application/vnd.apache.parquet")
    assert manifest.roles == ["collection-mirror", "stac-items"]
    assert manifest.extra_fields == {"file:size": 1234, "file:checksum": "1220" + "ab" * 32}
    assert {link.rel: link.href for link in read.links if link.rel != "self"} == {
        "root": "./collection.json",
        "license": "./LICENSE.txt",
        "items": "./manifest.parquet",
    }
    assert read.assets["croissant"].href == "./croissant.json"


def test_summaries_say_what_the_pixels_are_of() -> None:
    card = collection([make_entry(0), at(20.0, 50.0, 1)], make_notes(("s2_10m", "s2_20m", "scl", "s1")))
    summaries = card["summaries"]
    assert summaries["platform"] == ["sentinel-1a", "sentinel-2a", "sentinel-2b"]
    assert summaries["constellation"] == ["sentinel-1", "sentinel-2"]
    assert summaries["instruments"] == ["c-sar", "msi"]
    assert summaries["gsd"] == [10.0, 20.0]
    assert summaries["proj:code"] == ["EPSG:32632", "EPSG:32634"]
    assert summaries["sar:polarizations"] == ["VV", "VH"]
    assert summaries["geossl:members"] == ["s2_10m", "s2_20m", "scl", "s1"]
    assert [band["name"] for band in summaries["bands"][:4]] == ["B02", "B03", "B04", "B08"]
    bands = {band["name"]: band for band in card["item_assets"]["data"]["bands"]}
    assert (bands["B11"]["eo:center_wavelength"], bands["B11"]["eo:common_name"]) == (1.61, "swir16")
    assert (bands["VV"]["raster:scale"], bands["VV"]["raster:offset"], bands["VV"]["nodata"]) == (0.01, -100.0, 0)
    assert "eo:common_name" not in bands["SCL"]
    assert [provider["name"] for provider in card["providers"]] == [
        "European Union, ESA, Copernicus",
        "Microsoft Planetary Computer",
    ]


def test_only_extensions_whose_fields_are_there_are_named() -> None:
    full = collection([make_entry()], make_notes(), table=TABLE)["stac_extensions"]
    assert [name.split("/")[3] for name in full] == ["eo", "file", "projection", "raster", "sar"]
    optical = [make_entry(s1_ids=("", ""), gap_hours=(None, None))]
    assert [name.split("/")[3] for name in collection(optical, make_notes(("s2_10m",)))["stac_extensions"]] == [
        "eo",
        "projection",
    ]


def test_the_extent_holds_every_corner_of_every_place() -> None:
    entries = [at(8.0, 45.0), at(9.5, 47.25, 1)]
    west, south, east, north = collection(entries, make_notes())["extent"]["spatial"]["bbox"][0]
    half = 60 / 111_320
    assert south == pytest.approx(45.0 - half, abs=1e-4)
    assert north == pytest.approx(47.25 + half, abs=1e-4)
    assert west < 8.0 - 0.9 * half / np.cos(np.radians(45))
    assert east > 9.5 + 0.9 * half / np.cos(np.radians(47.25))
    assert max(abs(west - 8.0), abs(east - 9.5)) < 2e-3


def test_a_box_across_the_antimeridian_has_west_beyond_east() -> None:
    entries = [at(179.9, -17.0), at(-179.5, -18.0, 1)]
    card = collection(entries, make_notes())
    valid_core(card)
    west, _, east, _ = card["extent"]["spatial"]["bbox"][0]
    assert (west, east) == (pytest.approx(179.9, abs=2e-3), pytest.approx(-179.5, abs=2e-3))
    boxes = [place["geo"]["box"].split() for place in croissant(entries, make_notes(), table=TABLE)["spatialCoverage"]]
    assert [(float(box[1]), float(box[3])) for box in boxes] == [(west, 180.0), (-180.0, east)]


def test_a_place_on_the_antimeridian_crosses_it_alone() -> None:
    west, _, east, _ = collection([at(179.9999, 10.0)], make_notes())["extent"]["spatial"]["bbox"][0]
    assert west > 179.99
    assert east < -179.99


@pytest.mark.parametrize(
    ("arcs", "expected"),
    [
        ([(5.0, 6.0)], (5.0, 6.0)),
        ([(5.0, 6.0), (-3.0, -2.0)], (-3.0, 6.0)),
        ([(170.0, 171.0), (-171.0, -170.0)], (170.0, -170.0)),
        ([(179.0, 181.0)], (179.0, -179.0)),
        ([(-181.0, -179.0)], (179.0, -179.0)),
        # What runs over the antimeridian covers the ground in which the next gap would start.
        ([(-179.0, -178.9), (179.5, 189.5), (-100.0, -99.0)], (179.5, -99.0)),
        # More than half a turn either way: the plain box.
        ([(-170.0, -169.0), (-80.0, -79.0), (60.0, 61.0), (178.0, 179.0)], (-170.0, 179.0)),
        ([(lon, lon + 1.0) for lon in range(-180, 180)], (-180.0, 180.0)),
        ([(-60.0, -59.0), (60.0, 61.0), (179.5, 180.5)], (-180.0, 180.0)),
    ],
)
def test_arcs_by_hand(arcs: list[tuple[float, float]], expected: tuple[float, float]) -> None:
    west, east = (np.array(ends) for ends in zip(*arcs, strict=True))
    assert facts.shortest_arc(west, east) == pytest.approx(expected)


@settings(max_examples=200, deadline=None)
@given(
    arcs=st.lists(st.tuples(st.floats(-180, 180), st.floats(0, 5)), min_size=1, max_size=8),
    turn=st.sampled_from([-360.0, 0.0, 360.0]),
)
def test_an_arc_holds_all_arcs_however_they_are_counted(arcs: list[tuple[float, float]], turn: float) -> None:
    west = np.array([start for start, _ in arcs])
    east = west + np.array([length for _, length in arcs])
    left, right = facts.shortest_arc(west + turn, east + turn)
    assert -180 <= left <= 180
    assert -180 <= right <= 180
    if (left, right) == (-180.0, 180.0):
        return
    # Seen from its west end, every arc starts within the result and ends within it.
    length = right - left if right >= left else right - left + 360
    for start, end in zip(west, east, strict=True):
        into = (start - left + 1e-9) % 360 - 1e-9
        assert into + (end - start) <= length + 1e-6


def test_where_nothing_is_located_it_is_a_catalog_and_claims_no_ground() -> None:
    card = collection([own_entry(n) for n in range(2)], own_notes(), table=TABLE)
    valid_core(card)
    assert card["type"] == "Catalog"
    assert "extent" not in card
    assert not {"gsd", "proj:code", "platform", "constellation"} & set(card["summaries"])
    assert (card["providers"], card["title"]) == ([], "looks at 2 places")
    assert pystac.Catalog.from_dict(card).id == "geossl"
    geo = croissant([own_entry()], own_notes(), table=TABLE)
    assert geo["conformsTo"] == ["http://mlcommons.org/croissant/1.1"]
    assert not [name for name in json.dumps(geo).split('"') if name.startswith("geocr:")]
    assert "spatialCoverage" not in geo


def test_the_extent_is_that_of_the_located_places() -> None:
    card = collection([at(8.0, 45.0), make_entry(1, **UNLOCATED)], make_notes())
    assert card["extent"]["spatial"]["bbox"][0][0] == pytest.approx(8.0, abs=2e-3)
    assert "Of 1 place it is not known where on the Earth." in card["description"]


def test_a_place_of_unknown_size_is_its_centre() -> None:
    card = collection([at(8.0, 45.0)], make_notes(pixel_m=None))
    assert card["extent"]["spatial"]["bbox"] == [[8.0, 45.0, 8.0, 45.0]]
    assert "gsd" not in card["summaries"]


def test_without_a_sample_there_is_nothing_to_describe() -> None:
    with pytest.raises(ShardError, match="nothing to describe"):
        collection([], make_notes())


# Croissant


def test_geocroissant_says_what_the_sampler_knows() -> None:
    entries = [
        make_entry(0, weight=0.5),
        make_entry(1, weight=0.5, drawn_by="random"),
        make_entry(2, weight=0.5),
        make_entry(3, weight=2.5, stratum="arid", split="val", shard="val-000000.tar"),
    ]
    card = croissant(entries, make_notes(), table=TABLE)
    assert card["conformsTo"] == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/geo/1.0"]
    assert card["geocr:coordinateReferenceSystem"] == "EPSG:32632"
    assert card["geocr:spatialResolution"] == {"@type": "QuantitativeValue", "value": 10.0, "unitText": "m"}
    resolution = card["geocr:temporalResolution"]
    assert (resolution["value"], resolution["minValue"], resolution["unitText"]) == (100.0, 100.0, "day")
    assert card["geocr:bandConfiguration"] == {
        "@type": "geocr:BandConfiguration",
        "geocr:totalBands": 7,
        "geocr:bandNameList": ["B02", "B03", "B04", "B08", "VV", "VH", "class"],
    }
    wavelengths = {band["name"]: band["geocr:centerWavelength"]["value"] for band in card["geocr:spectralBandMetadata"]}
    assert wavelengths == {"B02": 490, "B03": 560, "B04": 665, "B08": 842}
    assert card["geocr:samplingStrategy"] == (
        "4 squares of 12 x 12 px of 10 m; drawn by random (1), stratified (3); 2 looks each; Sentinel-1 -5.0 h to "
        "+2.5 h from Sentinel-2. Splits are whole spatial blocks, at least 5 km apart: train 3, val 1. 4 more were "
        "given up; skipped.parquet says why."
    )
    assert "temperate 75.0 % (37.5 %), arid 25.0 % (62.5 %)." in card["geocr:spatialBias"]
    assert "between 45.2 N and 45.2 N, in 4 cells of 10 km" in card["geocr:spatialBias"]


def test_of_many_strata_the_most_frequent_are_named() -> None:
    count = MOST_STRATA + 3
    entries = [make_entry(n, stratum=f"kind-{n:02d}") for n in range(count)] + [make_entry(count, stratum="kind-22")]
    bias = croissant(entries, make_notes(), table=TABLE)["geocr:spatialBias"]
    assert "give it: kind-22 8.3 % (8.3 %), kind-00 4.2 %" in bias
    assert bias.count("kind-") == MOST_STRATA
    assert "and 3 more." in bias


def test_places_in_several_zones_have_the_crs_of_their_coordinates() -> None:
    card = croissant([at(8.0, 45.0), at(20.0, 50.0, 1)], make_notes(), table=TABLE)
    assert card["geocr:coordinateReferenceSystem"] == "EPSG:4326"


def test_dates_versions_and_citation_come_from_the_content() -> None:
    card = croissant([make_entry()], make_notes(), table=TABLE)
    assert (card["datePublished"], card["version"]) == ("2021-06-12", "1.0.0+0123456789abcdef")
    assert card["temporalCoverage"] == "2021-03-04T05:20:30Z/2021-06-12T12:50:30Z"
    assert card["citeAs"].startswith("@misc{geossl_0123456789abcdef, title = {Sentinel-1 and Sentinel-2 looks at 1 pl")
    assert "note = {Contains modified Copernicus Sentinel data [2020, 2021].}" in card["citeAs"]
    assert card["license"][0] == "./LICENSE.txt"
    assert "Copernicus" not in json.dumps(croissant([own_entry()], own_notes(), table=TABLE))


def test_few_shards_are_files_and_many_are_a_pattern() -> None:
    def files(count: int, **change: Any) -> list[dict[str, Any]]:
        shards = {f"train-{n:06d}.tar": {"nbytes": 1024, "sha256": "ee" * 32, "n_samples": 1} for n in range(count)}
        return croissant([make_entry()], make_notes(shards=shards, **change), table=TABLE)["distribution"]

    few = [file for file in files(MOST_FILE_OBJECTS) if file["@type"] == "cr:FileObject"]
    assert len(few) == 1 + MOST_FILE_OBJECTS
    assert (few[1]["contentUrl"], few[1]["contentSize"]) == ("shards/train-000000.tar", "1024 B")
    many = files(MOST_FILE_OBJECTS + 1)
    assert [file["@id"] for file in many] == ["manifest.parquet", "shards"]
    assert many[1]["includes"] == "shards/*.tar"
    away = files(1, location="s3://bucket/prefix/")
    assert away[1]["contentUrl"] == "s3://bucket/prefix/shards/train-000000.tar"
    assert away[0]["contentUrl"] == "manifest.parquet"


def test_members_are_described_so_that_bytes_become_numbers() -> None:
    def members(codec: str) -> dict[str, dict[str, Any]]:
        card = croissant([make_entry()], make_notes(codec=codec), table=TABLE)
        (records,) = (records for records in card["recordSet"] if records["@id"] == "members")
        rows = [{name.removeprefix("members/"): value for name, value in row.items()} for row in records["data"]]
        return {row.pop("name"): row for row in rows}

    blosc = members("blosc")
    assert blosc["s1"] == {
        "sensor": "s1",
        "bands": ["VV", "VH"],
        "file_name": "{key}.{look}.s1.blosc",
        "encoding": "one Blosc chunk: imagecodecs.blosc_decode or numcodecs.Blosc().decode, then numpy.frombuffer, "
        "reshape",
        "dtype": "uint16",
        "shape": [2, 12, 12],
        "resolution_m": 10.0,
        "units": "gamma naught in dB",
        "scale": 0.01,
        "offset": -100.0,
        "nodata": 0,
    }
    assert blosc["label"]["shape"] == [12, 12]
    assert members("npy")["s2_10m"]["encoding"] == "NumPy .npy file"
    assert members("archive")["s2_10m"]["file_name"] == "{key}.{look}.s2_10m.blosc"


# Secrets


def test_no_secret_of_a_name_reaches_a_card() -> None:
    secret = "https://user:hunter2@host.example/x.tif?sig=topsecret&se=2024"
    entries = [make_entry(0, stratum=f"near {secret}", drawn_by=f"mine {secret}")]
    members = [*make_notes()["members"][:2], member_note(replace(MEMBERS["label"], units=secret, bands=(secret,)))]
    notes = make_notes(members=members, label_names={"1": f"water {secret}"})
    for card in (collection(entries, notes), croissant(entries, notes, table=TABLE)):
        text = json.dumps(card)
        assert "host.example" in text
        assert "topsecret" not in text
        assert "hunter2" not in text


@pytest.mark.parametrize(
    "location",
    [
        "https://host.example/data?sig=topsecret",
        "s3://hunter2:topsecret@bucket/data",
        "s3://topsecret@bucket/data",
        "https://host.example/data#topsecret",
    ],
)
def test_a_location_with_a_secret_is_refused(location: str) -> None:
    with pytest.raises(ShardError, match="give the plain URL") as caught:
        croissant([make_entry()], make_notes(location=location), table=TABLE)
    assert "topsecret" not in str(caught.value)
    assert "\n" not in str(caught.value)


# The licence


def test_the_notice_names_every_year_once_in_order() -> None:
    text = licence_text([2022, 2020, 2022])
    assert text.startswith("Contains modified Copernicus Sentinel data [2020, 2022].\n")
    assert "Copernicus Sentinel-1 and Sentinel-2 data" in text
    assert licence_text([2022], sentinels=["s2"]).count("Sentinel-1") == 0


def test_the_terms_of_terrain_corrected_scenes_stand_where_they_may_be_meant() -> None:
    assert "come from radiometrically terrain corrected" in licence_text([2022], rtc=True)
    assert "Radiometrically terrain corrected Sentinel-1 scenes of the Planetary Computer are" in licence_text([2022])
    assert "CC BY" not in licence_text([2022], rtc=False)
    assert "CC BY" not in licence_text([2022], sentinels=["s2"], rtc=True)
    assert "class maps" in licence_text([2022], label=True)
    assert "class maps" not in licence_text([2022])


def test_own_pixels_get_no_claim() -> None:
    text = licence_text([], sentinels=())
    assert "Copernicus" not in text
    assert "Write those terms here" in text


@pytest.mark.parametrize("years", [[], [2022, None], [22], "2022", None, [2022.5]])
def test_years_have_to_be_years(years: Any) -> None:
    with pytest.raises(ShardError, match="the Copernicus notice needs them"):
        licence_text(years)


@pytest.mark.parametrize(
    ("endings", "expected"),
    [(("_rtc", "_rtc"), True), (("", "_rtc"), True), (("", ""), False)],
)
def test_ids_tell_terrain_corrected_scenes(endings: tuple[str, str], expected: bool) -> None:
    entry = make_entry(s1_ids=tuple(S1_ID.format(0, ending) for ending in endings))
    assert facts.facts_of([entry], make_notes()).rtc is expected


def test_further_scenes_of_a_mosaic_count() -> None:
    plain = make_entry(s1_ids=(S1_ID.format(0, ""),) * 2)
    entry = replace(plain, s1_more=((), (S1_ID.format(1, "_rtc"),)), s2_more=((), (S2_ID.format("C", 0),)))
    found = facts.facts_of([entry], make_notes())
    assert (found.rtc, found.platforms) == (True, ("sentinel-1a", "sentinel-2a", "sentinel-2b", "sentinel-2c"))
    assert facts.facts_of([replace(plain, s1_ids=("a", "b"))], make_notes()).rtc is None


def test_whose_pixels_they_are() -> None:
    def sentinels(entry: Entry, notes: dict[str, Any]) -> tuple[str, ...]:
        return facts.facts_of([entry], notes).sentinels

    foreign = {"s2_ids": ("L2A-1", "L2A-2"), "s1_ids": ("a", "b")}
    assert sentinels(make_entry(), make_notes()) == ("s1", "s2")
    # A catalog may call its scenes what it wants; other rasters are Sentinel's only where their ids say so.
    assert sentinels(make_entry(**foreign), make_notes()) == ("s1", "s2")
    assert sentinels(own_entry(**foreign), own_notes()) == ()
    assert sentinels(own_entry(s2_ids=(S2_ID.format("A", 0), "")), own_notes()) == ("s2",)
    assert sentinels(own_entry(), own_notes()) == ()


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(6)))
def test_the_order_of_entries_does_not_matter(order: list[int]) -> None:
    entries = [make_entry(n, weight=0.1 * (n + 1), stratum=f"kind-{n % 3}") for n in range(6)]
    shuffled = [entries[n] for n in order]
    assert collection(shuffled, make_notes()) == collection(entries, make_notes())
    assert croissant(shuffled, make_notes(), table=TABLE) == croissant(entries, make_notes(), table=TABLE)


# Files


MakeDataset = Callable[..., Path]


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """A function that writes a folder with two small shards, their manifest and the cards."""

    def make(name: str = "data", codec: str = "blosc") -> Path:
        folder = tmp_path / name
        (folder / SHARDS_FOLDER).mkdir(parents=True)
        entries = [make_entry(n) for n in range(3)]
        entries.append(make_entry(3, split="val", shard="val-000000.tar", offset=0, cloud_fraction=(None, None)))
        shards = {}
        for shard in ("train-000000.tar", "val-000000.tar"):
            here = [entry for entry in entries if entry.shard == shard]
            data = tar_of(here, codec)
            (folder / SHARDS_FOLDER / shard).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            shards[shard] = {"nbytes": len(data), "sha256": digest, "n_samples": len(here)}
        notes = make_notes(codec=codec, shards=shards)
        write_manifest(folder / MANIFEST_NAME, entries, notes)
        write_cards(folder, entries, notes)
        return folder

    return make


def pixels(entry: Entry, look: int, member: str) -> np.ndarray:
    shape = MEMBERS[member].shape(SIZE_PX)
    start = 1000 * int(entry.key[-3:]) + 100 * look
    numbers: np.ndarray = (start + np.arange(np.prod(shape)).reshape(shape)).astype(MEMBERS[member].dtype)
    return numbers


def tar_of(entries: Sequence[Entry], codec: str) -> bytes:
    """A shard as `webdataset` names its members; where they lie does not matter here."""
    coder, buffer = CODECS[codec], io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in entries:
            files = [(f"{entry.key}.json", b"{}")]
            for look, names in enumerate(entry.members):
                files += [
                    (f"{entry.key}.{look}.{name}.{coder.extension}", coder.encode(pixels(entry, look, name)))
                    for name in names
                ]
            for name, data in files:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_the_same_dataset_in_another_folder_has_the_same_cards(make_dataset: MakeDataset) -> None:
    one, other = make_dataset("one"), make_dataset("other")
    for name in ("collection.json", "croissant.json", "LICENSE.txt"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
        assert str(one).encode() not in (one / name).read_bytes()
    text = (one / "LICENSE.txt").read_text()
    assert text.startswith("Contains modified Copernicus Sentinel data [2020, 2021].")
    assert "come from radiometrically terrain corrected" in text
    assert "member label" in text
    assert sorted(path.name for path in one.iterdir()) == [
        "LICENSE.txt",
        "collection.json",
        "croissant.json",
        "manifest.parquet",
        "shards",
    ]


def test_nothing_is_written_where_years_are_missing(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    before = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    with pytest.raises(ShardError, match="years of the scenes"):
        write_cards(folder, [make_entry(n) for n in range(2)], make_notes(years=[]))
    assert {path.name: path.read_bytes() for path in folder.glob("*.*")} == before


def test_a_full_disk_is_one_line_and_leaves_the_old_card(
    make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_dataset()
    before = (folder / "LICENSE.txt").read_bytes()

    def full(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match="no space left"):
        write_cards(folder, [make_entry()], make_notes(years=[2024]))
    assert (folder / "LICENSE.txt").read_bytes() == before
    assert not list(folder.glob(".*tmp"))


def test_pystac_reads_the_collection_and_the_items_of_its_manifest(make_dataset: MakeDataset) -> None:
    from geossl_data.scenes.items import read_items

    folder = make_dataset()
    read = pystac.Collection.from_file(str(folder / "collection.json"))
    valid_core(json.loads((folder / "collection.json").read_text()))
    mirror = read.assets["manifest"]
    href = mirror.get_absolute_href()
    assert href == str(folder / MANIFEST_NAME)
    assert mirror.extra_fields["file:checksum"] == f"1220{hashlib.sha256(Path(href).read_bytes()).hexdigest()}"
    west, south, east, north = read.extent.spatial.bboxes[0]
    items = [pystac.Item.from_dict(item) for item in read_items(Path(href))]
    assert len(items) == 4
    for item in items:
        assert item.collection_id == read.id
        assert item.bbox is not None
        assert west <= item.bbox[0] <= item.bbox[2] <= east
        assert south <= item.bbox[1] <= item.bbox[3] <= north


def test_a_dataset_that_lies_nowhere_has_cards_too(tmp_path: Path) -> None:
    entries = [own_entry(n) for n in range(2)]
    pq.write_table(pa.table({"id": [entry.key for entry in entries]}), tmp_path / MANIFEST_NAME)
    write_cards(tmp_path, entries, own_notes())
    assert isinstance(pystac.Catalog.from_file(str(tmp_path / "collection.json")), pystac.Catalog)
    assert "Copernicus" not in "".join(path.read_text() for path in tmp_path.glob("*.*") if path.suffix != ".parquet")


def test_the_samples_have_a_field_for_each_column(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    card = json.loads((folder / "croissant.json").read_text())
    fields = {field["name"]: field for field in card["recordSet"][0]["field"]}
    columns = {column.name for column in table_of(folder / MANIFEST_NAME).columns if column.name.startswith("geossl:")}
    assert columns <= {field["source"]["extract"]["column"] for field in fields.values()}
    assert (fields["key"]["source"]["extract"]["column"], fields["key"]["dataType"]) == ("id", "sc:Text")
    assert (fields["member_nbytes"]["dataType"], fields["member_nbytes"]["arrayShape"]) == ("sc:Integer", "-1")
    assert fields["members"]["arrayShape"] == "-1,-1"
    assert fields["lon"]["dataType"] == "sc:Float"
    assert fields["start_datetime"]["dataType"] == "sc:DateTime"
    assert "change_score" in fields


# mlcroissant, which the dev extra has

with_mlcroissant = pytest.mark.filterwarnings(
    "ignore:ConjunctiveGraph is deprecated:DeprecationWarning",  # mlcroissant 1.1 with rdflib 7.6, inside rdflib
    "ignore:The inplace keyword in DataFrame.reset_index",  # and with pandas 3.1, inside mlcroissant
)


@pytest.fixture
def mlcroissant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The library, with its caches in the test's own folder and no way out."""
    library = pytest.importorskip("mlcroissant", reason="mlcroissant of the dev extra is not installed")
    from mlcroissant._src.core import constants

    for name in ("DOWNLOAD_PATH", "EXTRACT_PATH"):
        monkeypatch.setattr(constants, name, type(constants.CROISSANT_CACHE)(tmp_path / "cache" / name))
    monkeypatch.setattr("requests.get", lambda *_, **__: pytest.fail("it asked the network"))
    return library


def issues(dataset: Any) -> list[str]:
    found = dataset.metadata.ctx.issues
    return [*found.errors, *found.warnings]


@with_mlcroissant
def test_mlcroissant_finds_nothing_wrong_and_reads_the_samples(
    mlcroissant: Any, make_dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_dataset()
    caplog.clear()
    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
    assert issues(dataset) == []
    assert caplog.text == ""
    assert dataset.metadata.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.1"
    records = {record["samples/key"]: record for record in dataset.records("samples")}
    assert sorted(records) == [b"place-000", b"place-001", b"place-002", b"place-003"]
    second = records[b"place-001"]
    entry = make_entry(1)
    assert second["samples/split"] == b"train"
    assert second["samples/lon"] == pytest.approx(entry.lon)
    assert second["samples/offset"] == entry.offset
    assert list(second["samples/member_nbytes"]) == list(entry.member_nbytes)
    assert [list(names) for names in second["samples/members"]] == [[b"s2_10m", b"s1", b"label"]] * 2
    assert second["samples/start_datetime"].to_pydatetime() == START
    assert [record["splits/name"] for record in dataset.records("splits")] == ["train", "val"]
    (s1,) = (record for record in dataset.records("members") if record["members/name"] == "s1")
    assert (s1["members/bands"], s1["members/shape"], s1["members/scale"]) == (["VV", "VH"], [2, 12, 12], 0.01)
    assert [record["classes/name"] for record in dataset.records("classes")] == ["water", "crops"]


@with_mlcroissant
def test_mlcroissant_notices_a_manifest_that_is_not_the_one_described(
    mlcroissant: Any, make_dataset: MakeDataset
) -> None:
    folder = make_dataset()
    write_manifest(folder / MANIFEST_NAME, [make_entry(0)], make_notes())
    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
    with pytest.raises(mlcroissant.GenerationError) as caught:
        list(dataset.records("samples"))
    assert "not identical with the reference" in str(caught.value.__cause__)


@with_mlcroissant
@pytest.mark.parametrize("count", [1, MOST_FILE_OBJECTS, MOST_FILE_OBJECTS + 1])
def test_mlcroissant_takes_cards_of_any_number_of_shards(mlcroissant: Any, count: int) -> None:
    shards = {f"train-{n:06d}.tar": {"nbytes": 1024, "sha256": "ee" * 32, "n_samples": 1} for n in range(count)}
    card = croissant([make_entry()], make_notes(shards=shards), table=TABLE)
    assert issues(mlcroissant.Dataset(json.loads(json.dumps(card)))) == []


@with_mlcroissant
def test_mlcroissant_takes_cards_of_other_rasters(mlcroissant: Any) -> None:
    card = croissant([own_entry()], own_notes(), table=TABLE)
    assert issues(mlcroissant.Dataset(json.loads(json.dumps(card)))) == []


@with_mlcroissant
def test_every_geocroissant_term_lies_in_its_namespace(mlcroissant: Any) -> None:
    from mlcroissant._src.core.json_ld import expand_jsonld

    card = croissant([make_entry()], make_notes(), table=TABLE)
    context = mlcroissant._src.core.context.Context(conforms_to=card["conformsTo"])
    expanded = expand_jsonld(json.loads(json.dumps(card)), ctx=context)
    terms = {name.rpartition("/")[2] for name in expanded if name.startswith("http://mlcommons.org/croissant/geo/")}
    assert terms == {
        "coordinateReferenceSystem",
        "spatialResolution",
        "temporalResolution",
        "bandConfiguration",
        "spectralBandMetadata",
        "samplingStrategy",
        "spatialBias",
    }
