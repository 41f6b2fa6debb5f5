"""What a draw covers: figures worked out by hand, and draws that must be told apart."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.errors import SamplingError
from geossl_data.evaluation.coverage import (
    CELL_SIZES_KM,
    Band,
    Drawing,
    cell_size_km,
    chi_square,
    coverage_of,
    equal_area_cells,
    landcover_shares,
    latitude_bands,
    strata_entropy,
)
from geossl_data.evaluation.coverage_tables import bands_table, compare, facts, strata_table
from geossl_data.sampling.land import LandPoints, is_land, land_pieces


def drawing(lon: np.ndarray, lat: np.ndarray, stratum: object = "a", **more: np.ndarray) -> Drawing:
    names = np.broadcast_to(np.asarray(stratum, dtype=np.str_), (len(lon),))
    return Drawing(lon=np.asarray(lon, float), lat=np.asarray(lat, float), stratum=names, **more)


def on_sphere(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-180, 180, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def on_land(n: int, seed: int = 0) -> Drawing:
    """Places spread evenly over the land that Sentinel-2 sees."""
    lon, lat, _, good = LandPoints(land_pieces(), (seed,)).take(0, 2 * n)
    return drawing(lon[good][:n], lat[good][:n])


def by_degrees(n: int, seed: int = 0) -> Drawing:
    """Places on land drawn evenly in degrees, as is often done: too many near the pole."""
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, 8 * n), rng.uniform(-56, 83, 8 * n)
    good = np.flatnonzero(is_land(lon, lat))[:n]
    return drawing(lon[good], lat[good])


# ------------------------------------------------------------------------------------------------- chi-square


@pytest.mark.parametrize("side", CELL_SIZES_KM[:5])
def test_cells_have_equal_area_and_about_the_side_asked_for(side: float) -> None:
    cells = equal_area_cells(side)
    area = np.diff(cells.edges) * 2 * np.pi * 6371.0088**2 / cells.columns
    np.testing.assert_allclose(area, area[0], rtol=1e-9)
    assert area[0] == pytest.approx(side**2, rel=0.1)


@given(st.floats(-180, 540), st.floats(-90, 90), st.sampled_from(CELL_SIZES_KM))
def test_every_point_lies_in_a_cell_that_holds_it(lon: float, lat: float, side: float) -> None:
    cells = equal_area_cells(side)
    number = int(cells.of(np.array([lon]), np.array([lat]))[0])
    ring = int(np.searchsorted(cells.first, number, side="right")) - 1
    column, width = number - int(cells.first[ring]), 360.0 / int(cells.columns[ring])
    turn = (lon + 180.0) % 360.0
    assert 0 <= number < cells.count
    assert cells.edges[ring] - 1e-12 <= math.sin(math.radians(lat)) <= cells.edges[ring + 1] + 1e-12
    assert column * width - 1e-9 <= turn <= (column + 1) * width + 1e-9


def test_chi_square_of_counts_worked_out_by_hand() -> None:
    """A pool of 100 here and 300 far away, 30 drawn of each: 15 and 45 expected, 15²/15 + 15²/45 = 20."""
    pool = drawing(np.repeat([0.0, 90.0], [100, 300]), np.zeros(400))
    drawn = drawing(np.repeat([0.0, 90.0], 30), np.zeros(60))
    found = chi_square(drawn, pool, cell_km=1000)
    assert found.statistic == pytest.approx(20.0)
    assert found.degrees_of_freedom == 1
    assert found.per_degree == pytest.approx(20.0)


def test_a_pools_weight_says_what_is_expected() -> None:
    pool = drawing(np.array([0.0, 90.0]), np.zeros(2), weight=np.array([1.0, 3.0]))
    drawn = drawing(np.repeat([0.0, 90.0], [15, 45]), np.zeros(60))
    assert chi_square(drawn, pool, cell_km=1000).statistic == pytest.approx(0.0)


def test_cells_that_expect_little_are_joined() -> None:
    """Ten cells that expect two places each make three groups of six and more."""
    lon = np.arange(10) * 20.0
    drawn = drawing(np.repeat(lon, 2), np.zeros(20))
    found = chi_square(drawn, drawing(lon, np.zeros(10)), cell_km=1000)
    assert (found.statistic, found.degrees_of_freedom) == (pytest.approx(0.0), 2)


def test_places_outside_of_the_pools_cells_count_against_the_draw() -> None:
    pool = drawing(np.repeat([0.0, 90.0], 50), np.zeros(100))
    inside = drawing(np.repeat([0.0, 90.0], 10), np.zeros(20))
    assert chi_square(inside, pool, cell_km=1000).statistic == pytest.approx(0.0)
    lost = drawing(np.repeat([0.0, -90.0], 10), np.zeros(20))
    assert chi_square(lost, pool, cell_km=1000).statistic == pytest.approx(20.0)


def test_a_draw_even_over_land_is_told_from_one_even_in_degrees() -> None:
    even, uneven = chi_square(on_land(20_000)), chi_square(by_degrees(20_000))
    assert even.degrees_of_freedom > 300
    # Within five standard deviations of chi-square: variance 2 for each degree of freedom.
    assert abs(even.per_degree - 1) < 5 * math.sqrt(2 / even.degrees_of_freedom)
    assert uneven.per_degree > 5


def test_many_draws_even_over_land_come_out_at_one_on_average() -> None:
    found = [chi_square(on_land(1000, seed), cell_km=1000.0) for seed in range(30)]
    spread = math.sqrt(2 / found[0].degrees_of_freedom / len(found))
    assert abs(np.mean([one.per_degree for one in found]) - 1) < 4 * spread


def test_the_sphere_as_pool_gives_one_for_random_draws_and_little_for_a_grid() -> None:
    pool = drawing(*on_sphere(50_000))
    assert chi_square(drawing(*on_sphere(2000, 1)), pool).per_degree == pytest.approx(1.0, abs=0.35)
    number = np.arange(2000)
    grid = drawing((number * 137.50776) % 360 - 180, np.degrees(np.arcsin((2 * number + 1) / 2000 - 1)))
    assert chi_square(grid, pool).per_degree < 0.5


def test_the_cells_suit_the_number_of_places() -> None:
    pool = drawing(*on_sphere(50_000))
    assert cell_size_km(10, pool) == CELL_SIZES_KM[0]
    sizes = [cell_size_km(n, pool) for n in (1000, 10_000, 100_000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]
    region = drawing(*(np.random.default_rng(0).uniform(0, 3, (2, 2000))))
    assert [cell_size_km(n, region) for n in (500, 2000)] == [100.0, 50.0]


# ---------------------------------------------------------------------------------------------------- figures


def test_entropy_of_strata_worked_out_by_hand() -> None:
    """Shares ½, ¼, ¼: 1.5 ln 2, of ln 3; 2^1.5 effective strata."""
    evenness, effective = strata_entropy(np.array(["a", "a", "b", "c"]))
    assert evenness == pytest.approx(1.5 * math.log(2) / math.log(3))
    assert effective == pytest.approx(2**1.5)


def test_strata_that_were_left_out_lower_the_evenness() -> None:
    drawn = np.array(["a", "b"])
    assert strata_entropy(drawn)[0] == pytest.approx(1.0)
    assert strata_entropy(drawn, of=np.array(["a", "b", "c", "d"]))[0] == pytest.approx(0.5)
    assert strata_entropy(np.array(["a", "a"])) == (0.0, pytest.approx(1.0))


@given(st.lists(st.sampled_from("abcdef"), min_size=1))
def test_evenness_stays_in_its_range(names: list[str]) -> None:
    evenness, effective = strata_entropy(np.array(names))
    assert -1e-12 <= evenness <= 1 + 1e-12
    assert 1 - 1e-12 <= effective <= len(set(names)) * (1 + 1e-12)


def test_figures_of_a_drawing_worked_out_by_hand() -> None:
    degree = 6371.0088 * math.pi / 180
    found = coverage_of(
        drawing(
            np.array([20.0, 21.0, 24.0, -30.0]),
            np.array([0.0, 0.0, 0.0, 0.0]),
            ["x", "x", "x", "y"],
            weight=np.array([1.0, 1.0, 1.0, 3.0]),
            entropy=np.array([1.0, np.nan, 2.0, np.nan]),
            change_score=np.full(4, np.nan),
            landcover=np.array(["crop", "tree", "crop", ""]),
        )
    )
    assert found.places == 4
    assert (found.commonest, found.commonest_share) == ("x", 0.75)
    assert found.nearest_km_min == pytest.approx(degree)
    assert found.nearest_km_median == pytest.approx(2 * degree)
    assert found.on_land == 0.75
    assert found.effective_share == pytest.approx(36 / (4 * 12))
    assert found.entropy == pytest.approx(1.5)
    assert math.isnan(found.change_score)
    assert found.landcover == {"crop": pytest.approx(2 / 3), "tree": pytest.approx(1 / 3)}


def test_no_place_has_no_figures_and_one_has_few() -> None:
    none = coverage_of(drawing(np.zeros(0), np.zeros(0)))
    assert none.places == 0
    assert all(math.isnan(value) for value in (none.on_land, none.nearest_km_min, none.strata_evenness))
    assert facts(none) == {}
    one = coverage_of(drawing(np.array([10.0]), np.array([50.0])))
    assert math.isnan(one.nearest_km_median)
    assert one.on_land == 1.0
    assert "nearest neighbour" not in facts(one)


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(SamplingError, match=r"split has shape \(2,\), longitudes have \(3,\)"):
        drawing(np.zeros(3), np.zeros(3), split=np.array(["train", "test"]))


# --------------------------------------------------------------------------------------------------- latitude


def test_a_band_that_lost_its_places_to_clouds_is_warned_of() -> None:
    """A pool even over four bands; a cloud filter took nine of ten places of the tropics of the north."""
    rng = np.random.default_rng(0)
    lat = np.repeat([40.0, 20.0, 10.0, -10.0], 500)
    pool = drawing(rng.uniform(0, 30, 2000), lat)
    kept = (lat != 10.0) | (rng.random(2000) < 0.1)
    bands = latitude_bands(drawing(pool.lon[kept], lat[kept]), pool)
    assert [band.name for band in bands] == ["30–45° N", "15–30° N", "0–15° N", "0–15° S"]
    assert [band.target for band in bands] == pytest.approx([0.25] * 4)
    assert sum(band.actual for band in bands) == pytest.approx(1.0)
    assert [band.is_short for band in bands] == [False, False, True, False]
    assert bands[2].ratio == pytest.approx(4 * bands[2].actual)
    rows = bands_table(bands)
    assert rows[0] == ("latitude", "target", "drawn", "ratio", "warning")
    assert [row[-1] for row in rows[1:]] == ["", "", "low", ""]


def test_a_warning_needs_enough_places_to_mean_something() -> None:
    pool = drawing(np.zeros(100), np.repeat([10.0, 50.0], [10, 90]))
    assert not any(band.is_short for band in latitude_bands(drawing(np.zeros(40), np.full(40, 50.0)), pool))
    assert [band.is_short for band in latitude_bands(drawing(np.zeros(60), np.full(60, 50.0)), pool)] == [False, True]


def test_a_draw_even_in_degrees_gives_the_pole_too_much() -> None:
    ratios = {band.name: band.ratio for band in latitude_bands(by_degrees(5000))}
    assert ratios["75–90° N"] > 2.5
    assert ratios["0–15° N"] < 0.85
    fair = {band.name: band for band in latitude_bands(on_land(5000))}
    assert 0.9 < fair["0–15° N"].ratio < 1.1
    assert not any(band.is_short for band in fair.values())
    assert bands_table(tuple(fair.values()))[0] == ("latitude", "target", "drawn", "ratio")


def test_bands_end_at_the_poles() -> None:
    bands = latitude_bands(drawing(np.zeros(2), np.array([90.0, -90.0])), drawing(np.zeros(1), np.zeros(1)))
    assert [band.name for band in bands] == ["75–90° N", "0–15° N", "75–90° S"]
    assert math.isnan(bands[0].ratio)
    assert bands[1] == Band(south=0, target=1.0, actual=0.0, is_short=False)


# ----------------------------------------------------------------------------------------------------- tables


def test_classes_come_by_share_and_the_unknown_are_not_counted() -> None:
    assert landcover_shares(np.array(["b", "a", "", "c", "c"])) == {"c": 0.5, "a": 0.25, "b": 0.25}
    assert landcover_shares(np.array(["", ""])) == landcover_shares(None) == {}


def test_a_comparison_has_a_row_for_each_strategy_and_one_for_the_candidates() -> None:
    pool = drawing(*on_sphere(3000), landcover=np.where(np.arange(3000) % 2, "crop", "tree"))
    some = Drawing(lon=pool.lon[:200], lat=pool.lat[:200], stratum=pool.stratum[:200], landcover=pool.landcover[:200])
    rows = compare({"uniform": some, "own": drawing(pool.lon[:100], pool.lat[:100])}, pool)
    heads, uniform, own, candidates = rows
    assert {len(row) for row in rows} == {len(heads)}
    assert [row[0] for row in rows] == ["strategy", "uniform", "own", "(candidates)"]
    told = dict(zip(heads, uniform, strict=True))
    assert (told["places"], told["crop"], told["tree"]) == ("200", "50 %", "50 %")
    assert "change" not in heads
    assert "entropy" not in heads
    assert dict(zip(heads, own, strict=True))["crop"] == "–"
    assert dict(zip(heads, candidates, strict=True))["chi²/dof"] == "–"


def test_all_drawings_of_a_comparison_use_the_same_cells() -> None:
    pool = drawing(*on_sphere(20_000))
    small, large = drawing(pool.lon[:100], pool.lat[:100]), drawing(pool.lon[:9000], pool.lat[:9000])
    side = cell_size_km(100, pool)
    assert cell_size_km(9000, pool) < side
    heads, _, row, _ = compare({"small": small, "large": large}, pool)
    shown = dict(zip(heads, row, strict=True))["chi²/dof"]
    assert shown == f"{chi_square(large, pool, cell_km=side).per_degree:.2f}"


def test_nothing_to_compare_is_a_header() -> None:
    assert compare({}) == (("strategy",),)
    heads, row = compare({"empty": drawing(np.zeros(0), np.zeros(0))})
    assert dict(zip(heads, row, strict=True))["places"] == "0"


def test_facts_say_what_they_compare_with() -> None:
    said = facts(coverage_of(on_land(2000)))
    assert said["on land"] == "100 %"
    assert "1000 km" in said["chi-square"] or "2000 km" in said["chi-square"]
    assert "land cover" not in said


def test_little_is_not_shown_as_none_nor_most_as_all() -> None:
    lon, lat = np.full(1000, 10.0), np.full(1000, 50.0)
    lon[0] = -30.0
    found = coverage_of(drawing(lon, lat, ["a"] * 4 + ["b"] * 996))
    assert facts(found)["on land"] == "99.9 %"
    assert facts(found)["commonest stratum"] == "b 99.6 %"


def test_counts_of_strata_stand_beside_their_target() -> None:
    rows = strata_table({"a": 10, "b": 5}, {"a": 10, "b": 3, "c": 1}, {"a": 1200, "b": 3, "c": 4})
    assert rows == (
        ("stratum", "candidates", "target", "drawn", "short of"),
        ("a", "1,200", "10", "10", ""),
        ("b", "3", "5", "3", "2"),
        ("c", "4", "0", "1", ""),
    )
    assert strata_table({}, {"a": 1}, {"a": 2}) == (("stratum", "candidates", "drawn"), ("a", "2", "1"))


def test_how_near_training_comes_to_testing_is_said_where_places_are_split() -> None:
    split = np.array(["train", "test", "val", "train"])
    places = drawing(np.array([0.0, 1.0, 0.1, 3.0]), np.zeros(4), split=split)
    degree = math.pi * 6371.0088 / 180
    assert coverage_of(places).train_test_km == pytest.approx(degree, rel=1e-6)
    assert facts(coverage_of(places))["train to test"] == "111 km at the nearest"
    unsplit = drawing(np.array([0.0, 1.0]), np.zeros(2))
    assert math.isnan(coverage_of(unsplit).train_test_km)
    assert "train to test" not in facts(coverage_of(unsplit))
    assert "train–test km" in compare({"one": places})[0]
    assert "train–test km" not in compare({"one": unsplit})[0]
