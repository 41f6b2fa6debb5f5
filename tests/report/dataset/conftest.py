"""What the tests of a page's sections share: places and looks made up, and those of a tiny dataset."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from geossl_data.report.dataset.contents import Contents, contents_of
from geossl_data.shards.reading.shards import Shards, open_shards

Make = Callable[..., Contents]


@pytest.fixture
def make() -> Make:
    """Contents of places with a split each and looks made up; any column may be given."""

    def made(split: str = "train train test", looks: int = 2, **columns: Any) -> Contents:
        splits = np.array(split.split(), dtype=np.str_)
        n = len(splits)
        n_looks = np.full(n, looks) if "n_looks" not in columns else np.array(columns["n_looks"])
        total = int(n_looks.sum())
        first = np.datetime64("2021-01-15T10:00", "us")
        values: dict[str, Any] = {
            "is_written": True,
            "key": pa.array([f"place_{number}" for number in range(n)]),
            "lon": 10.0 + np.arange(n),
            "lat": 45.0 + np.zeros(n),
            "size_px": np.full(n, 60),
            "pixel_m": 10.0,
            "split": splits,
            "stratum": np.array([f"stratum {number % 2}" for number in range(n)]),
            "block": np.array([f"block {number}" for number in range(n)]),
            "change": np.full(n, np.nan),
            "entropy": np.full(n, np.nan),
            "place": np.repeat(np.arange(n), n_looks),
            "acquired": first + np.arange(total) * np.timedelta64(31, "D"),
            "gap_hours": np.linspace(-10, 10, total),
            "cloud": np.zeros(total),
            "s2_valid": np.ones(total),
            "s1_valid": np.ones(total),
            "s2_id": pa.array([f"S2B_{number}" for number in range(total)]),
            "s1_id": pa.array([f"S1A_{number}" for number in range(total)]),
            "label": np.zeros(total, dtype=np.int64),
            "notes": {},
        }
        return Contents(**(values | columns | {"n_looks": n_looks}))

    return made


@pytest.fixture(scope="session")
def shards(built: Path) -> Iterator[Shards]:
    with open_shards(built) as opened:
        yield opened


@pytest.fixture(scope="session")
def contents(built: Path) -> Contents:
    found = contents_of(built)
    assert found is not None
    return found
