"""Tables that have been damaged, or that somebody else wrote: Parquet of ours, and CSV of a user's own."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from fuzz.mutations import changed, fuzzed, json_bytes, spoilt, told, twisted
from hypothesis import given
from hypothesis import strategies as st
from shards.conftest import make_sample

from geossl_data.errors import DatasetError
from geossl_data.pipeline._drawing import read_quota
from geossl_data.records import Pair, Sample, Skipped
from geossl_data.sampling.layers.numbers import values_of
from geossl_data.sampling.layers.vectors import names_from_file
from geossl_data.sampling.positions import read_columns
from geossl_data.scenes.area import area_of, area_of_places
from geossl_data.scenes.area_index import AreaIndex
from geossl_data.shards.writing.own.table import read_rows
from geossl_data.tables import METADATA_KEY, open_parquet, read_metadata, read_table, write_table

TIME = datetime(2023, 6, 1, 10, tzinfo=UTC)
PAIR = Pair(
    s2_id="a", s1_id="b", s2_acquired=TIME, s1_acquired=TIME, gap_hours=0.0, overlap=0.5, rank=0, n_candidates=1
)
KINDS: dict[str, tuple[type, list[Any]]] = {
    "pairs": (Pair, [PAIR] * 3),
    "samples": (Sample, [make_sample(number) for number in range(3)]),
    "skipped": (Skipped, [Skipped(stage="shard", id="x", reason="y", detail="z")]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def written(folder: Path) -> dict[str, bytes]:
    """The bytes of a table of each kind."""
    for name, (kind, records) in KINDS.items():
        write_table(folder / f"{name}.parquet", records, kind, metadata={"fingerprint": "f"})
    return {name: (folder / f"{name}.parquet").read_bytes() for name in KINDS}


@pytest.mark.parametrize("name", KINDS)
@fuzzed(5)
@given(data=st.data())
def test_a_damaged_table_gives_its_records_or_one_line(
    folder: Path, written: dict[str, bytes], name: str, data: st.DataObject
) -> None:
    path = folder / "damaged.parquet"
    path.write_bytes(data.draw(spoilt(written[name])))
    kind, _ = KINDS[name]
    records = told(lambda: read_table(path, kind))
    assert records is None or all(isinstance(record, kind) for record in records)
    notes = told(lambda: read_metadata(path))
    assert notes is None or isinstance(notes, dict)


@pytest.mark.parametrize("name", KINDS)
@fuzzed(5)
@given(data=st.data())
def test_a_table_of_other_columns_gives_records_or_one_line(
    folder: Path, written: dict[str, bytes], name: str, data: st.DataObject
) -> None:
    path = folder / "changed.parquet"
    table = data.draw(changed(pq.read_table(pa.BufferReader(written[name]))))
    notes = data.draw(st.one_of(st.just(b"{}"), st.just(b"[" * 50_000), twisted({"a": {"b": 1}}).map(json_bytes)))
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: notes}), path)
    kind, _ = KINDS[name]
    records = told(lambda: read_table(path, kind))
    assert records is None or all(isinstance(record, kind) for record in records)
    found = told(lambda: read_metadata(path))
    assert found is None or isinstance(found, dict)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"\0" * 100, b"PAR1\xff\xff\xff\x7fPAR1"])
def test_what_is_no_table_is_one_line(folder: Path, content: bytes) -> None:
    path = folder / "none.parquet"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"none\.parquet: not a readable Parquet table: ."):
        open_parquet(path)


# ------------------------------------------------------------------------------------------------ a user's own

CSV = (
    b"place,sensor,path,time,label,split,lon,lat,bands,scale\n"
    b'a,s2,a/1.tif,2023-06-01T10:00:00Z,forest,train,8.1,47.2,"B04 B03",0.1\n'
    b"a,s1,a/2.tif,2023-06-01T10:00:00Z,forest,train,8.1,47.2,,\n"
    b"b,s2,b/1.tif,2023-06-02,2|3,test,8.2,47.3,,0.1\n"
)


@fuzzed(7)
@given(spoilt(CSV))
def test_a_table_of_rasters(folder: Path, content: bytes) -> None:
    (folder / "rasters.csv").write_bytes(content)
    rows = told(lambda: read_rows(folder / "rasters.csv", folder))
    assert rows is None or all(not row.path.startswith(("/", "..")) for row in rows)


@pytest.mark.parametrize("path", ["x" * 999, "a/" * 400, "\\", "a\tb", "~", "con/nul", "\u202e.tif", "é" * 300])
def test_paths_that_no_disk_has(folder: Path, path: str) -> None:
    content = f"place;sensor;path;time\na;s2;{path};2023-06-01\n"
    (folder / "rasters.csv").write_text(content, encoding="utf-8")
    rows = told(lambda: read_rows(folder / "rasters.csv", folder))
    assert rows is None or len(rows) == 1


@fuzzed(5)
@given(spoilt(b"stratum,count\nN45E000,10\nN30E015,20\n"))
def test_a_quota(folder: Path, content: bytes) -> None:
    (folder / "quota.csv").write_bytes(content)
    quota = told(lambda: read_quota(folder / "quota.csv"))
    assert quota is None or sum(quota.values()) > 0


@fuzzed(5)
@given(spoilt(b"lon,lat,weight\n8.1,47.2,1.5\n9.1,48.2,2\n10.5,50,0\n"), st.sampled_from(("csv", "tsv", "txt")))
def test_weights_of_ones_own(folder: Path, content: bytes, ending: str) -> None:
    path = folder / f"weights.{ending}"
    path.write_bytes(content)
    weights = told(lambda: values_of(f"{path}:weight", reach_km=50.0))
    if weights is not None:
        found = weights(np.array([8.1, 170.0]), np.array([47.2, -40.0]))
        assert found.shape == (2,)


@fuzzed(5)
@given(data=st.data())
def test_a_table_of_places(folder: Path, data: st.DataObject) -> None:
    path = folder / "places.parquet"
    table = pa.table({"lon": [8.1, 9.1], "lat": [47.2, 47.3], "size_px": [96, 96]})
    pq.write_table(data.draw(changed(table)), path)
    area = told(lambda: area_of_places(path))
    assert area is None or area.area > 0
    columns = told(lambda: read_columns(path))
    assert columns is None or isinstance(columns, dict)


# ------------------------------------------------------------------------------------------------ vector files

GEOJSON = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"name": "here", "weight": 2.5},
            "geometry": {"type": "Polygon", "coordinates": [[[8, 47], [9, 47], [9, 48], [8, 48], [8, 47]]]},
        },
        {
            "type": "Feature",
            "properties": {"name": "there", "weight": 1},
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [
                    [[[178, 1], [179, 1], [179, 2], [178, 1]]],
                    [[[-178, 1], [-179, 1], [-179, 2], [-178, 1]]],
                ],
            },
        },
    ],
}


def searched_in(path: Path) -> None:
    """An area is ground on the Earth that scenes can show, or told of in one line."""
    area = told(lambda: area_of(None, path))
    if area is not None:
        assert area.area > 0
        assert max(map(abs, area.bounds[1::2])) <= 90
        whole = shapely.box(-180, -90, 180, 90)
        assert AreaIndex(area).meets(whole) == (AreaIndex(area).seen_by(whole).area > 0)


@pytest.mark.filterwarnings("ignore")  # of the libraries, about what they are given
@fuzzed(5)
@given(st.one_of(twisted(GEOJSON).map(json_bytes), spoilt(json_bytes(GEOJSON))))
def test_an_area_from_a_file(folder: Path, content: bytes) -> None:
    (folder / "area.geojson").write_bytes(content)
    searched_in(folder / "area.geojson")


@pytest.mark.filterwarnings("ignore")
@fuzzed(5)
@given(st.one_of(twisted(GEOJSON).map(json_bytes), spoilt(json_bytes(GEOJSON))))
def test_a_layer_from_a_file(folder: Path, content: bytes) -> None:
    (folder / "layer.geojson").write_bytes(content)
    at = told(lambda: names_from_file(folder / "layer.geojson", "name"))
    if at is not None:
        assert at(np.array([8.5, 100.0]), np.array([47.5, 10.0])).shape == (2,)
    weights = told(lambda: values_of(f"{folder / 'layer.geojson'}:weight", reach_km=50.0))
    if weights is not None:
        assert weights(np.array([8.5, 100.0]), np.array([47.5, 10.0])).shape == (2,)


@pytest.fixture(scope="module")
def vector_files(folder: Path) -> dict[str, bytes]:
    """Ending → the features as a file of that kind."""
    frame = geopandas.GeoDataFrame.from_features(GEOJSON, crs=4326)
    written = {}
    for ending in ("gpkg", "fgb", "parquet", "shp.zip"):
        path = folder / f"whole.{ending}"
        frame.to_parquet(path) if ending == "parquet" else frame.to_file(path)
        written[ending] = path.read_bytes()
    return written


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["gpkg", "fgb", "parquet", "shp.zip"])
@fuzzed(5)
@given(data=st.data())
def test_a_damaged_vector_file(folder: Path, vector_files: dict[str, bytes], ending: str, data: st.DataObject) -> None:
    path = folder / f"spoilt.{ending}"
    path.write_bytes(data.draw(spoilt(vector_files[ending])))
    searched_in(path)
    at = told(lambda: names_from_file(path, "name"))
    assert at is None or at(np.array([8.5, 100.0]), np.array([47.5, 10.0])).shape == (2,)
