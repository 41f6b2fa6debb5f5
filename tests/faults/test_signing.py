"""`geossl shard` on rasters behind tokens: one request for each token, a reason for what is refused, no secret left."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from faults.blobs import CANARY, Cloud, Reply, Seen, serve_cloud

from geossl_data import tables
from geossl_data.records import Sample, Skipped
from geossl_data.scenes import store
from geossl_data.scenes.http import Http
from geossl_data.scenes.items import Item, read_items, write_items
from geossl_data.shards.manifest import read_manifest

Command = Callable[..., tuple[int, str, str]]

RADAR, OPTICAL, APART = ("radar", "s1"), ("optical", "s2"), ("apart", "s2")
TILE_APART = "T20HQG"


@pytest.fixture
def cloud(planet: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The tiny planet's rasters behind tokens."""
    monkeypatch.setattr(Http, "pause", lambda self, seconds: None)
    with serve_cloud(planet.parent) as served:
        yield served


def container_of(item: Item) -> tuple[str, str]:
    """Sentinel-1 has its own account, and so has one tile of Sentinel-2."""
    if item["collection"] == "sentinel-1-rtc":
        return RADAR
    return APART if TILE_APART in item["id"] else OPTICAL


def hosted(item: Item, cloud: Cloud) -> Item:
    assets = {
        name: asset | {"href": cloud.href(asset["href"].removeprefix("./"), *container_of(item))}
        for name, asset in item["assets"].items()
    }
    return item | {"assets": assets}


@pytest.fixture
def sampled(tmp_path: Path, planet: Path, cloud: Cloud, geossl: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of single looks before `shard`, of a catalog whose rasters need tokens."""
    items = [hosted(item, cloud) for item in read_items(planet) if not item["collection"].endswith("labels")]
    write_items(tmp_path / "catalog.parquet", items)
    folder = tmp_path / "data"
    assert geossl("fetch", folder, "--catalog", tmp_path / "catalog.parquet")[0] == 0
    assert geossl("sample", folder, "--size", 60, "--count", 12)[0] == 0
    monkeypatch.setenv("SOME_KEY", f"{CANARY}KEY")
    tokens, provider_of = cloud.service(RADAR, OPTICAL, APART, key_variable="SOME_KEY"), store.provider_of
    monkeypatch.setattr(store, "provider_of", lambda path: replace(provider_of(path), tokens=tokens))
    return folder


def needed(folder: Path) -> Counter[bool]:
    """How many samples lie on the tile apart, and how many elsewhere."""
    samples = tables.read_table(folder / "samples.parquet", Sample)
    return Counter(TILE_APART in sample.looks[0].s2_id for sample in samples)


def assert_no_secret(folder: Path, *texts: str) -> None:
    assert CANARY not in "".join(texts)
    for path in folder.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_1_04_and_6_01_a_run_asks_for_each_token_once(
    sampled: Path, cloud: Cloud, geossl: Command, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    caplog.set_level(logging.INFO)
    assert min(needed(sampled).values()) > 0
    code, out, err = geossl("shard", sampled, "--workers", workers, "--shard-mb", 1)
    assert code == 0, err
    assert len(read_manifest(sampled / "manifest.parquet").entries) == 12
    asked = Counter(seen.path.split("/sas/")[1] for seen in cloud.tokens)
    assert asked == {"radar/s1": 1, "optical/s2": 1, "apart/s2": 1}
    assert {seen.headers["ocp-apim-subscription-key"] for seen in cloud.tokens} == {f"{CANARY}KEY"}
    assert not any("ocp-apim-subscription-key" in seen.headers for seen in cloud.blobs)
    assert_no_secret(sampled, out, err, caplog.text)


def test_1_07_an_account_that_refuses_everything_costs_its_own_samples(
    sampled: Path, cloud: Cloud, geossl: Command
) -> None:
    cloud.forbidden = {"apart"}
    code, out, err = geossl("shard", sampled)
    assert code == 0, err
    rows = [row for row in tables.read_table(sampled / "skipped.parquet", Skipped) if row.stage == "shard"]
    assert [row.reason for row in rows] == ["forbidden"] * needed(sampled)[True]
    assert len(read_manifest(sampled / "manifest.parquet").entries) == needed(sampled)[False]
    assert sum("/apart/" in seen.path for seen in cloud.blobs) <= 2 * needed(sampled)[True]
    assert Counter(seen.path.split("/sas/")[1] for seen in cloud.tokens)["apart/s2"] == 2
    assert "forbidden" in out
    assert_no_secret(sampled, out, err, *(row.detail for row in rows))


def test_1_01_a_signature_that_ends_while_shards_are_cut(sampled: Path, cloud: Cloud, geossl: Command) -> None:
    def behave(seen: Seen, number: int) -> None:
        if number == 60:
            cloud.generation = 2

    cloud.on_blob = behave
    code, out, err = geossl("shard", sampled)
    assert code == 0, err
    assert len(read_manifest(sampled / "manifest.parquet").entries) == 12
    assert max(Counter(seen.path for seen in cloud.tokens).values()) == 2
    assert_no_secret(sampled, out, err)


def test_6_02_a_token_service_that_fails_leaves_no_secret(sampled: Path, cloud: Cloud, geossl: Command) -> None:
    cloud.on_token = lambda seen, number: Reply(500, content=CANARY.encode())
    code, out, err = geossl("shard", sampled)
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert "no access token for " in err.splitlines()[-1]
    assert not (sampled / "manifest.parquet").exists()
    assert_no_secret(sampled, out, err)
