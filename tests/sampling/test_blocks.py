"""Places inside one block of every band: against brute force over pixels, and what they count for."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely import box

from geossl_data.bands import BANDS, S2_BANDS
from geossl_data.errors import SamplingError
from geossl_data.grid import Grid, haversine_km, square_lonlat, to_lonlat
from geossl_data.records import Look, Pair, Place, Scene, Site
from geossl_data.sampling.candidates import Candidate, survey
from geossl_data.sampling.draw import draw, ground_of
from geossl_data.sampling.looks import choose_looks
from geossl_data.sampling.pool import Pool, make_pool
from geossl_data.sampling.site_candidates import MOST_MOVED_M, candidates_at
from geossl_data.sampling.split_distance import split_distance_km
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.strategies import ground_shares
from geossl_data.sampling.tile_grids import (
    TileGrid,
    block_spans,
    blocked_squares,
    nearest_in,
    plain_squares,
    tile_grid,
)

START = datetime(2022, 6, 1, 10, tzinfo=UTC)
ZONE, X, Y, FULL = 32632, 399_960.0, 5_000_040.0, 109_800
WORLD = box(-180, -89, 180, 89)


def grids(
    x: float = X,
    y: float = Y,
    *,
    width_m: int = FULL,
    height_m: int | None = None,
    moved: dict[int, tuple[float, float]] | None = None,
) -> dict[int, Grid]:
    """The grids of the three resolutions; moved: resolution → metres by which its corner lies west and north."""
    found = {}
    for step in (10, 20, 60):
        west, north = (moved or {}).get(step, (0, 0))
        width, height = (-(-int(side) // step) for side in (width_m + west, (height_m or width_m) + north))
        found[step] = Grid(ZONE, x - west, y + north, step, width, height)
    return found


def is_in_one_block(x: float, y: float, size_px: int, grid: Grid) -> bool:
    """Whether a place's window touches one block of 512 pixels of a raster, by its pixels."""
    column, row = (x - grid.x) / grid.resolution_m, (grid.y - y) / grid.resolution_m
    side = size_px * 10 / grid.resolution_m
    assert column % 1 == row % 1 == side % 1 == 0, "whole pixels"
    assert column >= 0
    assert column + side <= grid.width
    assert row >= 0
    assert row + side <= grid.height
    return column // 512 == (column + side - 1) // 512 and row // 512 == (row + side - 1) // 512


def brute(start: float, length: float, side: int, origins: dict[int, float]) -> set[float]:
    """All positions along one axis, metres from `start`, whose pixels lie in one block of each resolution."""
    return {
        at
        for at in np.arange(0.0, length - side + 1e-6, 60.0).tolist()
        if all(
            (start + at - x) // (512 * step) == (start + at + side - 1 - x) // (512 * step)
            for step, x in origins.items()
        )
    }


offsets = st.tuples(st.integers(0, 600), st.integers(0, 600))


@settings(max_examples=80, deadline=None)
@given(
    width=st.integers(60, 2600),
    height=st.integers(60, 2600),
    size=st.integers(2, 85).map(lambda steps: 6 * steps),
    tens=offsets,
    twenties=offsets,
    sixties=offsets,
    is_common=st.booleans(),
    wanted=st.lists(st.floats(-3000, 28_000), min_size=1, max_size=8),
)
def test_every_square_lies_in_one_block_of_each_resolution_and_none_is_missed(
    width: int,
    height: int,
    size: int,
    tens: tuple[int, int],
    twenties: tuple[int, int],
    sixties: tuple[int, int],
    is_common: bool,
    wanted: list[float],
) -> None:
    moved = (
        {}
        if is_common
        else {step: (float(step * a), float(step * b)) for step, (a, b) in ((10, tens), (20, twenties), (60, sixties))}
    )
    rasters = grids(width_m=width * 10, height_m=height * 10, moved=moved)
    tile = tile_grid(list(rasters.values()))
    assert isinstance(tile, TileGrid)
    west, south, east, north = tile.bounds
    side = size * 10
    spans = block_spans(tile, rasters.values(), float(side))
    allowed = (
        brute(west, east - west, side, {step: grid.x for step, grid in rasters.items()}),
        brute(-north, north - south, side, {step: -grid.y for step, grid in rasters.items()}),
    )
    for found, expected in zip(spans, allowed, strict=True):
        inside = [at for low, high in found.tolist() for at in np.arange(low, high + 1, 60.0).tolist()]
        assert sorted(expected) == inside
        if inside:
            nearest = nearest_in(found, np.array(wanted))
            assert set(nearest.tolist()) <= expected
            least = [min(abs(at - one) for at in expected) for one in wanted]
            assert np.abs(nearest - wanted).tolist() == pytest.approx(least)
    squares, plain = blocked_squares(tile, rasters.values(), float(side)), plain_squares(tile, float(side))
    assert squares.are_in_blocks == all(allowed)
    assert squares.km2 * len(squares.corners) == pytest.approx(plain.km2 * len(plain.corners))
    if not all(allowed):
        assert squares.corners.tolist() == plain.corners.tolist()
        return
    for x, y in squares.corners[:: max(1, len(squares.corners) // 40)].tolist():
        assert all(is_in_one_block(x, y, size, grid) for grid in rasters.values())
    for axis, expected in ((squares.corners[:, 0] - west, allowed[0]), (north - squares.corners[:, 1], allowed[1])):
        at = np.unique(axis)
        assert set(at.tolist()) <= expected
        assert (np.diff(at) >= side).all()
        most, free = 0, -1.0
        for one in sorted(expected):
            most, free = (most + 1, one + side) if one >= free else (most, free)
        assert len(at) == most, "as many as fit"


@pytest.mark.parametrize(
    ("size", "each_way", "spare"), [(264, 21, 1), (510, 14, 0), (252, 42, 0), (96, 107, 0), (60, 171, 0), (12, 901, 0)]
)
def test_a_full_tile_holds_so_many(size: int, each_way: int, spare: int) -> None:
    """21 whole blocks each way and one of 228 pixels, which holds none of 264 px, one of 210 and so on.

    A block begins 0, 40 or 20 m before the lattice goes on, so that one of 510 px finds room in two of three.
    """
    rasters = grids()
    tile = tile_grid(list(rasters.values()))
    assert isinstance(tile, TileGrid)
    squares = blocked_squares(tile, rasters.values(), size * 10.0)
    assert len(squares.corners) == each_way**2
    assert all(
        is_in_one_block(x, y, size, grid) for x, y in squares.corners[::37].tolist() for grid in rasters.values()
    )
    if spare:
        assert len(squares.corners) / len(plain_squares(tile, size * 10.0).corners) == pytest.approx(0.262, abs=0.001)


def test_a_block_of_1024_pixels_holds_what_a_block_of_512_does() -> None:
    rasters = grids()
    tile = tile_grid(list(rasters.values()))
    assert isinstance(tile, TileGrid)
    for x, y in blocked_squares(tile, rasters.values(), 2640.0).corners.tolist():
        for grid in rasters.values():
            column, row = (x - grid.x) / grid.resolution_m, (grid.y - y) / grid.resolution_m
            side = 2640 / grid.resolution_m
            assert column // 1024 == (column + side - 1) // 1024
            assert row // 1024 == (row + side - 1) // 1024


# ------------------------------------------------------------------------------------------------ candidates


def s2(name: str, *, day: int = 0, **where: object) -> Scene:
    rasters = grids(**where)  # type: ignore[arg-type]
    time = START + timedelta(days=day)
    outline = rasters[10]
    return Scene(
        id=name,
        collection="sentinel-2-l2a",
        sensor="s2",
        acquired=time,
        ends=time,
        footprint=square_lonlat(ZONE, outline.x, outline.y, outline.width * 10.0),
        hrefs={band: f"{name}/{band}.tif" for band in S2_BANDS},
        grids={band: rasters[BANDS[band].resolution_m] for band in S2_BANDS},
        cloud_percent=5.0,
    )


def s1(name: str = "r", *, day: int = 0, footprint: object = WORLD) -> Scene:
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


def pair(first: Scene, second: Scene) -> Pair:
    return Pair(
        s2_id=first.id,
        s1_id=second.id,
        s2_acquired=first.acquired,
        s1_acquired=second.acquired,
        gap_hours=(second.acquired - first.acquired) / timedelta(hours=1),
        overlap=1.0,
        rank=0,
        n_candidates=1,
    )


def any_date(pairs: Sequence[Pair]) -> tuple[Look, ...]:
    return choose_looks("single", pairs, {})


def pool_of(optical: Sequence[Scene], size: int, *, snap: str = "block", **given: object) -> Pool:
    radar = s1()
    pairs = [pair(one, radar) for one in optical]
    values = {"choose": any_date, "rule": SplitRule(), "size": size, "snap": snap} | given
    return make_pool([*optical, radar], pairs, **values)  # type: ignore[arg-type]


def assert_in_blocks(places: Iterable[Place], scene: Scene) -> None:
    for place in places:
        assert all(is_in_one_block(place.x, place.y, place.size_px, grid) for grid in scene.grids.values())


@pytest.mark.parametrize("size", [60, 264])
def test_candidates_lie_in_blocks_and_count_with_the_ground_of_the_tile(size: int) -> None:
    scene = s2("a", width_m=40_020)
    plain, snapped = pool_of([scene], size, snap="none"), pool_of([scene], size)
    assert_in_blocks((candidate.place for candidate in snapped.candidates), scene)
    assert all(candidate.is_in_block for candidate in snapped.candidates)
    assert not any(candidate.is_in_block for candidate in plain.candidates)
    assert 0 < len(snapped) < len(plain)
    assert sum(snapped.ground_km2.values()) == pytest.approx(sum(plain.ground_km2.values()))
    assert (plain.pitch_m, ground_of(plain).share) == (None, None)


def test_ground_without_a_pair_counts_as_much_as_before() -> None:
    scene = s2("a", width_m=40_020)
    west, south, east, north = scene.footprint.bounds
    radar = s1(footprint=box(west - 1, south - 1, (west + east) / 2, north + 1))
    found = survey([scene, radar], [pair(scene, radar)], 264, snap="block")
    assert 0 < len(found.candidates) < len(found.candidates) + len(found.bare_lon) == 64
    assert found.km2.sum() + found.bare_km2.sum() == pytest.approx(15 * 15 * 6.9696)


@pytest.mark.parametrize("size", [60, 96, 126, 180, 264, 504])
def test_ground_that_two_tiles_show_counts_once_though_few_squares_overlap(size: int) -> None:
    """Real neighbours: 100,020 m apart, so that blocks of one lie half-way between those of the other."""
    pool = pool_of([s2("a", height_m=41_040), s2("b", x=X + 100_020, height_m=41_040)], size)
    ground, pitch = ground_of(pool), pool.pitch_m
    assert ground.share is not None
    assert pitch is not None
    x, y = ground.x - X + size * 5, Y - ground.y + size * 5
    inside = (y > 10_000) & (y < 30_000)
    lone = inside & (x > 20_000) & (x < 80_000)
    twice = inside & (x > 100_020 + pitch / 2 - 120) & (x < 107_520 - pitch / 2 + 120)
    assert twice.any()
    assert ground.share[lone].mean() > 0.89
    assert ground.share[twice].mean() / ground.share[lone].mean() == pytest.approx(0.5, rel=0.05)
    assert ground.share.sum() * (pitch / 1000) ** 2 == pytest.approx(209.82 * 41.04, rel=0.12)
    if size == 264:
        assert ground_shares(replace(ground, share=None)).mean() > 0.99, "hardly any two squares overlap"


def test_uniform_draws_by_ground_and_weights_add_up() -> None:
    first, second = s2("a"), s2("b", x=X + 100_020)
    pool = pool_of([first, second], 264)
    drawn = draw(pool, ground_of(pool), strategy="uniform", count=200, seed=3)
    chance = {one.place: one.inclusion_probability for one in drawn.samples}
    lone = [value for place, value in chance.items() if place.x < X + 90_000]
    double = [value for place, value in chance.items() if X + 101_500 < place.x < X + 106_000]
    assert np.mean(double) == pytest.approx(np.mean(lone) / 2, rel=0.15)
    assert np.ptp([one.weight for one in drawn.samples]) < 0.1, "chance by ground makes equal weights"


def test_a_tile_whose_bands_leave_no_room_keeps_its_squares() -> None:
    scene = s2("a", width_m=40_020, moved={20: (2560.0, 2560.0), 60: (2580.0, 2580.0)})
    assert len(pool_of([scene], 252).candidates) > 0
    assert all(entry.is_in_block for entry in pool_of([scene], 60).candidates)
    off = replace(
        scene,
        grids={
            **scene.grids,
            "B01": replace(scene.grids["B01"], x=X, y=Y),
            "B02": replace(scene.grids["B02"], x=X - 1280, y=Y + 1280),
        },
    )
    off = replace(off, grids={**off.grids, "B03": replace(off.grids["B03"], x=X - 3840, y=Y + 3840)})
    kept, plain = pool_of([off], 264), pool_of([off], 264, snap="none")
    assert [entry.place for entry in kept.candidates] == [entry.place for entry in plain.candidates]
    assert not any(entry.is_in_block for entry in kept.candidates)
    assert kept.ground_km2 == pytest.approx(plain.ground_km2)
    assert ground_of(kept).share is not None


def test_scenes_of_one_tile_from_different_corners_all_have_their_blocks() -> None:
    one, other = s2("a", width_m=40_020), s2("b", day=5, width_m=40_020, moved={60: (600.0, 600.0)})
    assert tile_grid([*one.grids.values()]) == tile_grid([*other.grids.values()])
    for order in ([one, other], [other, one]):
        found = pool_of(order, 264).candidates
        assert found
        assert {len(entry.pairs) for entry in found} == {2}
        for scene in order:
            assert_in_blocks((entry.place for entry in found), scene)


@pytest.mark.parametrize("sites", [None, []])
def test_a_place_larger_than_a_block_is_refused(sites: list[Site] | None) -> None:
    given = [] if sites is None else [site(9.0, 45.0, size_px=516)]
    with pytest.raises(SamplingError, match=r"516 px does not fit a block of 512 px; give --size 510 or less"):
        pool_of([s2("a", width_m=40_020)], 516, sites=given or None)


# ------------------------------------------------------------------------------------------------ sites


def site(lon: float, lat: float, *, key: str = "site", size_px: int = 264, split: str = "train") -> Site:
    return Site(
        key=key,
        lon=lon,
        lat=lat,
        size_px=size_px,
        cell="c",
        stratum="S",
        weight=1.0,
        inclusion_probability=0.01,
        split=split,  # type: ignore[arg-type]
        block="b",
    )


def at_metres(east: float, south: float, **change: object) -> Site:
    """A site so many metres from the corner of the tile."""
    lon, lat = to_lonlat(ZONE, X + east, Y - south)
    return site(float(lon), float(lat), **change)  # type: ignore[arg-type]


def seated(
    sites: Sequence[Site], scene: Scene | None = None, radar: Scene | None = None, **given: object
) -> tuple[list[Candidate], list[Candidate]]:
    """The places of sites as they are and moved into blocks."""
    scene, radar = scene or s2("a"), radar or s1()
    plain, moved = (
        candidates_at(sites, [scene, radar], [pair(scene, radar)], snap=snap, **given)  # type: ignore[arg-type]
        for snap in ("none", "block")
    )
    assert plain[1] == moved[1]
    return plain[0], moved[0]


@settings(max_examples=40, deadline=None)
@given(st.floats(0.03, 0.97), st.floats(0.03, 0.97), st.sampled_from([12, 60, 96, 180, 264, 366, 504, 510]))
def test_a_site_moves_to_the_nearest_square_in_a_block(u: float, v: float, size: int) -> None:
    scene = s2("a")
    (plain,), (moved,) = seated([at_metres(u * FULL, v * FULL, size_px=size)], scene)
    half = size * 5
    wanted = (u * FULL - half, v * FULL - half)
    allowed = sorted(brute(0.0, FULL, size * 10, dict.fromkeys((10, 20, 60), 0.0)))
    nearest = [min(allowed, key=lambda at: abs(at - one)) for one in wanted]
    step = max(abs(plain.place.x - X - nearest[0]), abs(Y - plain.place.y - nearest[1]))
    if step > MOST_MOVED_M + 60:
        assert size == 510, "every other size finds room in each block"
        assert moved == plain
        return
    assume(step < MOST_MOVED_M - 60)
    at = (moved.place.x - X, Y - moved.place.y)
    assert [abs(one - other) for one, other in zip(at, wanted, strict=True)] == pytest.approx(
        [abs(one - other) for one, other in zip(nearest, wanted, strict=True)], abs=1e-3
    )
    assert_in_blocks([moved.place], scene)
    assert (moved.site, moved.pairs, moved.is_in_block) == (plain.site, plain.pairs, True)


@pytest.mark.parametrize("size", [12, 60, 264, 366, 504])
def test_no_site_on_a_real_tile_moves_further_than_half_a_side_and_60_m_but_at_the_last_block(size: int) -> None:
    rasters = grids()
    tile = tile_grid(list(rasters.values()))
    assert isinstance(tile, TileGrid)
    spans, _ = block_spans(tile, rasters.values(), size * 10.0)
    wanted = np.arange(0.0, FULL - size * 10 + 1, 10.0)
    moved = np.abs(nearest_in(spans, wanted) - wanted)
    assert moved.max() <= MOST_MOVED_M
    assert moved[wanted < spans[-1][1]].max() <= size * 5 + 30
    assert moved.max() > min(size * 5 - 30, 2000)


def test_no_site_moves_further_than_2_6_km() -> None:
    """The second block from the corner has no room for 510 px: the squares around it begin at 0 and at 10,260 m."""
    far, near = (at_metres(left + 2550, 2550, size_px=510) for left in (7620, 7680))
    (plain,), (moved,) = seated([far])
    assert moved == plain
    (plain,), (moved,) = seated([near])
    assert (plain.place.x - X, moved.place.x - X, moved.is_in_block) == (7680, 10_260, True)


def test_a_site_in_a_block_already_stays_where_it_is() -> None:
    (plain,), (moved,) = seated([at_metres(2600, 2600)])
    assert plain.place == moved.place
    assert (plain.is_in_block, moved.is_in_block) == (False, True)


def test_a_place_stays_where_its_block_has_fewer_pairs_or_lies_outside_the_area() -> None:
    across = at_metres(5120 + 500, 2600)
    (plain,), (moved,) = seated([across])
    assert moved.place.x - plain.place.x == 840.0
    lon = float(to_lonlat(ZONE, X + 7700, Y - 2600)[0])
    assert seated([across], radar=s1(footprint=box(0, 40, lon - 0.002, 50)))[1] == [plain] != [moved]
    east = float(to_lonlat(ZONE, X + 5120 + 600, Y - 2600)[0])
    assert seated([across], area=box(0, 40, east, 50))[1] == [plain]


def test_a_tile_that_leaves_no_room_leaves_its_sites_alone() -> None:
    scene = s2("a")
    odd = {
        **scene.grids,
        **{band: replace(scene.grids[band], x=X - 1280 * n) for n, band in enumerate(("B02", "B03", "B04", "B08"))},
    }
    plain, moved = seated([at_metres(50_000, 50_000)], replace(scene, grids=odd))
    assert plain == moved


def test_of_two_sites_that_would_come_too_near_to_each_other_the_first_moves() -> None:
    west, east, *near = (5200, 1400), (9600, 3700), (32_040, 1400), (29_400, 1400)
    for first, second in ((west, east), (east, west)):
        alone = [seated([at_metres(*one)])[1][0] for one in (first, second)]
        assert [entry.is_in_block for entry in alone] == [True, True]
        assert abs(alone[0].place.x - alone[1].place.x) == 2400, "they would overlap"
        others = [at_metres(*one, key=f"n{one[0]}") for one in near]
        plain, moved = seated([at_metres(*first, key="a"), at_metres(*second, key="b"), *others])
        assert [moved[0].place, moved[1]] == [alone[0].place, plain[1]]
        assert [entry.is_in_block for entry in moved] == [True, False, True, True]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([96, 264]), st.floats(0.0, 6.0))
def test_splits_stay_as_far_apart_as_they_were_drawn_and_no_place_is_lost(
    seed: int, size: int, buffer_km: float
) -> None:
    rng = np.random.default_rng(seed)
    sites: list[Site] = []
    least = max(size / 100 * 1.5, 0.1)
    for number, (east, south) in enumerate(rng.uniform(5_000, 60_000, (60, 2)).tolist()):
        split = "train" if rng.random() < 0.7 else "test"
        new = at_metres(east, south, key=f"k{number:02d}", size_px=size, split=split)
        apart = [(float(haversine_km(new.lon, new.lat, one.lon, one.lat)), one.split != split) for one in sites]
        if all(km > least + (buffer_km if is_other else 0) for km, is_other in apart):
            sites.append(new)
    scene = s2("a")
    pool = pool_of([scene], size, sites=sites)
    assert len(pool) == len(sites)
    drawn = draw(pool, ground_of(pool)).samples
    assert len(drawn) == len(sites), "none overlaps another"

    def apart_km(things: Sequence[tuple[float, float, str]]) -> float:
        return min(split_distance_km(*zip(*things, strict=True)).values(), default=np.inf)  # type: ignore[arg-type]

    before = apart_km([(one.lon, one.lat, one.split) for one in sites])
    after = apart_km([(one.place.lon, one.place.lat, one.split) for one in drawn])
    assert after >= before - 0.1
    places = [one.place for one in drawn]
    assert all(max(abs(a.x - b.x), abs(a.y - b.y)) >= size * 10 for a, b in combinations(places, 2))
    in_block = sum(candidate.is_in_block for candidate in pool.candidates)
    assert in_block > len(sites) / 2
    assert_in_blocks((entry.place for entry in pool.candidates if entry.is_in_block), scene)
