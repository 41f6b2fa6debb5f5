"""`geossl fetch` against a real STAC API over a real database, with brute force over the items as the oracle."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers.pgstac import Pgstac
from shapely.geometry import box, shape
from shapely.ops import unary_union

from geossl_data import tables
from geossl_data.bands import S2_MEMBERS
from geossl_data.records import Pair, Skipped
from geossl_data.scenes import search as search_module
from geossl_data.scenes.items import Item, parse_time, read_items
from geossl_data.shards.reading.shards import open_shards

Command = Callable[..., tuple[int, str, str]]
Bounds = tuple[float, float, float, float]

DENVER: Bounds = (-106.37, 38.83, -103.91, 40.71)
JULY = ("2024-07-03", "2024-07-31")
NOT_NEEDED = ("superseded", "tile-overlap")
"""Reasons for which a scene that was found and is usable is left out."""


def brute_force(
    items: Sequence[Item], collection: str, bbox: Bounds, days: tuple[str, str], max_cloud: float = 100.0
) -> set[str]:
    """Ids of the items of a collection that meet a box on any of the days, by looking at each."""
    west, south, east, north = bbox
    boxes = [box(*bbox)] if west <= east else [box(west, south, 180, north), box(-180, south, east, north)]
    area = unary_union(boxes)
    return {
        item["id"]
        for item in items
        if item["collection"] == collection
        and days[0] <= parse_time(item["properties"]["datetime"]).isoformat()[:10] <= days[1]
        and item["properties"].get("eo:cloud_cover", 0) <= max_cloud
        and shape(item["geometry"]).intersects(area)
    }


def asked(pgstac: Pgstac, bbox: Bounds, days: tuple[str, str], max_cloud: float = 100.0) -> list[object]:
    return [
        *("--catalog", pgstac.url, "--bbox", *bbox, "--from", days[0], "--to", days[1]),
        *("--max-cloud", max_cloud, "--max-gap", "1d"),
    ]


def found(folder: Path, collection: str = "sentinel-2-l2a") -> set[str]:
    """Ids of the scenes that a fetch found, those that it can do without included."""
    rows = tables.read_table(folder / "skipped.parquet", Skipped)
    assert {row.reason for row in rows} <= set(NOT_NEEDED)
    left_out = {row.id for row in rows} if collection == "sentinel-2-l2a" else set()
    return left_out | {item["id"] for item in read_items(folder / "scenes.parquet") if item["collection"] == collection}


def pages_of(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let searches ask for so many items a page."""
    known = search_module.provider_for
    monkeypatch.setattr(search_module, "provider_for", lambda catalog: replace(known(catalog), page_size=size))


@pytest.mark.parametrize("tells_matched", [True, False])
@pytest.mark.parametrize("page_size", [17, 250])
def test_a_fetch_has_every_item_whatever_the_page(
    real_pgstac: Pgstac,
    real_items: list[Item],
    geossl: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    page_size: int,
    tells_matched: bool,
) -> None:
    real_pgstac.tell_matched(tells_matched)
    pages_of(monkeypatch, page_size)
    code, _, err = geossl("fetch", tmp_path, *asked(real_pgstac, DENVER, JULY))
    assert code == 0, err
    expected = brute_force(real_items, "sentinel-2-l2a", DENVER, JULY)
    assert len(expected) > 80
    assert found(tmp_path) == expected
    margin = ("2024-07-02", "2024-08-01")
    assert found(tmp_path, "sentinel-1-rtc") == brute_force(real_items, "sentinel-1-rtc", DENVER, margin)


def test_a_last_page_that_is_full_costs_nothing_where_the_server_counts(
    real_pgstac: Pgstac, real_items: list[Item], geossl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = ("2024-07-09", "2024-07-20")
    s2 = brute_force(real_items, "sentinel-2-l2a", DENVER, days)
    pages_of(monkeypatch, len(s2))
    before = real_pgstac.searches()
    assert geossl("fetch", tmp_path, *asked(real_pgstac, DENVER, days))[0] == 0
    assert found(tmp_path) == s2
    assert real_pgstac.searches() - before == 2


def test_a_last_page_that_is_full_is_asked_again_where_it_does_not(
    real_pgstac: Pgstac, real_items: list[Item], geossl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_pgstac.tell_matched(False)
    days = ("2024-07-09", "2024-07-20")
    s2 = brute_force(real_items, "sentinel-2-l2a", DENVER, days)
    pages_of(monkeypatch, len(s2))
    before = real_pgstac.searches()
    assert geossl("fetch", tmp_path, *asked(real_pgstac, DENVER, days))[0] == 0
    assert found(tmp_path) == s2
    assert 2 < real_pgstac.searches() - before <= 8


def test_pages_are_asked_for_once_each(
    real_pgstac: Pgstac, real_items: list[Item], geossl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages_of(monkeypatch, 17)
    before = real_pgstac.searches()
    assert geossl("fetch", tmp_path, *asked(real_pgstac, DENVER, JULY))[0] == 0
    s2 = len(brute_force(real_items, "sentinel-2-l2a", DENVER, JULY))
    s1 = len(brute_force(real_items, "sentinel-1-rtc", DENVER, ("2024-07-02", "2024-08-01")))
    least = math.ceil(s2 / 17) + math.ceil(s1 / 17)
    assert least <= real_pgstac.searches() - before <= 2 * least


@pytest.mark.parametrize("max_cloud", [5.0, 60.0])
def test_clouds(real_pgstac: Pgstac, real_items: list[Item], geossl: Command, tmp_path: Path, max_cloud: float) -> None:
    days = ("2024-07-10", "2024-07-25")
    assert geossl("fetch", tmp_path, *asked(real_pgstac, DENVER, days, max_cloud))[0] == 0
    expected = brute_force(real_items, "sentinel-2-l2a", DENVER, days, max_cloud)
    assert expected < brute_force(real_items, "sentinel-2-l2a", DENVER, days)
    assert found(tmp_path) == expected


@pytest.mark.parametrize("day", ["2024-07-09", "2024-07-14"])
def test_one_day(real_pgstac: Pgstac, real_items: list[Item], geossl: Command, tmp_path: Path, day: str) -> None:
    expected = brute_force(real_items, "sentinel-2-l2a", DENVER, (day, day))
    assert expected
    code, _, err = geossl("fetch", tmp_path, *asked(real_pgstac, DENVER, (day, day)))
    assert code == 0, err
    assert found(tmp_path) == expected


def test_windows_side_by_side_find_what_one_finds(
    real_pgstac: Pgstac, real_items: list[Item], geossl: Command, tmp_path: Path
) -> None:
    parts = [("2024-07-03", "2024-07-14"), ("2024-07-15", "2024-07-31")]
    each = []
    for number, days in enumerate(parts):
        assert geossl("fetch", tmp_path / str(number), *asked(real_pgstac, DENVER, days))[0] == 0
        each.append(found(tmp_path / str(number)))
    assert set.union(*each) == brute_force(real_items, "sentinel-2-l2a", DENVER, JULY)
    assert sum(map(len, each)) == len(set.union(*each))


ACROSS = "S2A_T01KAB_20230821T221944_L2A"


@pytest.mark.parametrize(
    "bbox",
    [(179.3, -17.0, -179.8, -16.5), (179.3, -17.0, 179.9, -16.5), (-179.95, -17.0, -179.8, -16.5)],
    ids=["across", "east", "west"],
)
def test_1_90_an_item_on_the_antimeridian(
    real_pgstac: Pgstac, real_items: list[Item], geossl: Command, tmp_path: Path, bbox: Bounds
) -> None:
    days = ("2023-08-21", "2023-08-21")
    code, _, err = geossl("fetch", tmp_path, *asked(real_pgstac, bbox, days))
    assert code == 0, err
    assert found(tmp_path) == {ACROSS} == brute_force(real_items, "sentinel-2-l2a", bbox, days)
    assert {pair.s2_id for pair in tables.read_table(tmp_path / "pairs.parquet", Pair)} == {ACROSS}


def test_1_90_a_box_next_to_it_does_not_get_the_world(real_pgstac: Pgstac, geossl: Command, tmp_path: Path) -> None:
    bbox = (178.6, -17.0, 179.1, -16.5)
    code, _, err = geossl("fetch", tmp_path, *asked(real_pgstac, bbox, ("2023-08-21", "2023-08-21")))
    assert code == 1
    assert "0 Sentinel-2 and 1 Sentinel-1 scenes found" in err


def test_places_are_asked_for_together(
    real_pgstac: Pgstac, real_items: list[Item], geossl: Command, tmp_path: Path
) -> None:
    area = tmp_path / "area.geojson"
    area.write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": '
        '{"type": "Polygon", "coordinates": [[[-106, 39], [-104, 39], [-104, 40], [-106, 40], [-106, 39]]]}}]}'
    )
    folder = tmp_path / "data"
    code, _, err = geossl("sample", folder, "--anywhere", "--count", 30, "--area", area)
    assert code == 0, err
    before = real_pgstac.searches()
    days = ("2024-07-10", "2024-07-20")
    code, _, err = geossl(
        *("fetch", folder, "--catalog", real_pgstac.url, "--places", folder / "places.parquet"),
        *("--from", days[0], "--to", days[1], "--max-cloud", 100, "--max-gap", "1d"),
    )
    assert code == 0, err
    assert real_pgstac.searches() - before <= 2 * 16
    assert found(folder) <= brute_force(real_items, "sentinel-2-l2a", (-106.1, 38.9, -103.9, 40.1), days)


def test_a_plan_asks_nothing(real_pgstac: Pgstac, geossl: Command, tmp_path: Path) -> None:
    before = real_pgstac.searches()
    code, out, _ = geossl("fetch", tmp_path / "data", *asked(real_pgstac, DENVER, JULY), "--dry-run")
    assert code == 0
    assert "expected requests" in out
    assert real_pgstac.searches() == before
    assert not (tmp_path / "data").exists()


def test_the_whole_chain_over_the_network_gives_the_pixels_of_the_local_catalog(
    pgstac: Pgstac, planet: Path, geossl: Command, tmp_path: Path
) -> None:
    where = ("--bbox", 8.9, 47.6, 9.1, 47.8, "--from", "2021-01-01", "--to", "2023-12-31", "--max-cloud", 60)
    for name, catalog in (("remote", pgstac.url), ("local", planet)):
        folder = tmp_path / name
        for command in (
            ("fetch", folder, "--catalog", catalog, *where),
            ("sample", folder, "--size", 60, "--count", 6),
            ("shard", folder),
            ("verify", folder, "--deep"),
        ):
            code, _, err = geossl(*command)
            assert code == 0, (command, err)
    remote, local = open_shards(tmp_path / "remote"), open_shards(tmp_path / "local")
    assert [entry.key for entry in remote.entries] == [entry.key for entry in local.entries]
    assert len(remote.entries) == 6
    for index, entry in enumerate(remote.entries):
        for look in range(entry.n_looks):
            members: list[Any] = [*S2_MEMBERS, "scl", "s1"]
            ours, theirs = remote.read(index, look, members), local.read(index, look, members)
            for name in members:
                np.testing.assert_array_equal(ours[name], theirs[name])
