"""Sites on scenes: one square each, of the right tile, with what the site was drawn with; or a reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box

from geossl_data.bands import BANDS, S2_BANDS
from geossl_data.errors import SamplingError, SceneError
from geossl_data.grid import Grid, from_lonlat, haversine_km, square_lonlat, to_lonlat
from geossl_data.records import Pair, Scene, Site
from geossl_data.sampling.draw import draw_samples
from geossl_data.sampling.site_candidates import candidates_at

START = datetime(2022, 2, 1, 10, tzinfo=UTC)
WORLD = box(-180, -89, 180, 89)
SIDE_M = 109_800


def tile(name: str, epsg: int, x: float, y: float, *, day: int = 0, cloud: float = 5.0, side_m: int = SIDE_M) -> Scene:
    """A Sentinel-2 scene whose north-west corner is (x, y)."""
    grids = {
        band: Grid(epsg, x, y, step := BANDS[band].resolution_m, side_m // step, side_m // step) for band in S2_BANDS
    }
    time = START + timedelta(days=day)
    return Scene(
        id=name,
        collection="sentinel-2-l2a",
        sensor="s2",
        acquired=time,
        ends=time,
        footprint=square_lonlat(epsg, x, y, float(side_m)),
        hrefs={band: f"{name}/{band}.tif" for band in S2_BANDS},
        grids=grids,
        cloud_percent=cloud,
    )


def around(name: str, epsg: int, lon: float, lat: float, *, dx: float = 0.0, dy: float = 0.0, day: int = 0) -> Scene:
    """A Sentinel-2 scene with a point (dx, dy) metres from its centre, on a 20 m lattice."""
    x, y = (float(value) // 20 * 20 for value in from_lonlat(epsg, lon, lat))
    return tile(name, epsg, x - dx - SIDE_M / 2, y - dy + SIDE_M / 2, day=day)


def radar(name: str = "r", *, day: int = 0, footprint: object = WORLD) -> Scene:
    time = START + timedelta(days=day, hours=3)
    return Scene(
        id=name,
        collection="sentinel-1-rtc",
        sensor="s1",
        acquired=time,
        ends=time,
        footprint=footprint,  # type: ignore[arg-type]
        hrefs={"VV": "vv.tif", "VH": "vh.tif"},
    )


def pair(s2: Scene, s1: Scene, rank: int = 0) -> Pair:
    return Pair(
        s2_id=s2.id,
        s1_id=s1.id,
        s2_acquired=s2.acquired,
        s1_acquired=s1.acquired,
        gap_hours=(s1.acquired - s2.acquired) / timedelta(hours=1),
        overlap=1.0,
        rank=rank,
        n_candidates=rank + 1,
    )


def site(lon: float, lat: float, *, key: str = "site", size_px: int = 264, **change: object) -> Site:
    values: dict[str, object] = {
        "key": key,
        "lon": lon,
        "lat": lat,
        "size_px": size_px,
        "cell": "c",
        "stratum": "S",
        "weight": 1.0,
        "inclusion_probability": 0.01,
        "split": "test",
        "block": "b",
    }
    return Site(**(values | change))  # type: ignore[arg-type]


def tiles_of(at: Site, *scenes: Scene) -> list[tuple[int, set[str]]]:
    """Zone of the site's place and the tiles that its pairs name, by the first letter of their scenes."""
    s1 = radar()
    found, _ = candidates_at([at], [*scenes, s1], [pair(s2, s1) for s2 in scenes])
    return [(entry.place.epsg, {one.s2_id[0] for one in entry.pairs}) for entry in found]


@settings(max_examples=60, deadline=None)
@given(st.floats(0.02, 0.98), st.floats(0.02, 0.98), st.sampled_from([12, 96, 264]))
def test_the_place_is_the_nearest_square_of_the_tiles_lattice(u: float, v: float, size_px: int) -> None:
    s2, s1 = tile("a", 32632, 399_990.0, 5_000_040.0), radar()
    x, y = 399_990.0 + u * SIDE_M, 5_000_040.0 - v * SIDE_M
    lon, lat = to_lonlat(32632, x, y)
    found, skipped = candidates_at([site(float(lon), float(lat), size_px=size_px)], [s2, s1], [pair(s2, s1)])
    half = size_px * 5.0
    lefts, tops = 399_990.0 + 60.0 * np.arange(1830), 5_000_040.0 - 60.0 * np.arange(1830)
    lefts, tops = lefts[lefts + 2 * half <= 399_990 + SIDE_M], tops[tops - 2 * half >= 5_000_040 - SIDE_M]
    if np.abs(lefts - (x - half)).min() > 30.001 or np.abs(tops - (y + half)).min() > 30.001:
        assert (found, [row.reason for row in skipped]) == ([], ["no-tile"])
        return
    (entry,) = found
    assert skipped == []
    assert entry.place.x in lefts
    assert entry.place.y in tops
    assert max(abs(entry.place.x - (x - half)), abs(entry.place.y - (y + half))) < 30.001
    assert haversine_km(entry.place.lon, entry.place.lat, lon, lat) < 0.0432
    assert entry.place.size_px == size_px


def test_1_52_a_site_in_the_overlap_of_four_tiles_gives_one_sample_with_one_look_a_date() -> None:
    lon, lat = 11.99, 45.0
    tiles = [
        around(f"{name}{day}", epsg, lon, lat, dx=dx, dy=dy, day=day)
        for name, epsg, dx, dy in (
            ("a", 32632, 50_000.0, 50_000.0),
            ("b", 32632, 50_000.0, -50_000.0),
            ("c", 32633, -50_000.0, 50_000.0),
            ("d", 32633, -50_000.0, -50_000.0),
        )
        for day in (0, 100)
    ]
    radars = {day: radar(f"r{day}", day=day) for day in (0, 100)}
    pairs = [pair(s2, radars[int(s2.id[1:])]) for s2 in tiles]
    drawn = draw_samples([*tiles, *radars.values()], pairs, sites=[site(lon, lat)], looks="seasons")
    (sample,) = drawn.samples
    assert [f"{look.acquired:%j}" for look in sample.looks] == ["032", "132"]
    assert len({look.s2_id[0] for look in sample.looks}) == 1
    assert sample.place.epsg == 32632


@pytest.mark.parametrize(
    ("lon", "lat", "zones", "expected"),
    [
        (11.999, 45.0, (32632, 32633), 32632),
        (12.001, 45.0, (32632, 32633), 32633),
        (4.0, 60.0, (32631, 32632), 32632),
        (8.0, 78.0, (32631, 32633), 32631),
        (10.0, 78.0, (32631, 32633), 32633),
        (20.0, -10.0, (32733, 32734), 32734),
    ],
)
def test_1_91_1_92_the_zone_of_the_centre_is_taken_where_two_see_it(
    lon: float, lat: float, zones: tuple[int, int], expected: int
) -> None:
    first, second = (around(f"{name}", zone, lon, lat) for name, zone in zip("ab", zones, strict=True))
    assert [zone for zone, _ in tiles_of(site(lon, lat), first, second)] == [expected]
    assert [zone for zone, _ in tiles_of(site(lon, lat), second, first)] == [expected]


def test_the_zone_beyond_serves_where_its_own_has_no_scene() -> None:
    assert tiles_of(site(12.001, 45.0), around("a", 32632, 12.001, 45.0)) == [(32632, {"a"})]


def test_then_the_tile_with_most_pairs_then_the_nearest_is_taken() -> None:
    near, far = around("n", 32632, 9.0, 45.0), around("f", 32632, 9.0, 45.0, dx=40_000.0)
    assert tiles_of(site(9.0, 45.0), near, far) == [(32632, {"n"})]
    later = replace(far, id="f2", acquired=START + timedelta(days=1), ends=START + timedelta(days=1))
    assert tiles_of(site(9.0, 45.0), near, far, later) == [(32632, {"f"})]


@pytest.mark.parametrize("lon", [179.995, -179.995, -180.0])
@pytest.mark.parametrize("footprint", [WORLD, box(170, -30, 190, 0), box(-190, -30, -170, 0)])
def test_1_90_sites_beside_the_antimeridian_find_their_tile(lon: float, footprint: object) -> None:
    s2, s1 = around("a", 32760, 180.0, -17.0), radar(footprint=footprint)
    found, skipped = candidates_at([site(lon, -17.0)], [s2, s1], [pair(s2, s1)])
    assert skipped == []
    assert haversine_km(found[0].place.lon, found[0].place.lat, lon, -17.0) < 0.0432


def test_1_94_longitude_and_latitude_are_not_taken_for_each_other() -> None:
    with pytest.raises(SceneError, match="latitude 120"):
        site(10.0, 120.0)
    assert tiles_of(site(10.0, 60.0), around("a", 32632, 10.0, 60.0), around("b", 32638, 60.0, 10.0)) == [
        (32632, {"a"})
    ]
    assert tiles_of(site(10.0, 60.0), around("b", 32640, 60.0, 10.0)) == []


def test_sites_without_tile_or_pair_are_listed_with_the_reason() -> None:
    s2, s1 = around("a", 32632, 9.0, 45.0), radar(footprint=box(9.0, 40, 10, 50))
    sites = [site(9.2, 45.0, key="good"), site(8.8, 45.0, key="unpaired"), site(30.0, 45.0, key="elsewhere")]
    found, skipped = candidates_at(sites, [s2, s1], [pair(s2, s1)])
    assert [entry.site for entry in found] == [sites[0]]
    assert [(row.id, row.reason, row.stage) for row in skipped] == [
        ("elsewhere", "no-tile", "sample"),
        ("unpaired", "no-pair", "sample"),
    ]
    assert candidates_at(sites[::-1], [s1, s2], [pair(s2, s1)]) == (found, skipped)


def world_of_sites(n: int = 12) -> tuple[list[Scene], list[Pair], list[Site]]:
    s2, s1 = around("a", 32632, 9.0, 45.0), radar()
    sites = [
        site(
            8.7 + 0.05 * number,
            45.0,
            key=f"k{number:02d}",
            stratum="north" if number % 3 else "south",
            inclusion_probability=0.01 if number % 3 else 0.04,
            split=("train", "val", "test")[number % 3],
            block=f"block{number}",
        )
        for number in range(n)
    ]
    return [s2, s1], [pair(s2, s1)], sites


def test_samples_keep_what_their_site_was_drawn_with() -> None:
    scenes, pairs, sites = world_of_sites()
    drawn = draw_samples(scenes, pairs, sites=sites, buffer_km=100.0, val=0.0, test=0.9)
    assert (len(drawn.samples), drawn.n_candidates, drawn.n_in_buffer) == (12, 12, 0)
    assert drawn.available == {"north": 8, "south": 4}
    by_block = {row.block: row for row in drawn.samples}
    mean = (8 / 0.01 + 4 / 0.04) / 12
    for entry in sites:
        sample = by_block[entry.block]
        assert (sample.split, sample.stratum) == (entry.split, entry.stratum)
        assert sample.inclusion_probability == entry.inclusion_probability
        assert sample.weight == pytest.approx(1 / entry.inclusion_probability / mean)


def test_a_further_draw_multiplies_the_chances() -> None:
    scenes, pairs, sites = world_of_sites()
    drawn = draw_samples(scenes, pairs, sites=sites, count=4, allocation="equal", seed=3)
    assert sorted(row.stratum for row in drawn.samples) == ["north", "north", "south", "south"]
    assert {(row.stratum, round(row.inclusion_probability, 9)) for row in drawn.samples} == {
        ("north", round(0.01 * 2 / 8, 9)),
        ("south", round(0.04 * 2 / 4, 9)),
    }


def test_all_sites_are_taken_where_no_count_is_given_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geossl_data.sampling.draw.DEFAULT_COUNT", 5)
    scenes, pairs, sites = world_of_sites()
    assert len(draw_samples(scenes, pairs, sites=sites).samples) == 12
    assert len(draw_samples(scenes, pairs, size=264).samples) == 5


def test_sites_on_top_of_each_other_are_listed() -> None:
    scenes, pairs, sites = world_of_sites(2)
    twice = replace(sites[0], key="again", lon=sites[0].lon + 0.001)
    drawn = draw_samples(scenes, pairs, sites=[*sites, twice])
    assert len(drawn.samples) == 2
    assert [row.reason for row in drawn.skipped] == ["too-close"]
    assert drawn.skipped[0].id in ("again", "k00")


def test_sites_of_another_size_or_without_any_pair_are_refused() -> None:
    scenes, pairs, sites = world_of_sites()
    with pytest.raises(SamplingError, match="drawn beforehand are 264 px wide, 96 px asked for; give --size 264"):
        draw_samples(scenes, pairs, sites=sites, size=96)
    with pytest.raises(
        SamplingError, match=r"none of 1 places drawn beforehand has a pair; far: .* no Sentinel-2 tile"
    ):
        draw_samples(scenes, pairs, sites=[site(100.0, 45.0, key="far")])
    with pytest.raises(SamplingError, match="different sizes"):
        candidates_at([sites[0], replace(sites[1], size_px=96)], scenes, pairs)


def test_1_95_a_site_that_is_always_cloudy_yields_its_least_cloudy_date() -> None:
    clouds = {0: 99.0, 1: 93.0, 2: 97.0}
    tiles = [
        replace(around(f"a{day}", 32632, 9.0, 45.0, day=day), cloud_percent=cloud) for day, cloud in clouds.items()
    ]
    radars = [radar(f"r{day}", day=day) for day in clouds]
    pairs = [pair(s2, s1) for s2, s1 in zip(tiles, radars, strict=True)]
    (sample,) = draw_samples([*tiles, *radars], pairs, sites=[site(9.0, 45.0)]).samples
    assert [look.s2_id for look in sample.looks] == ["a1"]


def test_sites_outside_the_area_are_left_out() -> None:
    scenes, pairs, sites = world_of_sites()
    drawn = draw_samples(scenes, pairs, sites=sites, area=box(8.6, 44, 8.81, 46))
    assert sorted(row.block for row in drawn.samples) == ["block0", "block1", "block2"]


def test_the_tie_rule_reaches_the_looks() -> None:
    tiles = [
        replace(around(f"a{day}", 32632, 9.0, 45.0, day=day), cloud_percent=cloud)
        for day, cloud in ((0, 1.0), (1, 50.0))
    ]
    radars = [radar("r0", day=3), radar("r1", day=1)]
    pairs = [pair(s2, s1) for s2, s1 in zip(tiles, radars, strict=True)]
    for tie, expected in (("clearest", "a0"), ("nearest", "a1")):
        (sample,) = draw_samples([*tiles, *radars], pairs, sites=[site(9.0, 45.0)], tie=tie).samples  # type: ignore[arg-type]
        assert [look.s2_id for look in sample.looks] == [expected]
