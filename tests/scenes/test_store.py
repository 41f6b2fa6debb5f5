"""Scenes come back from scenes.parquet as they were found, and nothing else does."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geossl_data.bands import S2_BANDS
from geossl_data.errors import DatasetError
from geossl_data.scenes.items import read_items, write_items
from geossl_data.scenes.providers import PROVIDERS, Provider, TokenService
from geossl_data.scenes.search import Found
from geossl_data.scenes.store import provider_of, read_scenes, write_scenes
from geossl_data.tables import read_metadata

Item = dict[str, Any]
Make = Callable[..., Item]
Find = Callable[..., Found]


def test_scenes_come_back_and_hold_no_secret(tmp_path: Path, find: Find, s2_item: Make, s1_item: Make) -> None:
    folder = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2"
    item = s2_item("S2A_signed", folder=folder, canary="CANARY")
    for asset in item["assets"].values():
        asset["href"] += "?st=2024-01-01&se=2024-01-02&sp=rl&sig=CANARY"
        asset["alternate"] = {"s3": {"href": "s3://key:CANARY@bucket/x"}}
    item["assets"]["preview"] = {"href": "https://example.org/p.png?token=CANARY"}
    item["links"] = [{"rel": "self", "href": "https://example.org/a?token=CANARY"}]
    period = {"start_datetime": "2019-01-01T00:00:00Z", "end_datetime": "2020-01-01T00:00:00Z"}
    label = s1_item("map", keys=("class",), collection="any-labels", time=None, **period)
    numeric = s2_item("S2A_number", time="2023-07-01T00:00:00Z")
    numeric["assets"]["B02"]["raster:bands"] = [{"offset": -0.1, "scale": 0.0001, "data_type": "uint16"}]
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    items = [item, s1_item(), label, numeric]
    found = find(catalog, items, unknown_baseline="as-stored")
    path = tmp_path / "data" / "scenes.parquet"
    write_scenes(path, found, metadata={"fingerprint": "f"})
    assert read_scenes(path) == found.scenes
    assert read_scenes(path)[2].hrefs["VV"] == str(catalog.resolve() / "s1" / "S1A_a" / "vv.tif")
    assert "CANARY" not in json.dumps(read_items(path))
    assert b"CANARY" not in path.read_bytes()
    notes = read_metadata(path)
    assert (notes["fingerprint"], notes["provider"], notes["unknown_baseline"]) == ("f", "file", "as-stored")
    before = path.read_bytes()
    again = find(catalog, items, unknown_baseline="as-stored")
    write_scenes(path, again, metadata={"fingerprint": "f"})
    assert path.read_bytes() == before


def test_no_table_of_scenes(tmp_path: Path, s2_item: Make) -> None:
    write_items(tmp_path / "scenes.parquet", [s2_item()])
    with pytest.raises(DatasetError, match="not a table of scenes"):
        read_scenes(tmp_path / "scenes.parquet")


def test_a_table_of_scenes_that_was_tampered_with(tmp_path: Path, find: Find, s2_item: Make) -> None:
    found = find(tmp_path, [s2_item()])
    item = dict(found.items[0])
    item["assets"]["B02"]["href"] = "/etc/passwd"
    write_scenes(tmp_path / "scenes.parquet", replace(found, items=[item]))
    with pytest.raises(DatasetError, match=r"damaged .*not below the catalog's folder"):
        read_scenes(tmp_path / "scenes.parquet")


def test_no_file_of_scenes(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        read_scenes(tmp_path / "scenes.parquet")


def test_names_of_ones_own_come_back(
    tmp_path: Path, find: Find, s2_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = s2_item(collection="ard")
    item["assets"] = {f"own-{key}": asset for key, asset in item["assets"].items()}
    aliases = {f"own-{band}": band for band in (*S2_BANDS, "SCL")}
    mine = Provider(name="mine", url=None, collections={"ard": "L2A"}, aliases=aliases, offset="applied")
    monkeypatch.setattr("geossl_data.scenes.search.provider_for", lambda catalog: mine)
    found = find(tmp_path, [item])
    write_scenes(tmp_path / "scenes.parquet", found)
    assert read_scenes(tmp_path / "scenes.parquet") == found.scenes
    assert found.scenes[0].boa_offset == 0
    assert provider_of(tmp_path / "scenes.parquet") == mine


def test_who_signs_is_never_read_from_a_file(tmp_path: Path, find: Find, s2_item: Make) -> None:
    found = find(tmp_path, [s2_item()])
    pc = PROVIDERS["planetary-computer"]
    theirs = replace(pc, tokens=TokenService(url="https://evil.example.org/token", containers={}))
    write_scenes(tmp_path / "scenes.parquet", replace(found, provider=theirs))
    assert provider_of(tmp_path / "scenes.parquet").tokens is pc.tokens
    elsewhere = replace(pc, url="https://evil.example.org/stac")
    write_scenes(tmp_path / "scenes.parquet", replace(found, provider=elsewhere))
    assert provider_of(tmp_path / "scenes.parquet").tokens is None
    assert b"evil.example.org/token" not in (tmp_path / "scenes.parquet").read_bytes()
