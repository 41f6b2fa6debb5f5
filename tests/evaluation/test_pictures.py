"""Pictures show each place where it is, in its colour, and come out the same every time."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.errors import SamplingError
from geossl_data.evaluation import pictures
from geossl_data.evaluation.coverage import Drawing
from geossl_data.evaluation.pictures import (
    OTHERS,
    SPLIT_COLOURS,
    STRATUM_COLOURS,
    View,
    charts,
    compare_maps,
    equal_earth,
    histograms,
    map_of,
    maps,
    strata_bars,
    view_of,
)
from geossl_data.evaluation.pictures.canvas import Canvas
from geossl_data.evaluation.pictures.ground import COAST, LAND, SEA

SPLITS = ("train", "val", "test")
ASPECT = 830 / 560


def drawing(lon: object, lat: object, stratum: object = "a", split: object = "train") -> Drawing:
    lons = np.asarray(lon, float)
    return Drawing(
        lon=lons,
        lat=np.asarray(lat, float),
        stratum=np.broadcast_to(np.asarray(stratum, dtype=np.str_), lons.shape),
        split=np.broadcast_to(np.asarray(split, dtype=np.str_), lons.shape),
    )


def pixels(path: Path) -> np.ndarray:
    """Rows from the top, columns, red green blue from 0 to 255."""
    from matplotlib.image import imread

    return np.asarray(np.round(imread(path)[..., :3] * 255), dtype=np.int64)


def rgb(colour: str) -> list[int]:
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]


def pixels_at(path: Path, lon: object, lat: object, places: Drawing, by: Literal["split", "stratum"]) -> np.ndarray:
    """The 3 × 3 pixels that a map of some places has at points in degrees, shape (n, 9, 3)."""
    canvas, axes, view = maps._map(places, "title", by=by)
    canvas.save(path)
    x, y = axes.transData.transform(np.column_stack(view.project(lon, lat))).T
    seen = pixels(path)
    rows, columns = (len(seen) - y).astype(int), x.astype(int)
    around = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return np.stack([seen[rows + dy, columns + dx] for dy, dx in around], axis=1)


def colours_at(path: Path, places: Drawing, by: Literal["split", "stratum"] = "split") -> list[str]:
    """Which of the colours that places may have a map has where its places are; "" for none."""
    known = [*SPLIT_COLOURS.values()] if by == "split" else [*STRATUM_COLOURS, OTHERS]
    seen = pixels_at(path, places.lon, places.lat, places, by)
    apart = np.abs(seen[:, :, None] - np.array([rgb(colour) for colour in known])).max(axis=3).min(axis=1)
    return [known[row.argmin()] if row.min() <= 8 else "" for row in apart]


# ------------------------------------------------------------------------------------------------ projections


def test_equal_earth_has_the_published_proportions() -> None:
    """A height to width of 1:2.05458, and poles of 0.59247 of the equator's length."""
    assert float(equal_earth(180, 90)[0] / equal_earth(180, 0)[0]) == pytest.approx(0.59247, rel=1e-4)
    assert float(equal_earth(180, 0)[0] / equal_earth(0, 90)[1]) == pytest.approx(pictures.GLOBE_ASPECT, rel=1e-5)


@given(st.floats(-179, 178), st.floats(-89, 88))
def test_equal_earth_keeps_areas(lon: float, lat: float) -> None:
    step = 1e-4
    x, y = equal_earth([lon, lon + step, lon], [lat, lat, lat + step])
    flat = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    round_ = math.radians(step) ** 2 * math.cos(math.radians(lat))
    assert flat == pytest.approx(round_, rel=1e-3)


def test_a_region_across_the_antimeridian_is_shown_as_one() -> None:
    view = view_of([177.2, 178.5, 179.9, -179.8, -178.5], [-18, -17, -16.5, -17.2, -19], aspect=ASPECT)
    assert view.extent is not None
    west, south, east, north = view.extent
    assert east - west < 10
    assert west < 177.2 < 180 < 181.5 < east
    assert south < -19 < -16.5 < north
    x, _ = view.project([177.2, 179.9, -179.8, -178.5], [-17.0] * 4)
    assert (np.diff(x) > 0).all()
    assert ((x > view.bounds[0]) & (x < view.bounds[2])).all()


@given(
    st.floats(-180, 179.9),
    st.floats(-85, 85),
    st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=8),
)
def test_every_place_lies_inside_its_view(lon: float, lat: float, around: list[tuple[float, float]]) -> None:
    lons = (np.array([lon + dx for dx, _ in around]) + 180) % 360 - 180
    lats = np.array([lat + dy for _, dy in around])
    view = view_of(lons, lats, aspect=ASPECT)
    x, y = view.project(lons, lats)
    west, south, east, north = view.bounds
    assert ((west < x) & (x < east) & (south < y) & (y < north)).all()
    if view.extent is not None:
        assert (east - west) / (north - south) == pytest.approx(ASPECT, rel=1e-6)
        assert view.extent[2] - view.extent[0] < 150
    if abs(lat) < 75:
        assert view.extent is not None


def test_wide_draws_and_none_at_all_are_shown_on_the_whole_earth() -> None:
    assert view_of([-120, 0, 100], [0, 10, 20], aspect=ASPECT) == View()
    assert view_of([], [], aspect=ASPECT) == View()


def test_an_extent_that_was_asked_for_is_in_the_map() -> None:
    view = view_of([0.0], [0.0], aspect=ASPECT, extent=(170, -20, 190, -10))
    assert view.extent is not None
    assert view.extent[0] <= 170
    assert view.extent[2] >= 190
    assert view.extent[1] <= -20
    assert view.extent[3] >= -10


@pytest.mark.parametrize("extent", [(10, 0, 0, 5), (0, 0, 400, 5), (0, 5, 10, 5), (0, -91, 10, 5)])
def test_an_impossible_extent_is_one_error(extent: tuple[float, float, float, float]) -> None:
    with pytest.raises(SamplingError, match="is not west, south, east, north"):
        view_of([0.0], [0.0], aspect=ASPECT, extent=extent)


# ------------------------------------------------------------------------------------------------------- maps


@pytest.mark.parametrize(
    ("lon", "lat"),
    [([5, 8, 12], [44, 47, 45]), ([-120, 20, 140], [40, 0, -30]), ([177.5, 179.9, -178.5], [-18, -17, -19])],
    ids=["region", "globe", "antimeridian"],
)
def test_each_place_has_the_colour_of_its_split(tmp_path: Path, lon: list[float], lat: list[float]) -> None:
    found = colours_at(tmp_path / "map.png", drawing(lon, lat, split=SPLITS))
    assert found == [SPLIT_COLOURS[split] for split in SPLITS]


def test_the_commonest_strata_have_their_colours_and_the_others_share_one(tmp_path: Path) -> None:
    """Forty strata: the first with two places each, so that they are the commonest."""
    number = np.concatenate([np.arange(40), np.arange(len(STRATUM_COLOURS))])
    lon, lat = number % 10 * 1.0, number // 10 * 1.0
    lon[40:] += 0.5
    places = drawing(lon, lat, [f"s{n:02d}" for n in number], [SPLITS[n % 3] for n in number])
    found = colours_at(tmp_path / "map.png", places, by="stratum")
    assert found == [STRATUM_COLOURS[n] if n < len(STRATUM_COLOURS) else OTHERS for n in number]


@pytest.mark.parametrize(
    ("lon", "lat", "land", "sea"),
    [
        ([-150, -30, 90], [70, 70, 70], (20, 0), (-30, 0)),
        ([5, 15], [43, 49], (10, 47), (8.5, 43.5)),
        ([177, -177], [-20, -15], (178, -17.7), (-178.6, -18.6)),
    ],
    ids=["globe", "region", "antimeridian"],
)
def test_land_and_sea_are_where_they_are(
    tmp_path: Path, lon: list[float], lat: list[float], land: tuple[float, float], sea: tuple[float, float]
) -> None:
    ask = np.array([land, sea], float)
    seen = pixels_at(tmp_path / "map.png", ask[:, 0], ask[:, 1], drawing(lon, lat), "split")
    assert (seen == [rgb(LAND)]).all(axis=2).any(axis=1).tolist() == [True, False]
    assert (seen == [rgb(SEA)]).all(axis=2).any(axis=1).tolist() == [False, True]


def test_no_line_runs_along_the_antimeridian_through_land(tmp_path: Path) -> None:
    """Chukotka is cut there in the coastline; the cut shall be no coast."""
    lat = np.arange(67.2, 68.4, 0.1)
    seen = pixels_at(tmp_path / "map.png", np.full(len(lat), 180.0), lat, drawing([175, -175], [64, 72]), "split")
    coast = np.array(rgb(COAST))
    assert (np.abs(seen - rgb(LAND)).max(axis=2) <= 40).all()
    assert (np.abs(seen - coast).max(axis=2) > 20).all()


def test_a_map_is_a_png_of_its_size_and_the_same_every_time(tmp_path: Path) -> None:
    places = drawing([5, 8, 12], [44, 47, 45], ["a", "b", "c"], SPLITS)
    for name in ("a", "b"):
        map_of(tmp_path / f"{name}.png", places, "Alps", by="stratum")
    written = (tmp_path / "a.png").read_bytes()
    assert written == (tmp_path / "b.png").read_bytes()
    assert written.startswith(b"\x89PNG\r\n\x1a\n")
    assert b"Software" not in written
    assert pixels(tmp_path / "a.png").shape == (pictures.HEIGHT_PX, pictures.WIDTH_PX, 3)


def test_settings_of_the_user_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    map_of(tmp_path / "a.png", drawing([5], [44]), "Alps")
    with matplotlib.rc_context(
        {"font.family": "serif", "text.usetex": True, "axes.grid": True, "savefig.bbox": "tight", "figure.dpi": 50}
    ):
        map_of(tmp_path / "b.png", drawing([5], [44]), "Alps")
        assert matplotlib.rcParams["figure.dpi"] == 50
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("split", [None, "train"])
@pytest.mark.parametrize("by", ["split", "stratum"])
def test_a_map_without_places_says_so(tmp_path: Path, split: str | None, by: Literal["split", "stratum"]) -> None:
    none = np.zeros(0, dtype=np.str_)
    empty = Drawing(lon=np.zeros(0), lat=np.zeros(0), stratum=none, split=None if split is None else none)
    canvas, _, _ = maps._map(empty, "title", by=by)
    assert "no places" in [text.get_text() for text in canvas.figure.texts]
    map_of(tmp_path / "map.png", empty, "title", by=by)
    assert (tmp_path / "map.png").stat().st_size > 10_000


def test_names_from_outside_are_words_and_not_formulas(tmp_path: Path) -> None:
    names = ["$\\frac{", "_hidden", "森林", "a\nb", "x" * 200, ""]
    places = drawing(np.arange(6.0), np.arange(6.0), names)
    canvas, _, _ = maps._map(places, "$x_2$ 森", by="stratum")
    said = [text.get_text() for text in canvas.figure.texts]
    assert "$x_2$ \ufffd" in said
    assert {"$\\frac{  1", "_hidden  1", "\ufffd\ufffd  1", "a\ufffdb  1", "(none)  1"} <= set(said)
    assert max(map(len, said)) <= 150
    map_of(tmp_path / "map.png", places, "title", by="stratum")


def test_the_legend_counts_all_places() -> None:
    splits = ["train"] * 5 + ["val"] * 2 + ["test"] * 3
    canvas, _, _ = maps._map(drawing(np.arange(10.0), np.zeros(10), ["a"] * 6 + ["b"] * 4, splits), "t", by="stratum")
    said = [text.get_text() for text in canvas.figure.texts]
    assert {"a  6", "b  4", "train  5", "val  2", "test  3"} <= set(said)
    assert any(words.startswith("10 places, coloured by stratum, their shape by split") for words in said)


def test_many_places_are_a_few_strokes_and_hide_no_split(tmp_path: Path) -> None:
    """All at one spot with the rare split first in the list: what is on top is left to chance, not to the order."""
    n = 60_000
    rng = np.random.default_rng(0)
    places = drawing(rng.uniform(0, 20, n), rng.uniform(40, 50, n), split=np.where(np.arange(n) % 2, "val", "test"))
    canvas, axes, _ = maps._map(places, "title")
    assert len(axes.lines) < 60
    canvas.save(tmp_path / "map.png")
    seen = pixels(tmp_path / "map.png")[100:600, 100:850].reshape(-1, 3)
    val, test = (int((seen == rgb(SPLIT_COLOURS[split])).all(axis=1).sum()) for split in ("val", "test"))
    assert 0.7 < val / test < 1.4


# ------------------------------------------------------------------------------------------- the other pictures


def test_maps_side_by_side_are_as_wide_as_one_and_show_each_draw(tmp_path: Path) -> None:
    for count, wide in ((0, 0), (3, 2), (6, 3)):
        draws = {f"s{number}": drawing([5.0 + number, 9.0], [45.0, 47.0]) for number in range(count)}
        compare_maps(tmp_path / f"{count}.png", draws)
        seen = pixels(tmp_path / f"{count}.png")
        assert seen.shape[1] == pictures.WIDTH_PX
        lines = -(-count // wide) if wide else 1
        parts = np.array_split(seen[70:], lines, axis=0)
        found = [block for part in parts for block in np.array_split(part, max(wide, 1), axis=1)][:count]
        assert all((block == rgb(pictures.PLAIN)).all(axis=2).any() for block in found)


def test_looks_are_counted_by_month_and_year() -> None:
    times = np.array(["2019-01-05", "2019-01-20", "2020-01-01", "2021-12-31", "NaT"], dtype="datetime64[s]")
    canvas = Canvas(460)
    axes = canvas.axes(60, 50, 470, 285)
    charts._months(canvas, axes, times[:-1])
    heights = np.array([patch.get_height() for patch in axes.patches]).reshape(3, 12)
    assert heights[:, 0].tolist() == [2, 1, 0]
    assert heights[:, 11].tolist() == [0, 0, 1]
    assert heights.sum() == 4
    assert {"2019  2", "2020  1", "2021  1"} <= {text.get_text() for text in canvas.figure.texts}


def test_more_years_than_colours_are_put_together() -> None:
    times = np.array([f"{year}-06-01" for year in range(2000, 2020)], dtype="datetime64[D]")
    canvas = Canvas(460)
    charts._months(canvas, canvas.axes(60, 50, 470, 285), times)
    said = [text.get_text() for text in canvas.figure.texts[1:]]
    assert said[0] == "2018–2019  2"
    assert said[-1] == "2000–2002  3"


def test_every_gap_is_in_a_bar(tmp_path: Path) -> None:
    gaps = np.array([-24.0, -0.5, 0.0, 0.5, 23.9, 24.0])
    canvas = Canvas(460)
    axes = canvas.axes(680, 50, 480, 285)
    charts._gaps(canvas, axes, gaps)
    assert sum(patch.get_height() for patch in axes.patches) == 6
    assert "median distance 12.2 h, largest 24.0 h" in [text.get_text() for text in canvas.figure.texts]
    for name, times, hours in (("full", np.array(["2020-01-01"] * 6, dtype="datetime64[s]"), gaps), ("none", [], [])):
        histograms(tmp_path / name, np.array(times, dtype="datetime64[s]"), np.array(hours, dtype=float))
        assert pixels(tmp_path / name).shape == (460, pictures.WIDTH_PX, 3)


def test_strata_short_of_their_target_stand_out(tmp_path: Path) -> None:
    path = tmp_path / "bars.png"
    strata_bars(path, {"a": 10, "b": 5}, {"a": 10, "b": 5}, {"a": 20, "b": 20})
    warned = (pixels(path) == rgb(pictures.WARNING)).all(axis=2).sum()
    assert warned == 0
    strata_bars(path, {"a": 10, "b": 5}, {"a": 10, "b": 3}, {"a": 20, "b": 20})
    seen = pixels(path)
    assert (seen == rgb(pictures.WARNING)).all(axis=2).sum() > 500
    full = (seen == rgb(pictures.PLAIN)).all(axis=2).sum()
    assert full / (seen == rgb(pictures.WARNING)).all(axis=2).sum() == pytest.approx(10 / 3, rel=0.1)


def test_strata_that_miss_most_are_kept_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    original = Canvas.text

    def heard(self: Canvas, x: float, y: float, words: str, **style: object) -> None:
        said.append(words)
        original(self, x, y, words, **style)

    monkeypatch.setattr(Canvas, "text", heard)
    names = [f"s{number:02d}" for number in range(50)]
    target = {name: 100 - number for number, name in enumerate(names)}
    strata_bars(tmp_path / "bars.png", target, target | {"s49": 0}, dict.fromkeys(names, 1000))
    assert "s49" in said
    assert sum(words in names for words in said) == pictures.MOST_STRATA
    assert any("1 short of their target; 20 more strata not shown" in words for words in said)


def test_bars_without_target_or_strata_are_drawn(tmp_path: Path) -> None:
    strata_bars(tmp_path / "a.png", {}, {"a": 3}, {"a": 4, "b": 2})
    strata_bars(tmp_path / "b.png", {}, {}, {})
    assert not (pixels(tmp_path / "a.png") == rgb(pictures.WARNING)).all(axis=2).any()
    assert pixels(tmp_path / "b.png").shape[1] == pictures.WIDTH_PX


def test_the_module_is_there_without_matplotlib() -> None:
    """`geossl --help` and every stage that draws nothing pay nothing for pictures."""
    import subprocess
    import sys

    code = "import sys, geossl_data.evaluation.pictures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
