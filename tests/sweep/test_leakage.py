"""Places to train on are found among those judged: on the same ground, in the same block, in other UTM zones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from shapely import box

from geossl_data.errors import DatasetError
from geossl_data.grid import from_lonlat, to_lonlat
from geossl_data.records import Split
from geossl_data.shards.manifest import Manifest
from geossl_data.sweep import leakage
from geossl_data.sweep.leakage import Shared, Squares, overlapping, shared_ground

SIDE = 960.0


def manifest_of(corners: Sequence[tuple[float, float]], split: Split = "train", epsg: int = 32632) -> Manifest:
    """Squares of 96 pixels by their north-west corners, metres."""
    x, y = np.array(corners, dtype=np.float64).reshape(-1, 2).T
    lon, lat = to_lonlat(epsg, x + SIDE / 2, y - SIDE / 2)
    n = len(x)
    columns = {"split": [split] * n, "lon": lon, "lat": lat, "x": x, "y": y, "epsg": [epsg] * n, "size_px": [96] * n}
    return Manifest(pa.table(columns), {"pixel_m": 10.0})


def test_squares_share_ground_as_shapely_has_it() -> None:
    rng = np.random.default_rng(3)
    taught, judged = (500_000 + np.round(rng.uniform(0, 20_000, (150, 2)), -1) for _ in range(2))
    # Beside, corner to corner, and just not so.
    judged[:4] = taught[:4] + np.array([[0, SIDE], [SIDE, SIDE], [950, 950], [0, 950]])
    found = overlapping(Squares(manifest_of(judged, "test"), "test"), Squares(manifest_of(taught), "train"))
    others = [box(x, y - SIDE, x + SIDE, y) for x, y in taught]
    expected = [any(box(x, y - SIDE, x + SIDE, y).intersection(one).area > 0 for one in others) for x, y in judged]
    assert found.tolist() == expected
    assert 0 < sum(expected) < 150


@pytest.mark.parametrize(("shift_m", "expected"), [(0.0, 1), (900.0, 1), (1000.0, 0)])
def test_squares_of_two_zones_share_ground_where_they_are_near(shift_m: float, expected: int) -> None:
    west = manifest_of([(833_000, 5_300_000 + shift_m)], "test")
    lon, lat = (np.asarray(manifest_of([(833_000, 5_300_000)]).table[name]) for name in ("lon", "lat"))
    x, y = from_lonlat(32633, lon, lat)
    east = manifest_of([(float(x[0]) - SIDE / 2, float(y[0]) + SIDE / 2)], epsg=32633)
    assert shared_ground(east, west, None).on_ground == expected


def test_a_block_is_enough() -> None:
    taught, judged = (
        manifest_of([(500_000, 5_000_000)]),
        manifest_of([(502_000, 5_000_000), (600_000, 5_000_000)], "test"),
    )
    assert shared_ground(taught, judged, None) == Shared(judged=2, on_ground=0, in_block=0)
    assert shared_ground(taught, judged, 50.0) == Shared(judged=2, on_ground=0, in_block=1)


def test_val_judges_where_there_is_no_test_and_nothing_without_a_place() -> None:
    taught = manifest_of([(500_000, 5_000_000)])
    assert shared_ground(taught, manifest_of([(500_000, 5_000_000)], "val"), None).on_ground == 1
    assert shared_ground(taught, manifest_of([(500_000, 5_000_000)], "train"), None).judged == 0
    nowhere = Manifest(
        pa.table(
            {"split": ["test"]} | dict.fromkeys(("lon", "lat", "x", "y", "epsg"), pa.nulls(1)) | {"size_px": [96]}
        ),
        {},
    )
    assert shared_ground(taught, nowhere, 10.0).judged == 0


def test_leakage_is_refused_in_one_line_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {
        "train": manifest_of([(0, 0), (9600, 0)]),
        "judged": manifest_of([(0, 0), (500, 0), (99_600, 0)], "test"),
    }
    monkeypatch.setattr(leakage, "read_manifest", lambda path: folders[path.parent.name])
    with pytest.raises(DatasetError, match="judged: of its 3 judged places 2 share ground, and 2 ground or a block"):
        leakage.require_apart(Path("train"), Path("judged"))
