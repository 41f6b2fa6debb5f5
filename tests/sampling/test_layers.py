"""The maps that install with the package: known places, agreement with other maps, equal areas."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.errors import SamplingError
from geossl_data.grid import EARTH_RADIUS_KM
from geossl_data.sampling.land import LandPoints, land_pieces
from geossl_data.sampling.layers import Polygons
from geossl_data.sampling.layers.cells import equal_area_cells, rows_of
from geossl_data.sampling.layers.countries import countries
from geossl_data.sampling.layers.polygons import on_earth
from geossl_data.sampling.strata import LAYERS, strata_of, stratum

GEO = Path(__file__).resolve().parents[3] / "shared" / "data" / "geo"
SHIPPED = Path(__file__).resolve().parents[2] / "geossl_data" / "sampling" / "layers"

lons = st.floats(-180.0, 180.0)
lats = st.floats(-90.0, 90.0)


def at(layer: str, lon: float, lat: float) -> str:
    return str(strata_of(layer)(np.array([lon]), np.array([lat]))[0])


def random_points(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Points spread evenly over the sphere."""
    rng = np.random.default_rng(5)
    return rng.uniform(-180, 180, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def land_points(n: int) -> tuple[np.ndarray, np.ndarray]:
    lon, lat, _, on_land = LandPoints(land_pieces(shapely.box(-180, -56, 180, 83)), (3,)).take(0, n)
    return lon[on_land], lat[on_land]


@pytest.mark.parametrize(
    ("place", "lon", "lat", "climate", "koppen", "continent", "country"),
    [
        ("Berlin", 13.40, 52.52, "cold", "Cfb", "Europe", "DEU"),
        ("Manaus", -60.02, -3.10, "tropical", "Af", "South America", "BRA"),
        ("Cairo", 31.24, 30.04, "dry", "BWh", "Africa", "EGY"),
        ("Yakutsk", 129.73, 62.03, "cold", "Dfc", "Asia", "RUS"),
        ("Verkhoyansk", 133.38, 67.55, "cold", "Dfd", "Asia", "RUS"),
        ("Moscow", 37.62, 55.75, "cold", "Dfb", "Europe", "RUS"),
        ("Porto", -8.5, 41.2, "temperate", "Csb", "Europe", "PRT"),
        ("Perth", 115.86, -31.95, "temperate", "Csa", "Oceania", "AUS"),
        ("Longyearbyen", 15.65, 78.22, "polar", "ET", "Europe", "NOR"),
        ("Vostok", 106.8, -78.46, "polar", "EF", "Antarctica", "ATA"),
        ("Cayenne", -52.3, 4.9, "tropical", "Am", "South America", "FRA"),
        ("Mauna Kea", -155.47, 19.82, "polar", "ET", "Oceania", "USA"),
        ("Denver", -104.99, 39.74, "dry", "BSk", "North America", "USA"),
    ],
)
def test_known_places(
    place: str, lon: float, lat: float, climate: str, koppen: str, continent: str, country: str
) -> None:
    found = [at(layer, lon, lat) for layer in ("climate", "koppen", "continent", "country")]
    assert found == [climate, koppen, continent, country]


def test_known_land_covers() -> None:
    assert at("landcover", -62.0, -5.0) == "evergreen-broadleaf-forest"  # Amazon
    assert at("landcover", 15.0, 24.0) == "barren"  # Sahara
    assert at("landcover", -40.0, 75.0) == "snow-and-ice"  # Greenland
    assert at("landcover", -88.0, 41.0) == "cropland"  # Illinois
    assert at("landcover", 32.8, -1.0) == ""  # Lake Victoria


@pytest.mark.parametrize("layer", ["climate", "koppen", "landcover", "continent", "country"])
def test_the_open_sea_has_no_name(layer: str) -> None:
    assert [at(layer, *point) for point in ((-30.0, 30.0), (-150.0, -40.0), (179.99, 50.0))] == ["", "", ""]


def test_fiji_and_chukotka_lie_on_both_sides_of_the_antimeridian() -> None:
    assert at("country", 179.9, -16.75) == "FJI"  # Taveuni and Vanua Levu reach across
    assert at("country", -179.9, -16.75) == "FJI"
    assert [at("country", lon, 67.5) for lon in (178.0, 179.999, 180.0, -180.0, -179.999, -175.0)] == ["RUS"] * 6
    assert [at("continent", lon, 67.5) for lon in (178.0, 180.0, -175.0)] == ["Asia"] * 3


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_whole_turns_of_longitude_do_not_matter(layer: str) -> None:
    lon, lat = random_points(2000)
    lon = np.round(lon, 3)
    wrapped = strata_of(layer)(lon, lat)
    assert (strata_of(layer)(lon + 360.0, lat) == wrapped).all()
    assert (strata_of(layer)(lon - 720.0, lat) == wrapped).all()


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_every_layer_answers_any_points(layer: str) -> None:
    lon = np.array([0.0, 180.0, -180.0, 12.0, 0.0, np.nan, 3.0, -1e-300])
    lat = np.array([90.0, 90.0, -90.0, 91.0, np.inf, 5.0, np.nan, 0.0])
    names = strata_of(layer)(lon, lat)
    assert names.dtype.kind == "U"
    assert names.shape == lon.shape
    assert (names[3:7] == "").all()
    assert strata_of(layer)(np.zeros(0), np.zeros(0)).shape == (0,)
    with pytest.raises(ValueError, match="one shape"):
        strata_of(layer)(np.zeros(2), np.zeros(3))


@given(lon=lons, lat=lats)
def test_regions_are_the_strata_of_single_points(lon: float, lat: float) -> None:
    assert at("regions", lon, lat) == stratum(lon, lat)
    assert at("latitude", lon, lat) == stratum(lon, lat)[:3]


def test_the_shore_has_the_climate_of_the_land() -> None:
    lon, lat = land_points(30_000)
    for layer, allowed in (("climate", 0.0005), ("koppen", 0.002), ("landcover", 0.005), ("country", 0.0)):
        assert (strata_of(layer)(lon, lat) == "").mean() <= allowed, layer


def test_all_classes_occur() -> None:
    lon, lat = random_points(400_000)
    found = {layer: set(strata_of(layer)(lon, lat)) - {""} for layer in ("climate", "koppen", "landcover", "continent")}
    assert found["climate"] == {"tropical", "dry", "temperate", "cold", "polar"}
    assert len(found["koppen"]) >= 29
    assert all(name[0] in "ABCDE" and len(name) in (2, 3) for name in found["koppen"])
    assert len(found["landcover"]) == 16
    assert len(found["continent"]) == 7


def test_two_maps_of_climate_mostly_agree() -> None:
    lon, lat = land_points(30_000)
    letters = {"tropical": "A", "dry": "B", "temperate": "C", "cold": "D", "polar": "E"}
    main, fine = strata_of("climate")(lon, lat), strata_of("koppen")(lon, lat)
    known = (main != "") & (fine != "")
    agree = np.mean([letters[a] == b[0] for a, b in zip(main[known], fine[known], strict=True)])
    assert 0.85 < agree < 0.97


@pytest.mark.skipif(not GEO.is_dir(), reason="the folder of shared data is not here")
def test_climate_agrees_with_an_independent_reduction() -> None:
    import rasterio

    with rasterio.open(GEO / "koppen_main_0p1deg.tif") as dataset:
        reference = dataset.read(1)
    row, column = np.nonzero(reference)
    names = strata_of("climate")((column + 0.5) / 10 - 180.0, 90.0 - (row + 0.5) / 10)
    expected = np.array(["", "tropical", "dry", "temperate", "cold", "polar"])[reference[row, column]]
    assert (names == expected).mean() >= 0.99


@pytest.mark.skipif(not GEO.is_dir(), reason="the folder of shared data is not here")
def test_countries_and_continents_agree_with_a_coarser_map() -> None:
    import geopandas

    frame = geopandas.read_file(GEO / "ne_countries_110m.geojson")
    lon, lat = land_points(20_000)
    number = Polygons(on_earth(np.array(frame.geometry.to_numpy(), dtype=object))).first(lon, lat)
    known = (number >= 0) & (frame["iso_a3"].to_numpy()[number] != "-99")
    assert known.sum() > 15_000
    coarse = frame["iso_a3"].to_numpy()[number[known]]
    assert (strata_of("country")(lon[known], lat[known]) == coarse).mean() >= 0.97
    # Natural Earth counts all of Russia as Europe.
    other = known & (frame["iso_a3"].to_numpy()[number] != "RUS")
    continents = frame["continent"].to_numpy()[number[other]]
    assert (strata_of("continent")(lon[other], lat[other]) == continents).mean() >= 0.96


# ------------------------------------------------------------------------------------------------ countries


def test_the_table_of_cells_says_what_the_polygons_say() -> None:
    known = countries()
    lon, lat = random_points(60_000)
    number = known.at(lon, lat)
    part = Polygons(known.shapes).first(lon, lat)
    inside = part >= 0
    assert inside.sum() > 15_000
    assert (known.letters[number[inside]] == known.letters[known._owner[part[inside]]]).all()


def test_a_point_off_the_coast_takes_the_nearest_country_within_a_fifth_of_a_degree() -> None:
    known = countries()
    lon, lat = random_points(60_000)
    part = Polygons(known.shapes).first(lon, lat)
    at_sea = np.flatnonzero(part < 0)
    number = known.at(lon[at_sea], lat[at_sea])
    near = at_sea[number >= 0]
    assert 100 < len(near) < 2000
    points = shapely.points(lon[near], lat[near])
    turned = [shapely.transform(known.shapes, lambda xy, turn=turn: xy + turn) for turn in ([360.0, 0], [-360.0, 0])]
    tree = shapely.STRtree(np.concatenate([known.shapes, *turned]))
    index, distance = tree.query_nearest(points, all_matches=False, return_distance=True)
    assert (distance <= 0.2 + 1e-9).all()
    assert (known._owner[index[1] % len(known.shapes)] == number[number >= 0]).all()
    far = at_sea[number < 0][:300]
    _, distance = tree.query_nearest(shapely.points(lon[far], lat[far]), all_matches=False, return_distance=True)
    assert (distance > 0.2 - 1e-9).all()


def test_every_country_has_letters_and_a_continent_once() -> None:
    known = countries()
    assert len(set(known.letters)) == len(known.letters) == 240
    assert all(len(letters) == 3 and letters.isupper() for letters in known.letters)
    assert set(known.continents) == {
        "Africa", "Antarctica", "Asia", "Europe", "North America", "Oceania", "South America",
    }  # fmt: skip
    assert shapely.is_valid(known.shapes).all()


# ------------------------------------------------------------------------------------------------ cells


@pytest.mark.parametrize("km", [50.0, 300.0, 1000.0, 2500.0, 10_000.0])
def test_all_cells_have_one_area_close_to_what_was_asked_for(km: float) -> None:
    upper, columns = rows_of(km)
    heights = np.diff(np.concatenate([[0.0], upper]))
    areas = 2 * np.pi * EARTH_RADIUS_KM**2 * heights / columns
    assert upper[-1] == pytest.approx(1.0)
    assert areas == pytest.approx(areas[0])
    assert areas[0] == pytest.approx(km**2, rel=0.1 if km <= 2500 else 0.4)


@pytest.mark.parametrize("km", [500.0, 1000.0])
def test_points_spread_evenly_fall_evenly_on_the_cells(km: float) -> None:
    lon, lat = random_points(200_000)
    names, counts = np.unique(equal_area_cells(km)(lon, lat), return_counts=True)
    _, columns = rows_of(km)
    n_cells = 2 * int(columns.sum())
    assert len(names) == n_cells
    expected = len(lon) / n_cells
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - (n_cells - 1)) < 5 * np.sqrt(2 * (n_cells - 1))


def test_cells_are_as_tall_as_wide_away_from_the_poles() -> None:
    upper, _ = rows_of(500.0)
    heights_km = np.diff(np.arcsin(np.concatenate([[0.0], upper]))) * EARTH_RADIUS_KM
    assert np.abs(heights_km / 500 - 1).max() < 0.1


@given(lon=lons, lat=lats, km=st.floats(20.0, 5000.0))
def test_a_cell_is_where_its_name_says(lon: float, lat: float, km: float) -> None:
    upper, columns = rows_of(km)
    name = at(f"cells:{km}", lon, lat)
    row, column = (int(part) for part in name[1:].split("C"))
    low = upper[row - 1] if row else 0.0
    assert low - 1e-12 <= abs(np.sin(np.radians(lat))) <= upper[row] + 1e-12
    assert column / columns[row] * 360 - 1e-9 <= (lon + 180.0) % 360.0 <= (column + 1) / columns[row] * 360 + 1e-9
    assert name[0] == ("N" if lat >= 0 else "S")


@pytest.mark.parametrize("argument", ["0", "-5", "nan", "inf", "20001", "0.5"])
def test_cells_of_impossible_sides_are_refused(argument: str) -> None:
    with pytest.raises(SamplingError, match="give a side between 1 and 10000 km"):
        strata_of(f"cells:{argument}")


# ------------------------------------------------------------------------------------------------ the files


def test_the_maps_are_small_and_their_licences_are_there() -> None:
    files = {path.name: path.stat().st_size for path in SHIPPED.glob("*.npz")}
    assert set(files) == {"climate.npz", "countries.npz", "koppen.npz", "landcover.npz"}
    assert sum(files.values()) < 1_500_000
    text = (SHIPPED / "LAYERS.txt").read_text(encoding="utf-8")
    assert all(name in text for name in files)
    assert "Creative Commons Attribution 4.0" in text


def test_nothing_is_read_before_a_layer_is_asked_for() -> None:
    import subprocess
    import sys

    code = (
        "import sys, geossl_data.sampling.strata as strata; from geossl_data.sampling.layers import countries as c;"
        "heavy = {'geopandas', 'pyogrio', 'shapely', 'rasterio', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy; assert strata._built_in.cache_info().currsize == 0;"
        "strata.strata_of('climate'); strata.strata_of('climate');"
        "assert strata._built_in.cache_info().currsize == 1;"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
