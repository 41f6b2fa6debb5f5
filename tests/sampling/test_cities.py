"""Cities: tables of them, points around them in kilometres, and how dense these are."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Geod

from geossl_data.errors import SamplingError
from geossl_data.grid import EARTH_RADIUS_KM, haversine_km
from geossl_data.sampling.cities import (
    PRESETS,
    Cities,
    around,
    city_rule,
    density,
    direct,
    read_cities,
)
from geossl_data.sampling.positions import require_lonlat

FloatArray = NDArray[np.float64]
SPHERE = Geod(a=EARTH_RADIUS_KM * 1000, b=EARTH_RADIUS_KM * 1000)
"""An independent answer to both problems of the sphere, in metres and degrees."""
GEONAMES = Path(__file__).resolve().parents[3] / "shared" / "data" / "geo" / "cities15000.parquet"
N = 100_000


def cities(*points: tuple[float, float], population: float = 1.0) -> Cities:
    lon, lat = np.array(points, dtype=float).T
    return Cities(lon=lon, lat=lat, population=np.full(len(points), population))


def offsets_km(lon: float, lat: float, lons: FloatArray, lats: FloatArray) -> tuple[FloatArray, FloatArray]:
    """East and north of a point, km along the great circle, by the inverse problem of another library."""
    bearing, _, metres = SPHERE.inv(np.full(len(lons), lon), np.full(len(lats), lat), lons, lats)
    return metres / 1000 * np.sin(np.radians(bearing)), metres / 1000 * np.cos(np.radians(bearing))


# ------------------------------------------------------------------------------------------------ in kilometres


def in_kilometres(
    lon: float, lat: float, sigma_km: float, east: FloatArray, north: FloatArray
) -> tuple[FloatArray, ...]:
    return around(cities((lon, lat)), np.zeros(len(east), dtype=int), sigma_km, east, north)


def in_degrees(lon: float, lat: float, sigma_km: float, east: FloatArray, north: FloatArray) -> tuple[FloatArray, ...]:
    """The sampler that published code has: the same number of degrees both ways."""
    sigma = math.degrees(sigma_km / EARTH_RADIUS_KM)
    return lon + sigma * east, lat + sigma * north


def spread(
    sampler: Callable[..., tuple[FloatArray, ...]], lat: float, sigma_km: float
) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(7)
    lons, lats = sampler(10.0, lat, sigma_km, rng.standard_normal(N), rng.standard_normal(N))
    return offsets_km(10.0, lat, lons, lats)


@pytest.mark.parametrize("sigma_km", [5.0, 50.0])
@pytest.mark.parametrize("lat", [0.0, 45.0, 70.0, -60.0])
def test_points_scatter_alike_to_the_east_and_to_the_north(lat: float, sigma_km: float) -> None:
    east, north = spread(in_kilometres, lat, sigma_km)
    assert east.std() == pytest.approx(sigma_km, rel=0.02)
    assert north.std() == pytest.approx(sigma_km, rel=0.02)
    assert abs(np.corrcoef(east, north)[0, 1]) < 0.02


@pytest.mark.parametrize("lat", [0.0, 45.0, 70.0])
def test_distances_follow_rayleigh(lat: float) -> None:
    sigma_km = 50.0
    r = np.sort(np.hypot(*spread(in_kilometres, lat, sigma_km)))
    assert np.mean(r < 2 * sigma_km) == pytest.approx(0.8647, abs=0.004)
    assert np.quantile(r, 0.95) == pytest.approx(2.448 * sigma_km, rel=0.01)
    expected = 1 - np.exp(-((r / sigma_km) ** 2) / 2)
    steps = np.arange(N + 1) / N
    distance = max(np.abs(steps[1:] - expected).max(), np.abs(steps[:-1] - expected).max())
    assert distance < 1.63 / math.sqrt(N), "Kolmogorov-Smirnov at 1 %"


def test_a_sampler_in_degrees_is_convicted() -> None:
    east, north = spread(in_degrees, 60.0, 50.0)
    assert north.std() == pytest.approx(50.0, rel=0.02)
    assert east.std() == pytest.approx(25.0, rel=0.02)
    assert np.mean(np.hypot(east, north) < 100.0) > 0.9, "so are its distances"


def test_a_city_at_the_antimeridian_scatters_to_both_sides() -> None:
    rng = np.random.default_rng(3)
    lon, lat = in_kilometres(179.9, -17.0, 50.0, rng.standard_normal(N), rng.standard_normal(N))
    assert ((lon >= -180) & (lon < 180)).all()
    assert 0.3 < np.mean(lon > 0) < 0.7
    assert haversine_km(179.9, -17.0, lon, lat).max() < 50.0 * 6


@pytest.mark.parametrize("lat", [89.0, -89.0, 89.99, 90.0, -90.0])
def test_near_a_pole_points_stay_on_the_earth_and_in_reach(lat: float) -> None:
    rng = np.random.default_rng(5)
    lons, lats = in_kilometres(20.0, lat, 50.0, rng.standard_normal(N), rng.standard_normal(N))
    assert np.isfinite(lons).all()
    assert (np.abs(lats) <= 90).all()
    r = haversine_km(20.0, lat, lons, lats)
    assert np.sqrt((r**2).mean() / 2) == pytest.approx(50.0, rel=0.02)


@given(
    st.floats(-180, 180, exclude_max=True),
    st.floats(-89.9, 89.9),
    st.floats(-math.pi, math.pi),
    st.floats(0, 15_000),
)
def test_the_direct_problem_agrees_with_another_library(lon: float, lat: float, bearing: float, km: float) -> None:
    there_lon, there_lat = direct(lon, lat, bearing, km)
    lon_2, lat_2, _ = SPHERE.fwd(lon, lat, math.degrees(bearing), km * 1000)
    assert haversine_km(there_lon, there_lat, lon_2, lat_2) < 1e-5
    assert -180 <= there_lon < 180


def test_directions_by_hand() -> None:
    quarter = math.pi / 2 * EARTH_RADIUS_KM
    lon, lat = direct([0.0, 0.0, 170.0, 30.0], [0.0, 0.0, 0.0, 80.0], [0.0, math.pi / 2, math.pi / 2, 0.0], quarter)
    np.testing.assert_allclose(lon, [0.0, 90.0, -100.0, -150.0], atol=1e-9)
    np.testing.assert_allclose(lat, [90.0, 0.0, 0.0, 10.0], atol=1e-9)


# ------------------------------------------------------------------------------------------------ density


def brute(towns: Cities, sigma_km: float, lon: FloatArray, lat: FloatArray) -> FloatArray:
    d = haversine_km(lon[:, None], lat[:, None], towns.lon[None], towns.lat[None])
    return np.asarray((np.exp(-((d / sigma_km) ** 2) / 2) / (2 * math.pi * sigma_km**2)).mean(axis=1))


@pytest.mark.parametrize("sigma_km", [5.0, 50.0, 800.0])
def test_density_against_brute_force(sigma_km: float) -> None:
    rng = np.random.default_rng(11)
    towns = cities(*zip(rng.uniform(-180, 180, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300))), strict=True))
    edges = cities((179.95, 10.0), (-179.95, 10.0), (0.0, 89.9), (180 - 1e-9, 89.8), (-60.0, -90.0))
    towns = Cities(lon=np.append(towns.lon, edges.lon), lat=np.append(towns.lat, edges.lat), population=np.ones(305))
    lon, lat = around(towns, np.arange(305).repeat(4), sigma_km, rng.standard_normal(1220), rng.standard_normal(1220))
    lon, lat = np.append(lon, rng.uniform(-180, 180, 500)), np.append(lat, rng.uniform(-90, 90, 500))
    exact = brute(towns, sigma_km, lon, lat)
    found = density(towns, sigma_km, lon, lat)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=2 * math.exp(-18) / (2 * math.pi * sigma_km**2))
    assert (found[: len(lon) - 500] > 0).all()


def test_density_integrates_to_one_and_is_that_of_the_points_drawn() -> None:
    towns = cities((179.9, 60.0), (-178.0, 60.3))
    rng = np.random.default_rng(2)
    lon, lat = around(towns, rng.integers(0, 2, N), 50.0, rng.standard_normal(N), rng.standard_normal(N))
    west, east, south, north = 175.0, 187.0, 57.0, 63.0
    step = 0.02
    xs, ys = np.meshgrid(np.arange(west, east, step) + step / 2, np.arange(south, north, step) + step / 2)
    km2 = (math.radians(step) * EARTH_RADIUS_KM) ** 2 * np.cos(np.radians(ys))
    mass = density(towns, 50.0, xs.ravel(), ys.ravel()).reshape(xs.shape) * km2
    assert mass.sum() == pytest.approx(1.0, abs=2e-3)
    inside = (xs < 180.5) & (ys > 60.2)
    drawn = np.mean((lon % 360 < 180.5) & (lat > 60.2))
    assert mass[inside].sum() == pytest.approx(drawn, abs=0.006)


def test_density_of_no_points_and_far_from_every_city() -> None:
    assert density(cities((0.0, 0.0)), 5.0, [], []).shape == (0,)
    np.testing.assert_array_equal(density(cities((0.0, 0.0)), 5.0, [1.0, 180.0], [0.0, 0.0]), 0.0)


def test_density_does_not_depend_on_what_else_is_asked() -> None:
    towns = read_cities(most=500)
    rng = np.random.default_rng(4)
    lon, lat = around(towns, rng.integers(0, 500, 300), 50.0, rng.standard_normal(300), rng.standard_normal(300))
    together = density(towns, 50.0, lon, lat)
    alone = [float(density(towns, 50.0, [x], [y])[0]) for x, y in zip(lon[:20], lat[:20], strict=True)]
    np.testing.assert_allclose(together[:20], alone, rtol=1e-9)


# ------------------------------------------------------------------------------------------------ tables


def test_the_cities_that_come_with_the_package() -> None:
    towns = read_cities()
    assert len(towns) == 10_000
    assert (np.diff(towns.population) <= 0).all()
    assert towns.population[-1] >= 50_000
    require_lonlat(towns.lon, towns.lat, "the package's cities")
    first = read_cities(most=10)
    np.testing.assert_array_equal(first.lon, towns.lon[:10])
    assert haversine_km(first.lon[0], first.lat[0], 121.47, 31.23) < 10, "Shanghai"


@pytest.mark.skipif(not GEONAMES.is_file(), reason="the folder of shared data is not here")
def test_the_cities_are_those_of_geonames() -> None:
    towns, source = read_cities(), read_cities(GEONAMES)
    np.testing.assert_array_equal(towns.population, source.population)
    same = haversine_km(towns.lon, towns.lat, source.lon, source.lat) < 0.02
    assert same.mean() > 0.99, "cities of equal population may change places"
    np.testing.assert_allclose(np.sort(towns.lon), np.sort(source.lon), atol=1e-4)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "name,lon,lat,population\na,10,50,5\nb,11,51,700\nc,12,52,60\n",
        "\ufeffLongitude,LATITUDE,Population\n10,50,5\n11,51,7e2\n\n12,52,60\n",
        "lat, lng,population\n50,10,\n51,11,700\n52,12,60\n",
    ],
)
def test_tables_are_read_whatever_the_columns_are_called(tmp_path: Path, text: str) -> None:
    towns = read_cities(write(tmp_path / "towns.csv", text), most=2)
    assert (towns.lon.tolist(), towns.lat.tolist()) == ([11.0, 12.0], [51.0, 52.0])
    assert towns.population.tolist() == [700.0, 60.0]


def test_a_parquet_table_is_read_like_a_csv_table(tmp_path: Path) -> None:
    path = tmp_path / "towns.parquet"
    pq.write_table(pa.table({"lat": [1.0, 2.0], "lon": [180.0, 20.0], "population": [3, None]}), path)
    towns = read_cities(path)
    assert (towns.lon.tolist(), towns.population.tolist()) == ([-180.0, 20.0], [3.0, 0.0])


def test_without_population_the_first_rows_are_taken(tmp_path: Path) -> None:
    towns = read_cities(write(tmp_path / "towns.csv", "lon,lat\n3,3\n1,1\n2,2\n"), most=2)
    assert towns.lon.tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no columns lon and lat, has none"),
        ("x,y\n1,2\n", r"no columns lon and lat, has x, y"),
        ("lon,lat\n", r"no city in it"),
        ("lon,lat\n1,2\n1,north\n", r"lat is 'north' in row 2; expected a number"),
        ("lon,lat\n1,\n", r"lat is '' in row 1"),
        ("lon,lat\n1,nan\n", r"lat nan in row 1 is not within ±90"),
        ("lon,lat\n1,2\n181,2\n", r"lon 181 in row 2 is not within ±180; longitudes from 0 to 360"),
        ("lon,lat\n5,120\n", r"lat 120 in row 1 is not within ±90; lon and lat look swapped"),
        ("lon,lat,population\n5,12,-3\n", r"population -3 in row 1; expected 0 or more"),
        ("lon,lat,population\n5,12,many\n", r"population is 'many' in row 1"),
        ("lon;lat\n1;2\n", r"no columns lon and lat, has lon;lat"),
        ("lon,lat\n1,2\n1,2,3\n", r"3 values in row 2, 2 in the header"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SamplingError, match=message) as caught:
        read_cities(write(tmp_path / "towns.csv", text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.csv", "no.parquet", "binary.csv", "folder"])
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "no.parquet").write_bytes(b"PAR1 but not really")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    (tmp_path / "folder").mkdir()
    with pytest.raises(SamplingError, match=name) as caught:
        read_cities(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_no_cities_asked_for() -> None:
    with pytest.raises(SamplingError, match="asked for 0 cities"):
        read_cities(most=0)


# ------------------------------------------------------------------------------------------------ swapped columns

CAPITALS = np.array([[13.4, 52.52], [2.35, 48.85], [-3.7, 40.42], [12.5, 41.9], [18.07, 59.33], [-9.14, 38.72]])
"""Berlin, Paris, Madrid, Rome, Stockholm, Lisbon."""


def test_swapped_columns_are_told_by_the_land() -> None:
    require_lonlat(CAPITALS[:, 0], CAPITALS[:, 1], "capitals")
    with pytest.raises(SamplingError, match=r"capitals: 33% of the points lie on land, 100% would .* swapped"):
        require_lonlat(CAPITALS[:, 1], CAPITALS[:, 0], "capitals")
    require_lonlat(CAPITALS[:, 1], CAPITALS[:, 0], "capitals", expect_land=False)


def test_the_package_s_cities_swapped_are_refused(tmp_path: Path) -> None:
    towns = read_cities()
    with pytest.raises(SamplingError, match="lon and lat look swapped"):
        require_lonlat(towns.lat, towns.lon, "towns")
    west = np.abs(towns.lon) <= 90
    with pytest.raises(SamplingError, match="swap the two columns"):
        require_lonlat(towns.lat[west], towns.lon[west], "towns")
    rows = "\n".join(f"{y},{x}" for x, y in CAPITALS)
    with pytest.raises(SamplingError, match=r"towns.csv: .* swap the two columns"):
        read_cities(write(tmp_path / "towns.csv", f"lon,lat\n{rows}\n"))


def test_no_part_of_the_world_s_cities_is_taken_for_swapped() -> None:
    towns = read_cities()
    sector = np.floor(towns.lon / 10) * 100 + np.floor(towns.lat / 10)
    for name in np.unique(sector):
        rows = sector == name
        require_lonlat(towns.lon[rows], towns.lat[rows], f"sector {name}")


# ------------------------------------------------------------------------------------------------ rules


def test_presets_are_those_published() -> None:
    found = {name: (rule.sigma_km, rule.land_only, rule.apart) for name, rule in PRESETS.items()}
    assert found == {"caco": (5.0, True, False), "seco": (50.0, False, False), "ssl4eo": (50.0, False, True)}


def test_a_preset_with_cities_and_width_of_one_s_own(tmp_path: Path) -> None:
    path = write(tmp_path / "towns.csv", "lon,lat\n3,3\n")
    rule = city_rule("caco", path=path, sigma_km=7.5)
    assert (len(rule.cities), rule.sigma_km, rule.land_only, rule.apart) == (1, 7.5, True, False)
    assert len(city_rule("seco").cities) == 10_000


@pytest.mark.parametrize("sigma_km", [0.0, -1.0, 1001.0, math.nan, math.inf])
def test_a_width_without_sense_is_refused(sigma_km: float) -> None:
    with pytest.raises(SamplingError, match="around cities; give more than 0"):
        city_rule("caco", sigma_km=sigma_km)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(SamplingError, match="no cities preset 'sceo'; there are caco, seco, ssl4eo"):
        city_rule("sceo")
