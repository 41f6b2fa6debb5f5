"""What can be drawn, what cannot and why, and what strata count with."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from shapely import box

from geossl_data.bands import BANDS, S2_BANDS
from geossl_data.errors import SamplingError
from geossl_data.grid import Grid, square_lonlat
from geossl_data.records import Look, Pair, Scene
from geossl_data.sampling.draw import draw, draw_samples, ground_of
from geossl_data.sampling.looks import choose_looks
from geossl_data.sampling.measures import Measures
from geossl_data.sampling.pool import NO_STRATUM, make_pool
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.strategies import Rules

START = datetime(2022, 6, 1, 10, tzinfo=UTC)
RULE = SplitRule(block_km=10.0)
X, Y, SIDE = 399_960.0, 5_000_040.0, 10_800.0


def s2(name: str, *, x: float = X, y: float = Y, epsg: int = 32632, day: int = 0, cloud: float = 5.0) -> Scene:
    time = START + timedelta(days=day)
    return Scene(
        id=name,
        collection="sentinel-2-l2a",
        sensor="s2",
        acquired=time,
        ends=time,
        footprint=square_lonlat(epsg, x, y, SIDE),
        hrefs={band: f"{name}/{band}.tif" for band in S2_BANDS},
        grids={
            band: Grid(epsg, x, y, step := BANDS[band].resolution_m, int(SIDE) // step, int(SIDE) // step)
            for band in S2_BANDS
        },
        cloud_percent=cloud,
    )


def s1(name: str, *, day: int = 0, footprint: object = None) -> Scene:
    time = START + timedelta(days=day, hours=3)
    return Scene(
        id=name,
        collection="sentinel-1-rtc",
        sensor="s1",
        acquired=time,
        ends=time,
        footprint=box(-180, -89, 180, 89) if footprint is None else footprint,  # type: ignore[arg-type]
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


def west_east(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Two strata with a border through the middle of the tile, and none in its southernmost rows."""
    named = np.where(lon < 7.8, "west", "east")
    return np.where(lat < 45.07, "", named).astype(np.str_)


def test_ground_without_a_pair_is_in_the_ledger_and_counts_for_its_stratum() -> None:
    scene = s2("a")
    west, south, east, north = scene.footprint.bounds
    radar = s1("r", footprint=box(west - 1, south - 1, (west + east) / 2, north + 1))
    pool = make_pool([scene, radar], [pair(scene, radar)], choose=any_date, rule=RULE, size=60, strata=west_east)
    assert pool.n_rejected("no-pair") + len(pool) == 18 * 18
    assert pool.n_rejected("no-pair") >= 18 * 8
    assert set(pool.available) <= {"west", NO_STRATUM, "east"}
    assert sum(pool.ground_km2.values()) == pytest.approx(18 * 18 * 0.36)
    gone = pool.rejected
    assert (gone.lon > (west + east) / 2 - 0.02).all()
    assert len(gone.lon) == len(gone.lat) == len(gone.stratum) == len(gone.reason)


def test_a_scarce_stratum_keeps_its_target_and_the_shortfall_shows() -> None:
    first, second = s2("a"), s2("b", x=X + 50_000)
    radars = [s1("r1"), s1("r2", footprint=box(8.3, 45.13, 9.0, 46.0))]

    def halves(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        return np.where(lon < 8.1, "clear", "cloudy").astype(np.str_)

    pool = make_pool(
        [first, second, *radars],
        [pair(first, radars[0]), pair(second, radars[1])],
        choose=any_date,
        rule=RULE,
        size=60,
        strata=halves,
    )
    assert 0 < pool.available["cloudy"] < 100
    assert pool.ground_km2["clear"] == pytest.approx(pool.ground_km2["cloudy"])
    n = 2 * pool.available["cloudy"] + 40
    drawn = draw(pool, ground_of(pool), count=n)
    assert drawn.target == {"clear": n // 2, "cloudy": n // 2}
    got = {name: sum(one.stratum == name for one in drawn.samples) for name in drawn.target}
    assert got == {"clear": n - pool.available["cloudy"], "cloudy": pool.available["cloudy"]}


def test_land_that_was_asked_for_counts_where_no_scene_shows_it() -> None:
    scene, radar = s2("a"), s1("r")
    pool = make_pool(
        [scene, radar],
        [pair(scene, radar)],
        choose=any_date,
        rule=RULE,
        size=60,
        land_km2={"N45E000": 50.0, "N45W030": 1000.0},
    )
    assert pool.ground_km2 == pytest.approx({"N45E000": 18 * 18 * 0.36, "N45W030": 1000.0})
    drawn = draw(pool, ground_of(pool, rules=Rules(power=1.0)), count=100)
    assert drawn.target["N45W030"] > 80
    assert len(drawn.samples) == 100


def test_sea_and_buffer_are_said() -> None:
    # At Savona the coast runs through the tile.
    scene, radar = s2("a", x=452_040.0, y=4_911_000.0), s1("r")
    scenes, pairs = [scene, radar], [pair(scene, radar)]
    everywhere = make_pool(scenes, pairs, choose=any_date, rule=RULE, size=60)
    land = make_pool(scenes, pairs, choose=any_date, rule=RULE, size=60, surface="land")
    assert 0 < land.n_rejected("sea") < len(everywhere)
    assert len(land) + land.n_rejected("sea") == len(everywhere)
    rule = SplitRule(block_km=2.0, val=0.3, test=0.3)
    kept = make_pool(scenes, pairs, choose=any_date, rule=rule, size=60, buffer_km=0.5)
    assert kept.n_rejected("buffer") == len(everywhere) - len(kept) > 0
    with pytest.raises(SamplingError, match="in the buffer between splits"):
        make_pool(scenes, pairs, choose=any_date, rule=rule, size=60, buffer_km=50.0)


def test_dates_that_no_place_has_are_one_line() -> None:
    scene, radar = s2("a"), s1("r")
    with pytest.raises(SamplingError, match="has the dates that --looks needs"):
        make_pool([scene, radar], [pair(scene, radar)], choose=lambda pairs: (), rule=RULE, size=60)


def test_what_was_measured_is_noted_and_not_a_number_is_nothing() -> None:
    scene, radar = s2("a"), s1("r")
    pool = make_pool([scene, radar], [pair(scene, radar)], choose=any_date, rule=RULE, size=120)
    n = len(pool)
    change = np.where(np.arange(n) % 2, np.arange(n) / 10, np.nan)
    measured = Measures(
        change=change, change_s2=change, change_s1=np.full(n, np.nan), entropy=np.ones(n), features=np.zeros((n, 2))
    )
    ground = ground_of(pool, measures=measured)
    drawn = draw(pool, ground, strategy="uniform", count=n, measures=measured)
    noted = {one.place: one for one in drawn.samples}
    for row, candidate in enumerate(pool.candidates):
        one = noted[candidate.place]
        assert one.change_score == (None if row % 2 == 0 else row / 10)
        assert (one.change_score_s1, one.spectral_entropy, one.drawn_by) == (None, 1.0, "uniform")


def test_a_strategy_of_ones_own_is_noted_by_its_name() -> None:
    from geossl_data.sampling.strategies import Draw, Ground

    def first(candidates: Ground, n: int, *, rng: np.random.Generator) -> Draw:
        return Draw(indices=np.arange(n), inclusion_probability=np.ones(n))

    scene, radar = s2("a"), s1("r")
    drawn = draw_samples([scene, radar], [pair(scene, radar)], strategy=first, count=3, size=60)
    assert {one.drawn_by for one in drawn.samples} == {"first"}
    assert drawn.target == {}
