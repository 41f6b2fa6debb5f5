"""From options to what strategies are told: quotas, layers from files and catalogs, paths that can move."""

from pathlib import Path

import numpy as np
import pytest

from geossl_data.errors import CatalogError, GeosslError, SamplingError
from geossl_data.pipeline._drawing import by_content, read_quota, resolved, rules_for, short_strata, strata_for
from geossl_data.recipe import SampleOptions
from geossl_data.tiles.rasters import Rasters


def test_a_quota_is_counts_or_shares(tmp_path: Path) -> None:
    path = tmp_path / "quota.csv"
    path.write_text("stratum,count\nforest,10\n desert ,0\n")
    assert read_quota(path) == {"forest": 10.0, "desert": 0.0}
    path.write_text("name,share,stratum\nx,0.25,forest\n")
    assert rules_for(SampleOptions(allocation="quota", quota=str(path))).quota == {"forest": 0.25}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("forest,10\n", "columns stratum and count"),
        ("stratum,count,share\na,1,2\n", "columns stratum and count"),
        ("stratum,count\na,many\n", "line 2"),
        ("stratum,count\na,1\na,2\n", "line 3"),
        ("stratum,count\na,-1\n", "line 2"),
        ("stratum,count\na,inf\n", "line 2"),
        ("stratum,count\na\n", "line 2"),
        ("stratum,count\na,0\n", "asks for nothing"),
        ("", "columns stratum and count"),
    ],
)
def test_a_bad_quota_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "quota.csv"
    path.write_text(text)
    with pytest.raises(SamplingError, match=message) as failure:
        read_quota(path)
    assert "\n" not in str(failure.value)
    with pytest.raises(SamplingError, match="no such quota"):
        read_quota(tmp_path / "none.csv")


def test_files_are_named_absolutely_and_known_by_content(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("stratum,count\na,1\n")
    (tmp_path / "w.gpkg").write_bytes(b"1")
    options = SampleOptions(allocation="quota", quota="q.csv", weight_by="w.gpkg:people", strata="climate,w.gpkg:biome")
    moved = resolved(options, tmp_path)
    assert moved.quota == str(tmp_path / "q.csv")
    assert moved.weight_by == f"{tmp_path}/w.gpkg:people"
    assert moved.strata == f"climate,{tmp_path}/w.gpkg:biome"
    before = by_content(moved)
    assert before.weight_by.endswith(":people")
    assert str(tmp_path) not in f"{before.weight_by} {before.strata} {before.quota}"
    (tmp_path / "w.gpkg").write_bytes(b"2")
    assert by_content(moved).fingerprint() != before.fingerprint()
    plain = SampleOptions()
    assert resolved(plain, tmp_path) == plain == by_content(plain)


def test_strata_from_a_collection_of_the_catalog(built: Path) -> None:
    options = SampleOptions(size=60, strata="stac:geossl-sandbox-labels/class")
    with Rasters() as rasters:
        strata = strata_for(built, options, None, rasters)
        found = strata(np.array([9.05, 9.06, 150.0]), np.array([47.74, 47.74, 0.0]))
        assert found[2] == ""
        for spec, message in (("stac:labels", "COLLECTION/ASSET"), ("stac:none/class", "no items"), ("x.tif", "x.tif")):
            with pytest.raises(GeosslError, match=message):
                strata_for(built, options.model_copy(update={"strata": spec}), None, rasters)(np.zeros(1), np.zeros(1))
    assert issubclass(CatalogError, GeosslError)


def test_strata_below_half_their_target() -> None:
    assert short_strata({"a": 10, "b": 10, "c": 0, "d": 3}, {"a": 5, "b": 4}) == ["b", "d"]
