"""A dataset folder of somebody else's, or after an accident: what it holds is shown, or one line says what is wrong."""

import io
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz.mutations import changed, fuzzed, reordered, spoilt, spoilt_json, told
from hypothesis import given
from hypothesis import strategies as st

from geossl_data import pipeline
from geossl_data.recipe import EvaluateOptions, PretrainOptions

TRAINING = PretrainOptions(encoder="resnet10", epochs=1, batch_size=8, crop=32)
JUDGING = EvaluateOptions(supervised=False, seeds=1)
READ = (".parquet", ".json", ".jsonl", ".yaml", ".csv", ".txt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, built: Path) -> Path:
    """A folder with shards and a run that is judged."""
    folder = Path(shutil.copytree(built, tmp_path_factory.mktemp("whole") / "data"))
    pipeline.pretrain(folder, TRAINING)
    pipeline.evaluate(folder, JUDGING)
    return folder


@pytest.fixture(scope="module")
def contents(whole: Path) -> dict[str, bytes]:
    """What can be read in it, by path, pixels and encoders left out."""
    return {
        str(path.relative_to(whole)): path.read_bytes()
        for path in sorted(whole.rglob("*"))
        if path.is_file() and path.name.endswith(READ)
    }


@st.composite
def damaged(draw: st.DrawFn, name: str, content: bytes) -> bytes:
    """A file after an accident, or with other values in it."""
    if name.endswith(".parquet") and draw(st.booleans()):
        table = pq.read_table(io.BytesIO(content))
        other: pa.Table = draw(st.one_of(changed(table), reordered(table)))
        buffer = io.BytesIO()
        pq.write_table(other, buffer)
        return buffer.getvalue()
    if name.endswith(".json") and draw(st.booleans()):
        values: Any = json.loads(content)
        return draw(spoilt_json(values))
    return draw(spoilt(content))


@contextmanager
def spoilt_in(folder: Path, contents: Mapping[str, bytes], data: st.DataObject) -> Iterator[None]:
    """One of the files is damaged while the block runs."""
    name = data.draw(st.sampled_from(sorted(contents)), label="file")
    try:
        (folder / name).write_bytes(data.draw(damaged(name, contents[name]), label="content"))
        yield
    finally:
        (folder / name).write_bytes(contents[name])


@fuzzed(40)
@given(data=st.data())
def test_what_info_tells_of_a_folder_with_a_damaged_file(
    whole: Path, contents: dict[str, bytes], data: st.DataObject
) -> None:
    with spoilt_in(whole, contents, data):
        told(lambda: pipeline.info(whole))


@fuzzed(3)
@given(data=st.data())
def test_the_report_of_a_folder_with_a_damaged_file(
    whole: Path, contents: dict[str, bytes], data: st.DataObject
) -> None:
    with spoilt_in(whole, contents, data):
        told(lambda: pipeline.report(whole, places=1))
