"""The columns of pairs say the same as the records."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from shapely import box

from geossl_data.records import Pair, Scene
from geossl_data.scenes.matching import match_acquisitions, matches
from geossl_data.scenes.matching.acquisitions import Acquisitions
from geossl_data.tables import read_table, schema, write_table

START = datetime(2023, 6, 1, tzinfo=UTC)


def scenes(sensor: str, n: int, step: timedelta) -> list[Scene]:
    return [
        Scene(
            id=f"{sensor}-{number}",
            collection="c",
            sensor=sensor,  # type: ignore[arg-type]
            acquired=START + number * step,
            ends=START + number * step,
            footprint=box(8 + number % 3, 47, 9 + number % 3 + 0.5, 48),
            hrefs={},
            platform=f"sentinel-{sensor[1]}a" if number % 4 else None,
            orbit_state=("ascending", "descending", None)[number % 4 % 3],
            relative_orbit=None if number % 5 == 0 else 1 + number % 2,
            mgrs_tile=("32TMT", None)[number % 2],
        )
        for number in range(n)
    ]


def test_the_table_is_that_of_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matches, "_ROWS", 7)
    s2, s1 = scenes("s2", 9, timedelta(seconds=10)), scenes("s1", 30, timedelta(seconds=2))
    found = match_acquisitions(Acquisitions.of(s2), Acquisitions.of(s1), max_gap=timedelta(days=1), orbit="any")
    pairs = found.pairs()
    assert len(pairs) == len(found) > 14
    assert any(pair.s1_more for pair in pairs)
    assert any(pair.s2_more for pair in pairs)
    assert {pair.s1_orbit_state for pair in pairs} == {"ascending", "descending", None}
    table = found.table()
    assert table.schema == schema(Pair)
    write_table(tmp_path / "pairs.parquet", pairs, Pair)
    assert read_table(tmp_path / "pairs.parquet", Pair) == pairs
    by_name = [{**row, "s1_more": tuple(row["s1_more"]), "s2_more": tuple(row["s2_more"])} for row in table.to_pylist()]
    assert [Pair(**row) for row in by_name] == pairs


def test_no_pairs_make_an_empty_table() -> None:
    none = Acquisitions.of([])
    found = match_acquisitions(none, none, max_gap=timedelta(days=1), orbit="auto")
    assert found.table().schema == schema(Pair)
    assert (len(found), found.table().num_rows, found.pairs()) == (0, 0, [])


def test_columns_of_different_length_are_refused() -> None:
    columns = {name: np.zeros(2, dtype=np.int64) for name in ("platform", "orbit_state", "relative_orbit", "tile")}
    ids = np.array(["a", "b"], dtype=object)
    with pytest.raises(ValueError, match="columns of 2 acquisitions differ in length"):
        Acquisitions(ids=ids, acquired_us=np.zeros(3, np.int64), footprints=ids, version=columns["tile"], **columns)
