"""Naming layers: built-in, of files of one's own, crossed; and numbers from files."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon, box

from geossl_data.errors import SamplingError
from geossl_data.grid import haversine_km
from geossl_data.sampling.layers.polygons import Polygons, on_earth
from geossl_data.sampling.strata import LAYERS, Strata, strata_of, values_of


def write(path: Path, shapes: list[Any], *, crs: Any = 4326, **fields: list[Any]) -> Path:
    geopandas.GeoDataFrame(fields, geometry=shapes, crs=crs).to_file(path)
    return path


def names(layer: Strata, *points: tuple[float, float]) -> list[str]:
    lon, lat = np.array(points, dtype=float).reshape(-1, 2).T
    return [str(name) for name in layer(lon, lat)]


def numbers(path: Path, column: str, *points: tuple[float, float], **options: float) -> list[float]:
    lon, lat = np.array(points, dtype=float).reshape(-1, 2).T
    return values_of(f"{path}:{column}", **options)(lon, lat).tolist()


# ------------------------------------------------------------------------------------------------ names


def test_crossed_layers_are_joined_and_unknown_where_one_is() -> None:
    crossed = strata_of("climate, continent,latitude")
    assert names(crossed, (31.2, 30.0), (-60.0, -3.1), (-30.0, 30.0)) == [
        "dry/Africa/N30", "tropical/South America/S00", "",
    ]  # fmt: skip
    lon, lat = np.linspace(-179, 179, 500), np.linspace(-80, 80, 500)
    parts = [strata_of(name)(lon, lat) for name in ("climate", "continent", "latitude")]
    expected = ["/".join(each) if all(each) else "" for each in zip(*parts, strict=True)]
    assert crossed(lon, lat).tolist() == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("climat", "no layer 'climat'; did you mean climate"),
        ("", "no layer ''; there are regions, latitude"),
        ("climate,", "no layer ''"),
        ("climate:5", "climate takes no argument"),
        ("cells:wide", "expected a side in km, as in cells:500"),
        ("biome", "no layer biome comes with geossl; give a file: --strata ecoregions.gpkg:BIOME_NAME"),
        ("ecoregion", "ecoregions.gpkg:BIOME_NAME"),
        ("absent.gpkg:BIOME", "absent.gpkg: no such file"),
        ("stac:esa-worldcover", "expected stac:COLLECTION/ASSET"),
        ("stac:a/b", "need a reader"),
        ("cover.tif", "need a reader"),
        ("cover.tif:2", "a raster has no field; give cover.tif alone"),
    ],
)
def test_unknown_layers_are_told_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(SamplingError, match=message) as caught:
        strata_of(spec)
    assert "\n" not in str(caught.value)


def test_an_address_is_refused_without_showing_it() -> None:
    for take in (strata_of, values_of):
        with pytest.raises(SamplingError, match="not an address") as caught:
            take("https://example.org/a.gpkg?sig=secret:FIELD")
        assert "secret" not in str(caught.value)


def test_rasters_and_collections_go_to_the_reader() -> None:
    asked: list[tuple[str, str]] = []

    def raster(source: str, detail: str) -> Strata:
        asked.append((source, detail))
        return lambda lon, lat: np.where(lon < 0, "", "forest")

    layer = strata_of("landcover.TIF,stac:esa-worldcover/map,latitude", raster=raster)
    assert asked == [("landcover.TIF", ""), ("stac", "esa-worldcover/map")]
    assert names(layer, (5.0, 50.0), (-5.0, 50.0), (np.nan, 50.0)) == ["forest/forest/N45", "", ""]


def test_a_layer_is_read_once() -> None:
    assert strata_of("climate") is strata_of("climate") is LAYERS["climate"]()


# ------------------------------------------------------------------------------------------------ vector files


@pytest.mark.parametrize("ending", ["geojson", "gpkg", "shp", "parquet"])
def test_a_field_of_polygons_in_any_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"regions.{ending}"
    shapes = [box(0, 0, 10, 10), shapely.MultiPolygon([box(20, 0, 30, 10), box(-30, 0, -20, 10)])]
    frame = geopandas.GeoDataFrame({"name": [" dry ", "wet/cold"], "other": [1, 2]}, geometry=shapes, crs=4326)
    frame.to_parquet(path) if ending == "parquet" else frame.to_file(path)
    points = ((5, 5), (25, 5), (-25, 5), (15, 5), (10, 10))
    assert names(strata_of(f"{path}:name"), *points) == ["dry", "wet/cold", "wet/cold", "", "dry"]


def test_the_path_ends_at_the_last_colon_and_starts_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd:place").mkdir()
    write(tmp_path / "odd:place" / "a:b.geojson", [box(0, 0, 1, 1)], kind=["x"])
    monkeypatch.chdir(tmp_path)
    assert names(strata_of("odd:place/a:b.geojson:kind"), (0.5, 0.5)) == ["x"]
    monkeypatch.chdir(tmp_path / "odd:place")
    for spec in ("a:b.geojson", "a:b.geojson:"):
        with pytest.raises(SamplingError, match=r"which field\? .* a:b.geojson:FIELD"):
            strata_of(spec)


def test_of_overlapping_polygons_the_first_counts_and_holes_are_empty(tmp_path: Path) -> None:
    ring = Polygon(box(0, 0, 10, 10).exterior, [box(4, 4, 6, 6).exterior])
    path = write(tmp_path / "a.gpkg", [ring, box(5, 0, 20, 10), box(0, 0, 20, 10)], code=[3, 1, 2])
    points = ((1, 1), (7, 1), (15, 1), (4.5, 5), (5.5, 5))
    assert names(strata_of(f"{path}:code"), *points) == ["3", "3", "1", "2", "1"]


def test_whole_numbers_have_no_decimals_and_empty_fields_no_name(tmp_path: Path) -> None:
    shapes = [box(i, 0, i + 1, 1) for i in range(4)]
    path = write(tmp_path / "a.gpkg", shapes, number=[1.0, np.nan, 2.5, 1e6], text=["a", None, "", "d"])
    points = tuple((i + 0.5, 0.5) for i in range(4))
    assert names(strata_of(f"{path}:number"), *points) == ["1", "", "2.5", "1000000"]
    assert names(strata_of(f"{path}:text"), *points) == ["a", "", "", "d"]


def test_invalid_polygons_are_repaired(tmp_path: Path) -> None:
    bow_tie = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    path = write(tmp_path / "a.geojson", [bow_tie, None], kind=["x", "y"])
    assert names(strata_of(f"{path}:kind"), (2, 5), (8, 5), (5, 8)) == ["x", "x", ""]


def test_other_projections_are_placed(tmp_path: Path) -> None:
    utm = write(tmp_path / "utm.gpkg", [box(400_000, 5_000_000, 500_000, 5_100_000)], crs=32633, kind=["x"])
    assert names(strata_of(f"{utm}:kind"), (14.4, 45.6), (15.1, 45.6)) == ["x", ""]
    around_pole = shapely.Point(0, 0).buffer(1_500_000)
    polar = write(tmp_path / "polar.gpkg", [around_pole], crs=3413, kind=["ice"])
    points = [(lon, 85.0) for lon in (-180.0, -90.0, 0.0, 45.0, 179.9)]
    assert names(strata_of(f"{polar}:kind"), *points, (0.0, 90.0), (0.0, 70.0)) == ["ice"] * 6 + [""]
    south = write(
        tmp_path / "south.gpkg", [around_pole.difference(shapely.Point(0, 0).buffer(5e5))], crs=3031, kind=[7]
    )
    assert names(strata_of(f"{south}:kind"), (10.0, -80.0), (180.0, -80.0), (10.0, -88.0)) == ["7", "7", ""]


@pytest.mark.parametrize(
    "shape",
    [
        box(178, -20, 183, -10),
        box(-182, -20, -177, -10),
        shapely.MultiPolygon([box(178, -20, 180, -10), box(-180, -20, -177, -10)]),
        Polygon([(178, -20), (-177, -20), (-177, -10), (178, -10)]),
        shapely.MultiPolygon([Polygon([(178, -20), (-177, -20), (-177, -10), (178, -10)]), box(0, 0, 1, 1)]),
    ],
    ids=["beyond 180", "beyond -180", "cut", "jumping", "jumping part"],
)
def test_polygons_across_the_antimeridian_in_every_writing(tmp_path: Path, shape: Any) -> None:
    path = write(tmp_path / "a.gpkg", [shape], kind=["x"])
    points = [(lon, -15.0) for lon in (177.9, 178.1, 179.9, 180.0, -180.0, -179.9, -177.2, -176.0, 0.0)]
    assert names(strata_of(f"{path}:kind"), *points) == [
        "",
        "x",
        "x",
        "x",
        "x",
        "x",
        "x",
        "",
        "",
    ]


def test_the_whole_earth_stays_the_whole_earth(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", [box(-180, -90, 180, 90)], kind=["x"])
    assert names(strata_of(f"{path}:kind"), (0, 0), (-180, 90), (179, -89)) == ["x"] * 3
    turned = write(tmp_path / "b.gpkg", [box(0, -90, 180, 90), box(180, -90, 360, 90)], kind=["e", "w"])
    assert names(strata_of(f"{turned}:kind"), (10, 0), (-10, 0), (-179, 0)) == ["e", "w", "w"]


def test_files_that_are_no_layers_are_refused_in_one_line(tmp_path: Path) -> None:
    fields = {f"f{number:02d}": [1] for number in range(20)}
    many = write(tmp_path / "many.gpkg", [box(0, 0, 1, 1)], **fields)
    points = write(tmp_path / "points.gpkg", [shapely.Point(0, 0)], kind=["x"])
    junk = tmp_path / "junk.gpkg"
    junk.write_bytes(b"not a database" * 20)
    bare = tmp_path / "bare.parquet"
    pq.write_table(pa.table({"kind": ["x"]}), bare)
    far = tmp_path / "far.geojson"
    metres = shapely.to_geojson(box(400_000, 5_000_000, 500_000, 5_100_000))
    far.write_text(f'{{"type": "Feature", "properties": {{"kind": 1}}, "geometry": {metres}}}')
    for spec, message in (
        (f"{many}:kind", "no field 'kind'; it has f00, f01, .*f11 …$"),
        (f"{points}:kind", "holds no polygon"),
        (f"{junk}:kind", "not a readable vector file"),
        (f"{bare}:kind", "not a readable vector file"),
        (f"{far}:kind", "do not lie on the Earth"),
        (f"{tmp_path}:kind", "no such file"),
    ):
        with pytest.raises(SamplingError, match=message) as caught:
            strata_of(spec)
        assert "\n" not in str(caught.value)


def test_a_file_without_a_reference_system_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    geopandas.GeoDataFrame({"kind": [1]}, geometry=[box(0, 0, 1, 1)]).to_parquet(path)
    with pytest.raises(SamplingError, match="states no coordinate reference system"):
        strata_of(f"{path}:kind")


boxes = st.tuples(st.integers(-200, 190), st.integers(-80, 70), st.integers(1, 60), st.integers(1, 10)).map(
    lambda each: box(each[0], each[1], each[0] + each[2], each[1] + each[3])
)


@settings(max_examples=50)
@given(shapes=st.lists(boxes, min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_the_first_polygon_is_that_of_brute_force(shapes: list[Polygon], seed: int) -> None:
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, 60).round(), rng.uniform(-90, 90, 60).round()
    lon[lon == 180] = -180
    found = Polygons(on_earth(np.array(shapes, dtype=object))).first(lon, lat)
    for number, x, y in zip(found.tolist(), lon, lat, strict=True):
        holding = [
            index
            for index, shape in enumerate(shapes)
            if any(shape.intersects(shapely.Point(x + turn, y)) for turn in (-360, 0, 360))
        ]
        assert number == (holding[0] if holding else -1)


# ------------------------------------------------------------------------------------------------ numbers


def csv(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def test_numbers_of_polygons(tmp_path: Path) -> None:
    shapes = [box(0, 0, 10, 10), box(5, 0, 20, 10), box(30, 0, 40, 10)]
    path = write(tmp_path / "a.gpkg", shapes, want=[2.0, 0.0, np.nan])
    found = numbers(path, "want", (1, 1), (7, 1), (15, 1), (35, 1), (-50, 1), (361, 1))
    assert found == pytest.approx([2.0, 2.0, 0.0, np.nan, np.nan, 2.0], nan_ok=True)


def test_numbers_of_a_table_are_means_within_reach(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "lon,lat,want", "8,47,1", "8.01,47,3", "8.5,47,7", "8,47.001,", "9,48,0")
    # 0.01° of longitude at 47° N is 0.76 km, 0.001° of latitude 0.11 km.
    assert numbers(path, "want", (8.0, 47.0), (8.5, 47.0), (9.0, 48.0)) == [2.0, 7.0, 0.0]
    assert np.isnan(numbers(path, "want", (8.25, 47.0), (np.nan, 0.0))).all()
    assert numbers(path, "want", (8.0, 47.0), reach_km=0.5) == [1.0]
    assert numbers(path, "want", (8.0, 47.0), reach_km=60.0) == [pytest.approx(11 / 3)]


def test_tables_as_parquet_and_points_as_features_say_the_same(tmp_path: Path) -> None:
    lon, lat, want = [8.0, 8.01, 8.5], [47.0, 47.0, 47.0], [1, 3, 7]
    table, features = tmp_path / "a.parquet", tmp_path / "b.gpkg"
    pq.write_table(pa.table({"lon": lon, "lat": lat, "want": want}), table)
    write(features, [shapely.Point(x, y) for x, y in zip(lon, lat, strict=True)], want=want)
    geo = tmp_path / "c.parquet"
    geopandas.read_file(features).to_parquet(geo)
    for path in (table, features, geo):
        assert numbers(path, "want", (8.0, 47.0), (8.5, 47.0), (0.0, 0.0)) == pytest.approx([2, 7, np.nan], nan_ok=True)


def test_rows_are_near_across_the_antimeridian_and_the_pole(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "lon,lat,want", "179.999,10,1", "-179.999,10,3", "0,89.999,5", "90,89.999,7")
    assert numbers(path, "want", (180.0, 10.0), (-179.9995, 10.0), (180.0, 90.0)) == [2.0, 2.0, 6.0]


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), reach_km=st.floats(0.5, 300.0))
def test_means_are_those_of_brute_force(tmp_path_factory: pytest.TempPathFactory, seed: int, reach_km: float) -> None:
    rng = np.random.default_rng(seed)
    lon, lat, want = rng.uniform(5, 15, 40), rng.uniform(45, 50, 40), rng.uniform(0, 9, 40)
    path = tmp_path_factory.mktemp("table") / "a.parquet"
    pq.write_table(pa.table({"lon": lon, "lat": lat, "want": want}), path)
    at_lon, at_lat = rng.uniform(5, 15, 30), rng.uniform(45, 50, 30)
    found = values_of(f"{path}:want", reach_km=reach_km)(at_lon, at_lat)
    near = haversine_km(at_lon[:, None], at_lat[:, None], lon, lat) < reach_km
    expected = [want[row].mean() if row.any() else np.nan for row in near]
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["lon,lat,want", "8,47,high"], "want is 'high' in row 1; expected a number"),
        (["lon,lat,want", "8,47,1", "8,47,-2"], "want is -2 in row 2; expected finite numbers, 0 or more"),
        (["lon,lat,want", "8,47,inf"], "want is inf in row 1; expected finite numbers"),
        (["lon,lat,want", "8,47,"], "want holds no number"),
        (["lon,lat,other", "8,47,1"], "no field 'want'; it has lon, lat, other"),
        (["x,y,want", "8,47,1"], "no field 'lon'; it has x, y, want"),
        (["lon,lat,want", "8,97,1"], "lat 97 in row 1 is not within ±90"),
        (["lon,lat,want", "47,108,1"], "lon and lat look swapped"),
        (["lon,lat,want", "8,47,1,5"], "not a readable table"),
        (["lon,lat,want", "8,,1"], "lat nan in row 1"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    path = csv(tmp_path / "a.csv", *rows)
    with pytest.raises(SamplingError, match=message) as caught:
        values_of(f"{path}:want")
    assert "\n" not in str(caught.value)


def test_swapped_columns_within_range_are_noticed_by_the_land(tmp_path: Path) -> None:
    # Cities of Scandinavia; swapped they lie in the Indian Ocean.
    places = [(10.75, 59.91), (18.07, 59.33), (24.94, 60.17), (25.47, 65.01), (18.95, 69.65), (20.22, 67.86)]
    path = csv(tmp_path / "a.csv", "lon,lat,want", *(f"{lat},{lon},1" for lon, lat in places))
    with pytest.raises(SamplingError, match="swap"):
        values_of(f"{path}:want")
    good = csv(tmp_path / "b.csv", "lon,lat,want", *(f"{lon},{lat},1" for lon, lat in places))
    assert numbers(good, "want", places[0]) == [1.0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("want", "expected FILE:COLUMN"),
        (":want", "expected FILE:COLUMN"),
        ("a.csv:", "expected FILE:COLUMN"),
        ("absent.csv:want", "absent.csv: no such file"),
    ],
)
def test_what_is_no_table_and_column_is_told_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        values_of(spec)


def test_numbers_of_broken_files_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "a.parquet"
    broken.write_bytes(b"PAR1 no more")
    with pytest.raises(SamplingError, match="not a readable Parquet table"):
        values_of(f"{broken}:want")
    path = write(tmp_path / "b.gpkg", [box(0, 0, 1, 1)], want=["much"])
    with pytest.raises(SamplingError, match="want is 'much' in row 1; expected a number"):
        values_of(f"{path}:want")
    with pytest.raises(SamplingError, match="a reach of 0 km"):
        values_of(f"{path}:want", reach_km=0.0)
