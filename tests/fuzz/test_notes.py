"""What we have written beside the data, after somebody or something else had it: JSON, numbers, caches."""

import gzip
import io
import json
import sqlite3
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz.mutations import fuzzed, json_bytes, nested, spoilt, spoilt_json, told, twisted
from hypothesis import given
from hypothesis import strategies as st
from shards.conftest import make_factory, make_plans, make_tile
from tiles.cogs.geotiffs import Bytes, write_tiff

from geossl_data.evaluation import bench
from geossl_data.evaluation.bootstrap import Estimate
from geossl_data.evaluation.features import _check, _read
from geossl_data.evaluation.scores import REPLICATES_NAME, SCORES_NAME, Scores, read_scores, score_of
from geossl_data.pipeline._evaluate import _statistics
from geossl_data.pretrain.metrics import _line
from geossl_data.scenes.journal import Journal
from geossl_data.scenes.providers import COLLECTIONS, FILE_PROVIDER, Provider
from geossl_data.scenes.scene import scene_from_item
from geossl_data.scenes.selection import Findings, skipped_row
from geossl_data.shards.writing import attempts, quarantine
from geossl_data.shards.writing.journal import JOURNAL_FOLDER, finished, located
from geossl_data.shards.writing.writer import write_shards
from geossl_data.sweep.folders import STATE, State, state_of
from geossl_data.tiles.cogs import read_header
from geossl_data.tiles.headers import Headers, Known


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes")


# ------------------------------------------------------------------------------------------------ scores

SCORES = Scores(
    scores=tuple(
        score_of(
            {"task": "classification", "features": "s2", "encoder": kind, "probe": "knn", "metric": "accuracy"}
            | {"fraction": 1.0, "seeds": 3, "n_train": 8, "n_test": 4},
            Estimate(value=0.5, low=0.4, high=0.6, replicates=np.linspace(0.4, 0.6, 5)),
        )
        for kind in ("trained", "random")
    ),
    facts={"labelled": "here", "places": 12},
    replicates=np.zeros((2, 5), np.float32),
)


@pytest.fixture(scope="module")
def scored(folder: Path) -> tuple[dict[str, Any], bytes]:
    SCORES.write(folder)
    return json.loads((folder / SCORES_NAME).read_text()), (folder / REPLICATES_NAME).read_bytes()


@fuzzed(5)
@given(data=st.data())
def test_scores(folder: Path, scored: tuple[dict[str, Any], bytes], data: st.DataObject) -> None:
    """What is read can be shown."""
    told_scores, replicates = scored
    (folder / SCORES_NAME).write_bytes(data.draw(st.one_of(st.just(json_bytes(told_scores)), spoilt_json(told_scores))))
    (folder / REPLICATES_NAME).write_bytes(data.draw(st.one_of(st.just(replicates), spoilt(replicates))))
    found = told(lambda: read_scores(folder))
    if found is not None:
        assert all(isinstance(cell, str) for row in found.table() for cell in row)
        found.estimate(0) if found.scores else None


def test_a_bootstrap_that_claims_more_than_a_disk_holds(folder: Path, scored: tuple[dict[str, Any], bytes]) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 500000000000), }"
    head = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117) + b"\n"
    with zipfile.ZipFile(folder / REPLICATES_NAME, "w") as file:
        file.writestr("replicates.npy", head + bytes(40))
    (folder / SCORES_NAME).write_bytes(json_bytes(scored[0]))
    assert told(lambda: read_scores(folder)) is None


# ------------------------------------------------------------------------------------------------ training


LINE = {"step": 3, "epoch": 0, "loss": 1.25, "spread": 0.9, "seconds": 1.5}


@fuzzed(5)
@given(spoilt_json(LINE).map(lambda content: content + b"\n"))
def test_a_line_of_metrics_is_one_or_none(content: bytes) -> None:
    found = _line(content)
    assert found is None or (isinstance(found, dict) and isinstance(found["step"], int))


@fuzzed(5)
@given(spoilt_json({"B04": [0.1, 0.2], "B03": [1, 2]}))
def test_statistics_of_ones_own(folder: Path, content: bytes) -> None:
    (folder / "statistics.json").write_bytes(content)
    found = told(lambda: _statistics(folder / "statistics.json"))
    assert found is None or all(np.isfinite(pair).all() for pair in found.values())


@fuzzed(5)
@given(spoilt_json(asdict(State(scored="x", steps=3))))
def test_the_state_of_a_cell(folder: Path, content: bytes) -> None:
    (folder / STATE).write_bytes(content)
    found = told(lambda: state_of(folder))
    assert found is None or isinstance(found, State)


# ------------------------------------------------------------------------------------------------ caches


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


@fuzzed(5)
@given(data=st.data())
def test_kept_features_are_those_that_were_kept(folder: Path, data: st.DataObject) -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    content = npy(values) + _check("key", npy(values))
    (folder / "key.npy").write_bytes(data.draw(spoilt(content)))
    found = _read(folder / "key.npy", "key", (4, 3))
    assert found is None or np.array_equal(found, values)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"x" * 200, npy(np.array(["a"])), npy(np.zeros(3))])
def test_kept_features_of_another_kind_are_none(folder: Path, content: bytes) -> None:
    """Though their checksum fits: a cache may have been written by somebody else."""
    (folder / "key.npy").write_bytes(content + _check("key", content))
    assert _read(folder / "key.npy", "key", (4, 3)) is None


@fuzzed(5)
@given(data=st.data())
def test_kept_answers_are_read_or_made_again(folder: Path, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, responses=np.arange(12, dtype=np.float64).reshape(4, 3))
    (folder / "answers.npz").write_bytes(data.draw(spoilt(buffer.getvalue())))
    found = bench._read(folder / "answers.npz")
    assert found is None or all(isinstance(array, np.ndarray) for array in found.values())


HREF = "https://data.example.org/a.tif"
HEADER = read_header(Bytes(write_tiff(np.arange(40 * 30, dtype=np.uint16).reshape(30, 40), tiled=False)))


@pytest.fixture(scope="module")
def cached(folder: Path) -> bytes:
    path = folder / "written.sqlite"
    headers = Headers(path)
    headers.put(HREF, Known(HEADER, 5000, '"etag"'))
    headers.close()
    return path.read_bytes()


@fuzzed(5)
@given(data=st.data())
def test_a_cache_of_headers_is_of_use_or_left_alone(folder: Path, cached: bytes, data: st.DataObject) -> None:
    path = folder / "headers.sqlite"
    path.write_bytes(data.draw(spoilt(cached)))
    headers = Headers(path)
    known = headers.get(HREF)
    headers.put(HREF, Known(HEADER, 5000, None))
    assert headers.get(HREF) is not None
    headers.forget(HREF)
    headers.close()
    if known is not None:
        assert known.nbytes is None or isinstance(known.nbytes, int)
        assert known.etag is None or isinstance(known.etag, str)


@pytest.mark.parametrize(
    "row",
    [("many", "etag", b"x"), (5, 7.5, b"x"), (5, b"etag", b"x"), (5, None, "text"), (5, None, 17), (-1, None, b"")],
)
def test_a_cache_of_headers_with_other_columns(folder: Path, row: tuple[Any, ...]) -> None:
    path = folder / "other.sqlite"
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE headers (href, nbytes, etag, header)")
        connection.execute("INSERT INTO headers VALUES (?, ?, ?, ?)", (HREF, *row))
    connection.close()
    headers = Headers(path)
    assert headers.get(HREF) is None
    headers.close()


# ------------------------------------------------------------------------------------------------ journals

PLAN = make_plans(8)[0]


@pytest.fixture(scope="module")
def written(folder: Path) -> dict[str, Any]:
    """The entry of the journal of one shard."""
    write_shards([PLAN], folder / "shards", make_factory(make_tile), fingerprint="f")
    path = folder / "shards" / JOURNAL_FOLDER / f"{PLAN.name}.json"
    content: dict[str, Any] = json.loads(path.read_text())
    assert finished(folder / "shards", PLAN, "f") is not None
    return content


@fuzzed(5)
@given(data=st.data())
def test_an_entry_of_a_shards_journal_holds_or_does_not(
    folder: Path, written: dict[str, Any], data: st.DataObject
) -> None:
    path = folder / "shards" / JOURNAL_FOLDER / f"{PLAN.name}.json"
    path.write_bytes(data.draw(spoilt_json(written | {"location": None})))
    report = finished(folder / "shards", PLAN, "f")
    assert report is None or report.nbytes == written["nbytes"]
    path.write_bytes(data.draw(spoilt_json({"location": "s3://bucket/a", "nbytes": 5})))
    assert isinstance(located(folder / "shards"), dict)


NOTES: tuple[tuple[str, dict[str, Any], Callable[[Path], Any]], ...] = (
    ("building", {"plan": PLAN.digest, "attempts": 2, "done": 3}, lambda folder: attempts.deaths(folder, PLAN)),
    (
        "quarantine",
        {"plan": PLAN.digest, "fingerprint": "f", "deaths": {PLAN.samples[0].key: 2}, "sound": [], "at": None},
        lambda folder: quarantine.quarantined(folder, PLAN, "f"),
    ),
)


@pytest.mark.parametrize(("ending", "note", "read"), NOTES, ids=[name for name, *_ in NOTES])
@fuzzed(5)
@given(data=st.data())
def test_notes_about_attempts_and_deaths(
    folder: Path, ending: str, note: dict[str, Any], read: Callable[[Path], Any], data: st.DataObject
) -> None:
    path = folder / "noted" / JOURNAL_FOLDER / f"{PLAN.name}.{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.draw(spoilt_json(note)))
    assert isinstance(read(folder / "noted"), int | dict)


@pytest.mark.parametrize(("ending", "note", "read"), NOTES, ids=[name for name, *_ in NOTES])
@pytest.mark.parametrize("strange", [float("inf"), float("nan"), nested(60), "1" * 5000])
def test_notes_with_numbers_that_are_none(
    folder: Path, ending: str, note: dict[str, Any], read: Callable[[Path], Any], strange: Any
) -> None:
    path = folder / "noted" / JOURNAL_FOLDER / f"{PLAN.name}.{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    changed = {"deaths": {PLAN.samples[0].key: strange}} if "deaths" in note else {"attempts": strange}
    path.write_bytes(json_bytes(note | changed))
    assert read(folder / "noted") in (0, {})
    path.write_bytes(b"[" * 50_000)
    assert read(folder / "noted") in (0, {})


PROVIDER = Provider(name=FILE_PROVIDER, url=None, collections=COLLECTIONS)


@fuzzed(5)
@given(data=st.data())
def test_the_journal_of_a_search_is_of_use_or_asked_for_again(folder: Path, data: st.DataObject) -> None:
    from faults.catalogs import s1, s2

    items = [s2("S2A_a", "2023-06-01T10:00:00Z"), s1("S1A_a", "2023-06-01T17:00:00Z")]
    journal = Journal(folder / "search", "query")
    found = Findings(
        found=[(scene_from_item(item, PROVIDER, "/"), item) for item in items],
        skipped=[skipped_row("x", "bad-item", "because")],
        outside={"early": 3},
        n_items=6,
    )
    journal.write("question", found)
    (path,) = (folder / "search").glob("*.json.gz")
    content = json.loads(gzip.decompress(path.read_bytes()))
    spoiled = st.one_of(
        spoilt(path.read_bytes()),
        twisted(content).map(json_bytes).map(gzip.compress),
        st.just(gzip.compress(b"[" * 90_000)),
    )
    path.write_bytes(data.draw(spoiled))
    read = journal.read("question", lambda item: scene_from_item(item, PROVIDER, "/"))
    assert read is None or isinstance(read.n_items, int)
    assert read is None or all(isinstance(count, int) for count in read.outside.values())
