"""Points lie where they belong, and the block of data for the script says the same as the picture."""

import base64
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.elements import Elements

from geossl_data.report.parts import Scatter, WorldMap
from geossl_data.report.parts import points as module
from geossl_data.report.parts.points import by_name, by_value


def data_of(html: str) -> dict[str, Any]:
    """The block of data of a chart."""
    (text,) = re.findall(r'<script type="application/json" id="k-data">(.*?)</script>', html)
    return json.loads(text)


def floats(packed: str) -> list[float]:
    return np.frombuffer(base64.b64decode(packed), dtype="<f4").tolist()


def codes(packed: str) -> list[int]:
    return list(base64.b64decode(packed))


def dots(html: str) -> dict[str, list[tuple[float, float]]]:
    """Class → where the picture has its dots."""
    (group,) = re.findall(r'<g class="dots [a-z-]+">(.*?)</g>', html)
    return {
        kind: [(float(x), float(y)) for x, y in re.findall(r"M([-\d.]+) ([-\d.]+)h0", d)]
        for kind, d in re.findall(r'<path class="([^"]+)" d="([^"]*)"/>', group)
    }


def entries(colouring: module.Colouring) -> list[tuple[str, str, int]]:
    return [(each.name, each.kind, each.count) for each in colouring.entries]


def test_splits_have_their_own_colours_and_order() -> None:
    colouring = by_name("split", ["test", "train", "train"])
    assert entries(colouring) == [("train", "split-train", 2), ("test", "split-test", 1)]
    assert colouring.codes.tolist() == [1, 0, 0]


def test_the_commonest_names_have_colours_and_the_rest_share_one() -> None:
    names = [f"s{number:02d}" for number in range(12) for _ in range(20 - number)] + [""]
    colouring = by_name("stratum", names)
    found = entries(colouring)
    assert found[0] == ("s00", "c0", 20)
    assert [kind for _, kind, _ in found] == [*(f"c{number}" for number in range(8)), "others"]
    assert found[-1] == ("others (5)", "others", 12 + 11 + 10 + 9 + 1)
    assert colouring.codes[-1] == 8


def test_values_have_round_ranges_and_what_is_unknown_its_own() -> None:
    colouring = by_value("change", [0.05, 0.15, 0.25, 0.35, 0.35, np.nan])
    assert entries(colouring) == [
        ("0.05 to 0.10", "v0", 1),
        ("0.10 to 0.15", "v1", 0),
        ("0.15 to 0.20", "v2", 1),
        ("0.20 to 0.25", "v2", 0),
        ("0.25 to 0.30", "v3", 1),
        ("0.30 to 0.35", "v4", 0),
        ("0.35 to 0.40", "v5", 2),
        ("not known", "others", 1),
    ]
    assert colouring.values is not None
    assert np.isnan(colouring.values[-1])


def test_whole_numbers_are_no_ranges_where_they_are_few() -> None:
    assert [name for name, _, _ in entries(by_value("looks", [2, 3, 4, 4]))] == ["2", "3", "4"]
    assert [name for name, _, _ in entries(by_value("looks", list(range(20))))][:2] == ["0 to 4", "5 to 9"]
    assert entries(by_value("looks", [4, 4])) == [("4", "v0", 2)]


def test_far_values_open_the_ends() -> None:
    values = [*np.linspace(0, 1, 400).tolist(), -500.0, 1e9]
    names = [name for name, _, _ in entries(by_value("change", values))]
    assert (names[0], names[-1]) == ("below 0.2", "0.8 and more")


@settings(max_examples=40)
@given(st.lists(st.floats(width=32, allow_infinity=False), min_size=1, max_size=60))
def test_every_value_has_one_entry_and_they_are_few(values: list[float]) -> None:
    colouring = by_value("x", values)
    assert np.bincount(colouring.codes, minlength=len(colouring.entries)).tolist() == [
        each.count for each in colouring.entries
    ]
    assert len(colouring.entries) <= 10


def test_a_scatter_has_one_scale_and_up_is_up() -> None:
    html = Scatter(title="t", x=[0, 4, 4, np.nan], y=[0, 0, 2, 1], category=list("aabb"), label=list("pqrs")).html("k")
    (left, foot), (right, _) = dots(html)["c0"]
    ((_, top),) = dots(html)["c1"]
    assert right - left == pytest.approx(2 * (foot - top), abs=0.3)
    data = data_of(html)
    assert floats(data["x"]) == pytest.approx([left, right, right], abs=0.06)
    assert floats(data["y"]) == pytest.approx([foot, foot, top], abs=0.06)
    assert data["label"] == ["p", "q", "r"]
    assert codes(data["colourings"][0]["codes"]) == [0, 0, 1]
    assert data["colourings"][0]["entries"] == [["a", "c0", 2], ["b", "c1", 1]]
    assert Elements(html).texts("desc") == ["3 points, across from 0 to 4, up from 0 to 2. By category: a 2, b 1."]


def test_a_scatter_of_one_point_or_none() -> None:
    assert list(dots(Scatter(title="t", x=[3], y=[3], category=["a"], label=["p"]).html("k"))) == ["one"]
    assert Scatter(title="t", x=[np.nan], y=[0], category=["a"], label=["p"]).html("k") == ""


def test_points_come_with_their_pictures() -> None:
    jpeg = b"\xff\xd8\xff\xe0"
    html = Scatter(title="t", x=[0, 1], y=[0, 1], category=["a", "a"], label=["p", "q"], picture=[jpeg, b""]).html("k")
    assert data_of(html)["picture"] == [f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}", ""]


def test_of_too_many_points_a_sample_is_shown_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_POINTS", 10)
    part = Scatter(title="t", x=list(range(40)), y=[0] * 40, category=["a"] * 40, label=[str(n) for n in range(40)])
    html = part.html("k")
    labels = [int(label) for label in data_of(html)["label"]]
    assert len(set(labels)) == 10
    assert labels == sorted(labels)
    assert "10 of 40 points are shown, drawn at random." in html
    assert data_of(html)["colourings"][0]["entries"] == [["a", "one", 40]]
    assert part.html("k") == html


def test_a_world_map_by_hand() -> None:
    html = WorldMap(
        title="Places",
        lon=[0.0, -170.0, 170.0, 0.0, np.nan],
        lat=[0.0, 0.0, 0.0, 60.0, 1.0],
        label=["<origin>", "west", "east", "north", "nowhere"],
        category={"split": ["train", "train", "val", "test", "train"]},
        value={"change": [0.1, 0.2, 0.3, np.nan, 0.5]},
    ).html("k")
    data = data_of(html)
    (x, y) = floats(data["x"]), floats(data["y"])
    assert data["home"] == data["whole"] == [0, 0, 1000, pytest.approx(1000 / 2.05458, abs=0.01)]
    assert (x[0], y[0]) == pytest.approx((500.0, 500 / 2.05458), abs=0.01)
    # On the equator Equal Earth has one scale.
    assert x[1:3] == pytest.approx([500 - 170 * 500 / 180, 500 + 170 * 500 / 180], abs=0.01)
    assert y[3] < y[0]
    assert data["label"] == ["<origin>", "west", "east", "north"]
    assert [each["name"] for each in data["colourings"]] == ["split", "change"]
    assert [name for name, _, _ in data["colourings"][1]["entries"]][-1] == "not known"
    assert dots(html)["split-train"] == [
        (500.0, pytest.approx(243.4, abs=0.06)),
        (pytest.approx(27.8, abs=0.06), pytest.approx(243.4, abs=0.06)),
    ]
    assert "4 places from 0.0° N to 60.0° N" in Elements(html).texts("desc")[0]
    land = Elements(html).all("path", "land")
    assert len(str(land[0]["d"])) > 50_000
    assert len(html) < 300_000


def test_a_map_of_near_places_shows_what_is_around_them() -> None:
    # Two degrees on both sides of the antimeridian, on Fiji.
    html = WorldMap(title="t", lon=[179.0, -179.0], lat=[-17.0, -18.0], label=["a", "b"], category={}, value={}).html(
        "k"
    )
    data = data_of(html)
    (one, other), (top, below) = floats(data["x"]), floats(data["y"])
    assert 0 < one < other < 1000
    assert 0 < top < below < data["home"][3]
    assert data["whole"][0] < 0
    assert data["whole"][2] == pytest.approx(4000, abs=1)
    assert data["colourings"][0]["entries"] == [["places", "one", 2]]
    # Vanua Levu and Viti Levu lie between the two.
    steps = [
        (int(x) / 10, int(y) / 10)
        for x, y in re.findall(r"M(-?\d+) (-?\d+)l", str(Elements(html).all("path", "land")[0]["d"]))
    ]
    assert sum(0 < x < 1000 and 0 < y < data["home"][3] for x, y in steps) >= 2
    assert not Elements(html).all("select")


def test_a_map_of_no_place_is_left_out() -> None:
    assert WorldMap(title="t", lon=[], lat=[], label=[], category={}, value={}).html("k") == ""
    assert WorldMap(title="t", lon=[np.nan], lat=[1.0], label=["a"], category={}, value={}).html("k") == ""
