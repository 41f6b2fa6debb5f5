"""Places without a catalog: on land, apart, evenly, and the same for the same seed."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box

from geossl_data import tables
from geossl_data.errors import SamplingError
from geossl_data.grid import from_lonlat, haversine_km, to_lonlat
from geossl_data.records import Site
from geossl_data.sampling import anywhere
from geossl_data.sampling.anywhere import draw_places, land_area_km2, least_distance_km, site_square
from geossl_data.sampling.land import land_polygons
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.strata import stratum
from geossl_data.sampling.strategies import allocate
from geossl_data.scenes.area import area_of_places

CHUKOTKA = box(170, 64, 192, 70)
"""Land on both sides of the antimeridian."""
ALPS = box(6, 45, 14, 48)


def closest_km(sites: list[Site]) -> float:
    lon, lat = (np.array([getattr(site, name) for site in sites]) for name in ("lon", "lat"))
    apart = haversine_km(lon[:, None], lat[:, None], lon[None], lat[None])
    np.fill_diagonal(apart, np.inf)
    return float(apart.min())


@pytest.mark.parametrize("strategy", ["uniform", "geography"])
def test_sites_are_on_land_and_say_truly_where(strategy: str) -> None:
    sites = draw_places(1500, strategy=strategy)
    assert len(sites) == len({site.key for site in sites}) == 1500
    assert [site.key for site in sites] == sorted(site.key for site in sites)
    land = shapely.multipolygons(land_polygons())
    shapely.prepare(land)
    assert shapely.contains_xy(land, [site.lon for site in sites], [site.lat for site in sites]).all()
    assert all(-56 <= site.lat <= 83 for site in sites)
    rule = SplitRule(seed=0)
    for site in sites:
        assert site.stratum == stratum(site.lon, site.lat)
        assert site.block == rule.block(site.lon, site.lat)
        assert site.split == rule.split(site.block)
    assert np.mean([site.weight for site in sites]) == pytest.approx(1.0)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 25.0]), st.sampled_from(["uniform", "geography"]))
def test_1_90_sites_keep_their_distance_also_across_the_antimeridian(
    seed: int, min_distance_km: float, strategy: str
) -> None:
    sites = draw_places(120, size=1002, strategy=strategy, area=CHUKOTKA, min_distance_km=min_distance_km, seed=seed)
    assert closest_km(sites) >= max(min_distance_km, 1.414 * 10.02)
    sides = Counter(site.lon > 0 for site in sites)
    assert min(sides[True], sides[False]) > 10
    assert all(-180 <= site.lon < 180 for site in sites)
    assert len({site.stratum for site in sites}) > 1


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
    assert first == draw_places(300, area=ALPS, seed=1)
    assert not {site.key for site in first} & {site.key for site in draw_places(300, area=ALPS, seed=2)}


@pytest.mark.parametrize("strategy", ["uniform", "geography"])
def test_nothing_depends_on_how_many_proposals_are_looked_at_together(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"size": 2004, "strategy": strategy, "area": CHUKOTKA, "seed": 5}
    drawn = draw_places(150, **arguments)  # type: ignore[arg-type]
    full = draw_places(**arguments)  # type: ignore[arg-type]
    for proposals in (1, 37, 5000):
        monkeypatch.setattr(anywhere, "_PROPOSALS", proposals)
        assert draw_places(150, **arguments) == drawn  # type: ignore[arg-type]
        assert draw_places(**arguments) == full  # type: ignore[arg-type]


def test_a_larger_uniform_draw_begins_with_the_smaller_one() -> None:
    some, more = (draw_places(n, strategy="uniform", area=ALPS) for n in (100, 400))
    assert {site.key for site in some} < {site.key for site in more}


def test_uniform_draws_go_with_the_land() -> None:
    sites = draw_places(4000, strategy="uniform", size=60)
    land = land_area_km2()
    total = sum(land.values())
    counts = Counter(site.stratum for site in sites)
    expected = {name: 4000 * km2 / total for name, km2 in land.items()}
    large = [name for name, number in expected.items() if number >= 10]
    chi_square = sum((counts[name] - expected[name]) ** 2 / expected[name] for name in large)
    assert len(large) > 40
    assert chi_square < len(large) + 4 * np.sqrt(2 * len(large))
    assert [site.weight for site in sites] == pytest.approx([1.0] * 4000)
    assert [site.inclusion_probability for site in sites] == pytest.approx([4000 * 0.36 / total] * 4000)


@pytest.mark.parametrize(("allocation", "power"), [("sqrt", 0.5), ("proportional", 1.0)])
def test_geography_gives_each_stratum_its_seats_and_chances(allocation: str, power: float) -> None:
    sites = draw_places(500, allocation=allocation)
    land = land_area_km2()
    squares = np.array([max(1, int(km2 / 2.64**2)) for km2 in land.values()])
    seats = dict(zip(land, allocate(squares, 500, power=power).tolist(), strict=True))
    counts = Counter(site.stratum for site in sites)
    assert counts == {name: seat for name, seat in seats.items() if seat}
    for site in sites:
        assert site.inclusion_probability == pytest.approx(counts[site.stratum] * 2.64**2 / land[site.stratum])
    inverse = [1 / site.inclusion_probability for site in sites]
    assert [site.weight for site in sites] == pytest.approx(list(np.array(inverse) / np.mean(inverse)))


def test_what_a_full_stratum_cannot_take_goes_to_the_others() -> None:
    # 15° N crosses the area: 60 km² lie below it, which is room for one or two places, the rest above.
    area = box(20, 14.99, 20.5, 15.5)
    sites = draw_places(60, size=264, area=area, allocation="equal")
    counts = Counter(site.stratum for site in sites)
    assert sum(counts.values()) == 60
    assert 1 <= counts["N00E000"] <= 15
    assert closest_km(sites) >= 1.414 * 2.64


def test_sites_of_an_area_lie_in_it() -> None:
    assert all(ALPS.contains(shapely.Point(site.lon, site.lat)) for site in draw_places(200, area=ALPS))
    turned = draw_places(50, area=box(170 - 360, 64, 192 - 360, 70))
    assert turned == draw_places(50, area=CHUKOTKA)


def test_1_94_an_area_given_lon_lat_is_drawn_lon_lat() -> None:
    palawan = draw_places(20, size=60, area=box(118, 8, 121, 11))
    assert all(118 <= site.lon <= 121 and 8 <= site.lat <= 11 for site in palawan)


def test_a_buffer_keeps_sites_away_from_other_splits() -> None:
    sites = draw_places(150, size=60, area=ALPS, block_km=30, buffer_km=4.0, val=0.3, test=0.3)
    lon, lat = (np.array([getattr(site, name) for site in sites]) for name in ("lon", "lat"))
    split = np.array([site.split for site in sites])
    apart = haversine_km(lon[:, None], lat[:, None], lon[None], lat[None])
    assert apart[split[:, None] != split[None]].min() >= 4.0
    assert set(split) == {"train", "val", "test"}


def test_1_95_no_site_at_sea_or_on_antarctica_and_every_stratum_with_land_is_served() -> None:
    land = land_area_km2()
    assert not any(name.startswith(("S60", "S75")) for name in land)
    counts = Counter(site.stratum for site in draw_places(2000, size=60, allocation="equal"))
    assert {name for name, km2 in land.items() if km2 > 100} <= set(counts) <= set(land)


def test_what_cannot_be_drawn_is_refused_in_one_line() -> None:
    with pytest.raises(SamplingError, match=r"no land between 56° S and 83° N in the area"):
        draw_places(10, area=box(-35, 25, -30, 30))
    with pytest.raises(SamplingError, match=r"asked for 500 places, but only \d+ of 1002 px fit .* at least 14\.4 km"):
        draw_places(500, size=1002, area=box(20, 5, 21, 6))
    with pytest.raises(SamplingError, match=r"asked for 2000 places, but only \d+ of 264 px fit"):
        draw_places(2000, area=ALPS, min_distance_km=500)
    with pytest.raises(SamplingError, match="strategy 'cities' needs candidates"):
        draw_places(10, strategy="cities")


def test_without_a_count_as_many_are_drawn_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    few = draw_places(size=1002, area=box(20, 5, 21, 6), strategy="uniform")
    assert 20 < len(few) < 62
    monkeypatch.setattr(anywhere, "DEFAULT_COUNT", 7)
    assert len(draw_places(size=264)) == 7


def test_the_table_of_places_is_a_map_and_tells_a_search_where_to_ask(tmp_path: Path) -> None:
    sites = draw_places(40, area=CHUKOTKA)
    path = tmp_path / "places.parquet"
    tables.write_table(path, sites, Site, geometry=site_square)
    assert tables.read_table(path, Site) == sites
    ground = area_of_places(path)
    for site in sites:
        square = site_square(site)
        assert square.contains(shapely.Point(site.lon, site.lat))
        assert shapely.intersects_xy(ground, site.lon, site.lat)
