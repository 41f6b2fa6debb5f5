"""Places without a catalog: on land, apart, evenly, and the same for the same seed."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box

from geossl_data import tables
from geossl_data.errors import SamplingError
from geossl_data.grid import cell_name, from_lonlat, haversine_km, to_lonlat
from geossl_data.records import Site
from geossl_data.sampling import anywhere, seating
from geossl_data.sampling.anywhere import draw_places, land_area_km2, least_distance_km, site_square
from geossl_data.sampling.cities import Cities, CityRule, around, city_rule, density
from geossl_data.sampling.land import area_km2, is_land, land_polygons
from geossl_data.sampling.sites import Sites, make_sites
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.strata import Strata, strata_of, stratum
from geossl_data.sampling.strategies import allocate
from geossl_data.scenes.area import area_of_places

CHUKOTKA = box(170, 64, 192, 70)
"""Land on both sides of the antimeridian."""
ALPS = box(6, 45, 14, 48)


STRIPES = {"west": (6.0, 9.0), "middle": (9.0, 12.0), "east": (12.0, 13.0)}
DRAWN = [(130.3571, 31.4405), (-118.0842, 47.1416), (28.6373, 58.6573)]
"""Longitudes and latitudes of three sites, in the order of their keys."""
KEYS = [
    "0000U_0000R_000dcd7e",
    "0000U_0000R_000dcd7e",
    "0192D_1912L_27f4bb5b",
    "0583U_0091R_21e5f2fe",
    "0584D_0091R_3fce45a2",
]


def stripes(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """A layer of strata in stripes of longitude; silent from 13° to 100°, then four others by turns."""
    names = np.full(len(lon), "", dtype="U8")
    for name, (west, east) in STRIPES.items():
        names[(lon >= west) & (lon < east)] = name
    far = np.abs(lon) > 100
    names[far] = np.array(["p", "q", "r", "s"])[(lon[far] // 5 % 4).astype(int)]
    return names


def places(*positions: tuple[float, float]) -> Cities:
    lon, lat = np.array(positions).T
    return Cities(lon=lon, lat=lat, population=np.zeros(len(lon)))


def closest_km(sites: Sites) -> float:
    """Brute force over all pairs."""
    apart = haversine_km(sites.lon[:, None], sites.lat[:, None], sites.lon[None], sites.lat[None])
    np.fill_diagonal(apart, np.inf)
    return float(apart.min())


@pytest.mark.parametrize("strategy", ["uniform", "grid", "geography", "balanced", "cities"])
def test_sites_are_on_land_and_say_truly_where(strategy: str) -> None:
    sites = draw_places(1500, strategy=strategy, cities=city_rule("caco"), buffer_km=0.5)
    keys = sites.key.tolist()
    assert len(sites) == len(set(keys)) == 1500
    assert keys == sorted(keys)
    land = shapely.multipolygons(land_polygons())
    shapely.prepare(land)
    assert shapely.contains_xy(land, sites.lon, sites.lat).all()
    assert ((sites.lat >= -56) & (sites.lat <= 83)).all()
    rule = SplitRule(seed=0)
    for site in sites.records():
        assert site.key.startswith(f"{site.cell}_")
        assert site.cell == cell_name(site.lon, site.lat, 10.0)
        assert site.stratum == stratum(site.lon, site.lat)
        assert site.block == rule.block(site.lon, site.lat)
        assert site.split == rule.split(site.block)
    assert sites.weight.mean() == pytest.approx(1.0)
    assert set(sites.drawn_by) == {strategy}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 25.0]), st.sampled_from(["uniform", "geography", "grid"]))
def test_1_90_sites_keep_their_distance_also_across_the_antimeridian(
    seed: int, min_distance_km: float, strategy: str
) -> None:
    sites = draw_places(120, size=1002, strategy=strategy, area=CHUKOTKA, min_distance_km=min_distance_km, seed=seed)
    assert closest_km(sites) >= max(min_distance_km, 1.414 * 10.02)
    assert 10 < np.count_nonzero(sites.lon > 0) < 110
    assert ((sites.lon >= -180) & (sites.lon < 180)).all()
    assert len(set(sites.stratum.tolist())) > 1


@settings(max_examples=60, deadline=None)
@given(st.floats(-179, 179), st.floats(-55, 82), st.floats(0, 360), st.sampled_from([12, 264, 2046]), st.data())
def test_places_of_two_sites_at_the_least_distance_never_overlap(
    lon: float, lat: float, bearing: float, size: int, data: st.DataObject
) -> None:
    """Moved by 30 m towards each other on grids of any two neighbouring zones, their squares stay apart."""
    apart = least_distance_km(size, 0.0)
    dy, dx = apart / 111.195 * np.cos(np.radians(bearing)), apart / 111.195 * np.sin(np.radians(bearing))
    other_lat = lat + dy
    other_lon = lon + dx / np.cos(np.radians((lat + other_lat) / 2))
    zones = [32600 + int((lon + 180) // 6) % 60 + 1 + data.draw(st.integers(0, 1)) for _ in range(2)]
    zones = [min(zone, 32660) for zone in zones]
    half, squares = size * 5.0, []
    for x, y, zone in ((lon, lat, zones[0]), (other_lon, other_lat, zones[1])):
        east, north = from_lonlat(zone, x, y)
        east, north = east + data.draw(st.sampled_from([-30, 30])), north + data.draw(st.sampled_from([-30, 30]))
        square = box(east - half, north - half, east + half, north + half)
        outline = shapely.segmentize(square, half / 4)
        squares.append(shapely.transform(outline, lambda p, zone=zone: np.column_stack(to_lonlat(zone, *p.T))))
    assert not squares[0].intersects(squares[1])


def test_the_same_arguments_give_the_same_sites_and_a_seed_others() -> None:
    first = draw_places(300, area=ALPS, seed=1)
    assert first.records() == draw_places(300, area=ALPS, seed=1).records()
    assert not set(first.key.tolist()) & set(draw_places(300, area=ALPS, seed=2).key.tolist())


@pytest.mark.parametrize("strategy", ["uniform", "geography", "cities"])
@pytest.mark.parametrize("layer", [None, stripes])
def test_nothing_depends_on_how_many_proposals_are_looked_at_together(
    strategy: str, layer: Strata | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what is counted as rejected; also when strata are full, and pass on what they cannot take."""
    monkeypatch.setattr(seating, "GIVE_UP_AT_LEAST", 300)
    monkeypatch.setattr(seating, "GIVE_UP_SEATS", 1)
    monkeypatch.setattr(seating, "PATIENCE", 4_000)
    monkeypatch.setattr(anywhere, "PILOT", 5_000)
    around_tokyo = CityRule(cities=places((139.7, 35.7)), sigma_km=60.0, land_only=True, apart=False)

    def draw(count: int | None) -> tuple[list[Site], object]:
        area = None if strategy == "cities" else CHUKOTKA
        sites = draw_places(count, size=2004, strategy=strategy, area=area, strata=layer, cities=around_tokyo, seed=5)
        return sites.records(), sites.rejected

    drawn, full = draw(40), draw(None)
    for least, most in ((1, 37), (5000, 5000)):
        monkeypatch.setattr(seating, "_LEAST", least)
        monkeypatch.setattr(seating, "_MOST", most)
        assert draw(40) == drawn
        assert draw(None) == full


def test_a_larger_uniform_draw_begins_with_the_smaller_one() -> None:
    some, more = (draw_places(n, strategy="uniform", area=ALPS) for n in (100, 400))
    assert set(some.key.tolist()) < set(more.key.tolist())


def test_uniform_draws_go_with_the_land() -> None:
    sites = draw_places(4000, strategy="uniform", size=60)
    land = land_area_km2()
    total = sum(land.values())
    counts = Counter(sites.stratum.tolist())
    expected = {name: 4000 * km2 / total for name, km2 in land.items()}
    large = [name for name, number in expected.items() if number >= 10]
    chi_square = sum((counts[name] - expected[name]) ** 2 / expected[name] for name in large)
    assert len(large) > 40
    assert chi_square < len(large) + 4 * np.sqrt(2 * len(large))
    assert sites.weight == pytest.approx(np.ones(4000))
    assert sites.inclusion_probability == pytest.approx(np.full(4000, 4000 * 0.36 / total))


@pytest.mark.parametrize(("allocation", "power"), [("sqrt", 0.5), ("proportional", 1.0)])
def test_geography_gives_each_stratum_its_seats_and_chances(allocation: str, power: float) -> None:
    sites = draw_places(500, allocation=allocation)
    land = land_area_km2()
    squares = np.array([max(1, int(km2 / 2.64**2)) for km2 in land.values()])
    seats = dict(zip(land, allocate(squares, 500, power=power).tolist(), strict=True))
    counts = Counter(sites.stratum.tolist())
    assert counts == {name: seat for name, seat in seats.items() if seat}
    assert sites.target == seats
    assert sites.land_km2 == land
    for site in sites.records():
        assert site.inclusion_probability == pytest.approx(counts[site.stratum] * 2.64**2 / land[site.stratum])
    inverse = 1 / sites.inclusion_probability
    assert sites.weight == pytest.approx(inverse / inverse.mean())


def test_what_a_full_stratum_cannot_take_goes_to_the_others() -> None:
    # 15° N crosses the area: 60 km² lie below it, which is room for one or two places, the rest above.
    area = box(20, 14.99, 20.5, 15.5)
    sites = draw_places(60, size=264, area=area, allocation="equal")
    counts = Counter(sites.stratum.tolist())
    assert sum(counts.values()) == 60
    assert 1 <= counts["N00E000"] <= 15
    assert sites.target == {"N00E000": 30, "N15E000": 30}
    assert closest_km(sites) >= 1.414 * 2.64


def test_sites_of_an_area_lie_in_it() -> None:
    for strategy in ("uniform", "geography", "grid", "cities"):
        cities = CityRule(cities=city_rule("caco").cities, sigma_km=80.0, land_only=False, apart=False)
        sites = draw_places(200, strategy=strategy, area=ALPS, cities=cities)
        assert len(sites) == 200
        assert shapely.contains_xy(ALPS, sites.lon, sites.lat).all()
    turned = draw_places(50, area=box(170 - 360, 64, 192 - 360, 70))
    assert turned.records() == draw_places(50, area=CHUKOTKA).records()


def test_1_94_an_area_given_lon_lat_is_drawn_lon_lat() -> None:
    palawan = draw_places(20, size=60, area=box(118, 8, 121, 11))
    assert shapely.contains_xy(box(118, 8, 121, 11), palawan.lon, palawan.lat).all()


def test_a_buffer_keeps_sites_away_from_other_splits() -> None:
    sites = draw_places(150, size=60, area=ALPS, block_km=30, buffer_km=4.0, val=0.3, test=0.3)
    apart = haversine_km(sites.lon[:, None], sites.lat[:, None], sites.lon[None], sites.lat[None])
    assert apart[sites.split[:, None] != sites.split[None]].min() >= 4.0
    assert set(sites.split.tolist()) == {"train", "val", "test"}
    assert sites.rejected["buffer"] > 0


def test_1_95_no_site_at_sea_or_on_antarctica_and_every_stratum_with_land_is_served() -> None:
    land = land_area_km2()
    assert not any(name.startswith(("S60", "S75")) for name in land)
    counts = Counter(draw_places(2000, size=60, allocation="equal").stratum.tolist())
    assert {name for name, km2 in land.items() if km2 > 100} <= set(counts) <= set(land)


def test_what_cannot_be_drawn_is_refused_in_one_line() -> None:
    with pytest.raises(SamplingError, match=r"no land between 56° S and 83° N in the area"):
        draw_places(10, area=box(-35, 25, -30, 30))
    with pytest.raises(SamplingError, match=r"asked for 500 places, but only \d+ of 1002 px fit .* at least 14\.4 km"):
        draw_places(500, size=1002, area=box(20, 5, 21, 6))
    with pytest.raises(SamplingError, match=r"asked for 2000 places, but only \d+ of 264 px fit"):
        draw_places(2000, area=ALPS, min_distance_km=500)
    rule = CityRule(cities=places((10.0, 50.0)), sigma_km=5.0, land_only=True, apart=True)
    with pytest.raises(SamplingError, match=r"asked for 900 places, but only \d+ .* around the cities at least"):
        draw_places(900, strategy="cities", cities=rule)
    with pytest.raises(SamplingError, match=r"asked for 400 places, but only \d+ of 264 px fit"):
        draw_places(400, strategy="grid", area=box(20, 5, 21, 6), min_distance_km=20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "change"}, "strategy 'change' needs candidates; --anywhere draws with uniform, grid, geography"),
        ({"strategy": "mixture", "shares": {"uniform": 1, "diverse": 1}}, "strategy 'diverse' needs candidates"),
        ({"strategy": "mixture", "shares": {"mixture": 1}}, "strategy 'mixture' needs candidates"),
        ({"strategy": "mixture"}, "mixture needs shares, such as geography=0.6,cities=0.4"),
        ({"strategy": "mixture", "shares": {"uniform": 0.0}}, "share of uniform is 0; give one above 0"),
        ({"strategy": "cities"}, "strategy cities needs cities"),
        ({"allocation": "quota"}, "allocation quota and a quota go together"),
        ({"allocation": "quota", "quota": {"N00E000": 0.0}}, "quota gives no stratum a place"),
        ({"allocation": "quota", "quota": {"Atlantis": 3.0}}, "quota names Atlantis; the strata of the land are N"),
        ({"strata": lambda lon, lat: np.full(len(lon), "")}, "layer of strata says nothing about the land of the area"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SamplingError, match=message) as caught:
        draw_places(10, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_without_a_count_as_many_are_drawn_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    few = draw_places(size=1002, area=box(20, 5, 21, 6), strategy="uniform")
    assert 20 < len(few) < 62
    monkeypatch.setattr(anywhere, "DEFAULT_COUNT", 7)
    assert len(draw_places(size=264)) == 7


def test_the_table_of_places_is_a_map_and_tells_a_search_where_to_ask(tmp_path: Path) -> None:
    sites = draw_places(40, area=CHUKOTKA)
    path, other = tmp_path / "places.parquet", tmp_path / "other.parquet"
    tables.write_columns(path, sites.columns, Site, rings=sites.squares, metadata={"seed": 0})
    tables.write_table(other, sites.records(), Site, geometry=site_square, metadata={"seed": 0})
    assert path.read_bytes() == other.read_bytes()
    assert tables.read_table(path, Site) == sites.records()
    ground = area_of_places(path)
    for site, square in zip(sites.records(), shapely.polygons(sites.squares), strict=True):
        assert square.equals(site_square(site))
        assert square.contains(shapely.Point(site.lon, site.lat))
        assert shapely.intersects_xy(ground, site.lon, site.lat)
        assert area_km2(np.array([square])) == pytest.approx(2.64**2, rel=0.01)


# ------------------------------------------------------------------------------------------------ strata of one's own


def test_quotas_are_met_exactly_and_only_their_ratios_matter() -> None:
    quota = {"west": 30.0, "middle": 15.0, "east": 5.0}
    sites = draw_places(500, size=60, strata=stripes, area=ALPS, allocation="quota", quota=quota)
    assert Counter(sites.stratum.tolist()) == sites.target == {"west": 300, "middle": 150, "east": 50}
    assert sites.rejected["outside-strata"] > 0
    for site in sites.records():
        expected = sites.target[site.stratum] * 0.36 / sites.land_km2[site.stratum]
        assert site.inclusion_probability == pytest.approx(expected)
        assert site.stratum == stripes(np.array([site.lon]), np.array([site.lat]))[0]


def test_land_of_a_layer_is_estimated_and_the_silent_part_has_no_name() -> None:
    km2 = land_area_km2(ALPS, stripes)
    assert list(km2) == ["", "east", "middle", "west"]
    for name, (west, east) in STRIPES.items():
        exact = sum(land_area_km2(box(west, 45, east, 48)).values())
        assert km2[name] == pytest.approx(exact, rel=0.01)
    assert sum(km2.values()) == pytest.approx(sum(land_area_km2(ALPS).values()))
    assert land_area_km2(box(-35, 25, -30, 30), stripes) == {}


def test_4_16_a_scarce_stratum_passes_on_its_seats_and_shows_as_short() -> None:
    """`speck` has 120 km² of land, room for some ten places; `absent` has none."""

    def layer(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        return np.where((lon < 10.1) & (lon > 10) & (lat > 47) & (lat < 47.15), "speck", np.where(lon < 10, "a", "b"))

    quota = {"speck": 2.0, "a": 1.0, "b": 3.0, "absent": 2.0}
    sites = draw_places(800, strata=layer, area=ALPS, allocation="quota", quota=quota)
    counts = Counter(sites.stratum.tolist())
    assert sites.target == {"speck": 200, "a": 100, "b": 300, "absent": 200}
    assert 5 <= counts["speck"] <= 30
    assert counts["absent"] == 0
    passed_on = 400 - counts["speck"]
    assert counts["a"] == 100 + round(passed_on / 4)
    assert counts["b"] == 300 + round(passed_on * 3 / 4)
    assert sites.rejected["seats-taken"] > 0


def test_balanced_gives_every_stratum_as_many() -> None:
    sites = draw_places(90, strategy="balanced", strata=stripes, area=ALPS, allocation="proportional")
    assert Counter(sites.stratum.tolist()) == {"west": 30, "middle": 30, "east": 30}


# ------------------------------------------------------------------------------------------------ evenness


def chi_square(lon: np.ndarray, lat: np.ndarray) -> tuple[float, int]:
    """Of points over 20 × 12 boxes of equal area, by the land in each, and its degrees of freedom."""
    edges = np.degrees(np.arcsin(np.linspace(np.sin(np.radians(-56)), np.sin(np.radians(83)), 21)))
    sectors = np.linspace(-180, 180, 13)
    counts, _, _ = np.histogram2d(lat, lon, bins=[edges, sectors])
    boxes = np.array([[box(w, s, e, n) for w, e in pairwise(sectors)] for s, n in pairwise(edges)], dtype=object)
    km2 = area_km2(shapely.intersection(shapely.multipolygons(land_polygons()), boxes.ravel())).reshape(20, 12)
    expected = len(lon) * km2 / km2.sum()
    used = expected >= 10
    return float(((counts - expected)[used] ** 2 / expected[used]).sum()), int(used.sum()) - 1


def test_1_93_uniform_draws_are_even_and_degrees_are_not() -> None:
    sites = draw_places(50_000, size=60, strategy="uniform")
    found, degrees = chi_square(sites.lon, sites.lat)
    assert abs(found - degrees) < 3.5 * np.sqrt(2 * degrees)
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 200_000), rng.uniform(-56, 83, 200_000)
    on_land = is_land(lon, lat)
    found, degrees = chi_square(lon[on_land], lat[on_land])
    assert found > 50 * degrees


def test_fifty_thousand_places_five_kilometres_apart() -> None:
    sites = draw_places(50_000, min_distance_km=5.0)
    assert len(np.unique(sites.key)) == 50_000
    order = np.argsort(sites.lat)
    lon, lat = sites.lon[order], sites.lat[order]
    closest = np.inf
    for step in range(1, 400):
        near = np.flatnonzero(lat[step:] - lat[:-step] < 0.05)
        apart = haversine_km(lon[near], lat[near], lon[near + step], lat[near + step])
        closest = min(closest, float(apart.min(initial=np.inf)))
    assert 5.0 <= closest < 6.0


def test_these_very_sites_stay_for_ever() -> None:
    """A change of these is a change of every dataset ever drawn. A key follows from position and size alone."""
    sites = draw_places(3, strategy="uniform", seed=1)
    assert [(round(x, 4), round(y, 4)) for x, y in zip(sites.lon, sites.lat, strict=True)] == DRAWN
    lon, lat = np.array([13.4, -0.0, 180.0, 0.0, 13.4]), np.array([52.5, 0.0, -17.25, 0.0, -52.5])
    made = [keys_at(lon, lat, 264), keys_at(lon[:1], lat[:1], 264), keys_at(lon[:1], lat[:1], 60)]
    assert made[0] == sorted(made[0]) == KEYS
    assert made[1] == [KEYS[3]]
    assert made[2][0].startswith("0583U_0091R_")
    assert made[2] != made[1]


def keys_at(lon: np.ndarray, lat: np.ndarray, size: int) -> list[str]:
    some = np.full(len(lon), "x")
    columns = {"stratum": some, "drawn_by": some, "chance": np.ones(len(lon)), "target": {}, "land_km2": {}}
    return make_sites(lon, lat, size=size, rule=SplitRule(), rejected={}, **columns).key.tolist()  # type: ignore[arg-type]


def test_a_grid_is_regular_and_has_exactly_so_many() -> None:
    sites = draw_places(3000, strategy="grid")
    apart = haversine_km(sites.lon[:, None], sites.lat[:, None], sites.lon[None], sites.lat[None])
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(axis=1)
    spacing = np.sqrt(sum(sites.land_km2.values()) / 3000)
    assert nearest.min() > 0.8 * spacing
    # Random points would have a mean of 0.5 and a spread of 0.26.
    inland = nearest[nearest < 1.2 * spacing]
    assert len(inland) > 2800
    assert inland.mean() == pytest.approx(0.96 * spacing, rel=0.05)
    assert inland.std() < 0.08 * spacing
    found, degrees = chi_square(sites.lon, sites.lat)
    assert found < degrees
    assert len(draw_places(3001, strategy="grid")) == 3001


# ------------------------------------------------------------------------------------------------ cities, mixtures


@pytest.mark.parametrize("lat", [0.0, 45.0, 70.0])
def test_offsets_from_a_city_are_gaussian_in_kilometres(lat: float) -> None:
    """In both directions alike at every latitude, where degrees without cos φ would squeeze the east by two thirds."""
    rule = CityRule(cities=places((25.0, lat)), sigma_km=200.0, land_only=False, apart=False)
    sites = draw_places(4000, size=12, strategy="cities", cities=rule)
    distance = haversine_km(25.0, lat, sites.lon, sites.lat)
    turn, (phi, city) = np.radians(sites.lon - 25.0), np.radians([sites.lat, np.full(4000, lat)])
    x, y = np.sin(turn) * np.cos(phi), np.cos(city) * np.sin(phi) - np.sin(city) * np.cos(phi) * np.cos(turn)
    for offset in (distance * x / np.hypot(x, y), distance * y / np.hypot(x, y)):
        assert np.std(offset) == pytest.approx(200.0, rel=0.04)
        assert abs(np.mean(offset)) < 4 * 200 / np.sqrt(4000)
    assert np.count_nonzero(distance < 400) / 4000 == pytest.approx(1 - np.exp(-2), abs=0.02)


def test_ocean_is_drawn_again_only_where_the_preset_says_so() -> None:
    lisbon = places((-9.14, 38.72))
    caco, seco = (CityRule(cities=lisbon, sigma_km=20.0, land_only=only, apart=False) for only in (True, False))
    on_land, anywhere_ = (draw_places(150, strategy="cities", cities=rule) for rule in (caco, seco))
    assert is_land(on_land.lon, on_land.lat).all()
    assert on_land.rejected["sea"] > 30
    assert 20 < np.count_nonzero(~is_land(anywhere_.lon, anywhere_.lat)) < 130
    assert "sea" not in anywhere_.rejected
    for sites in (on_land, anywhere_):
        assert closest_km(sites) >= 1.414 * 2.64


def test_chances_around_cities_are_their_density() -> None:
    """Over inland cities they are the density times the squares; on a coast the land gets what the sea would have."""
    inland = CityRule(cities=places((25.0, 50.0), (27.0, 51.0)), sigma_km=30.0, land_only=True, apart=False)
    sites = draw_places(300, size=60, strategy="cities", cities=inland)
    expected = density(inland.cities, 30.0, sites.lon, sites.lat) * 300 * 0.36
    assert sites.inclusion_probability == pytest.approx(expected)
    lisbon = CityRule(cities=places((-9.14, 38.72)), sigma_km=20.0, land_only=True, apart=False)
    sites = draw_places(400, size=12, strategy="cities", cities=lisbon)
    rng = np.random.default_rng(0)
    on_ground = is_land(*around(lisbon.cities, np.zeros(20_000), 20.0, *rng.standard_normal((2, 20_000)))).mean()
    expected = density(lisbon.cities, 20.0, sites.lon, sites.lat) * 400 * 0.12**2 / on_ground
    assert sites.inclusion_probability == pytest.approx(expected, rel=0.15)


def test_a_mixture_has_its_shares_and_the_chances_of_all_its_parts() -> None:
    shares = {"cities": 1.0, "geography": 2.0, "grid": 1.0}
    rule = CityRule(cities=city_rule("caco").cities, sigma_km=50.0, land_only=True, apart=False)
    sites = draw_places(400, strategy="mixture", shares=shares, cities=rule, min_distance_km=10.0)
    assert Counter(sites.drawn_by.tolist()) == {"cities": 100, "geography": 200, "grid": 100}
    assert closest_km(sites) >= 10.0
    assert sites.target == {}
    of_geography = Counter(sites.stratum[sites.drawn_by == "geography"].tolist())
    total = sum(sites.land_km2.values())
    for site in sites.records():
        least = 100 * 2.64**2 / total + of_geography[site.stratum] * 2.64**2 / sites.land_km2[site.stratum]
        assert site.inclusion_probability >= least * 0.999


def test_strata_are_counted_alike_by_all_who_count() -> None:
    """The default layer by pieces of land, and by points."""
    by_piece, by_point = (draw_places(800, strata=layer, seed=4) for layer in (None, strata_of("regions")))
    for sites in (by_piece, by_point):
        assert sites.stratum.tolist() == [stratum(x, y) for x, y in zip(sites.lon, sites.lat, strict=True)]
    large = [name for name, seats in by_piece.target.items() if seats >= 5]
    assert len(large) > 40
    for name in large:
        assert by_point.target[name] == pytest.approx(by_piece.target[name], abs=2)
