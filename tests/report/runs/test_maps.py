"""What is seen of an encoder: a point for each look, and neighbours with their pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geossl_data.evaluation.rows import looks_of
from geossl_data.report.parts import Gallery, Scatter
from geossl_data.report.runs import maps
from geossl_data.report.runs.embedded import Embedded
from geossl_data.report.runs.maps import Seen, seen

JPEG = b"\xff\xd8\xff"


def found(shards: Any, sensor: str = "s2") -> Embedded:
    """As an encoder would find them that knows the class, then the place, of each look."""
    members = ("s2_10m",) if sensor == "s2" else ("s1",)
    rows = looks_of(shards, members)
    label = np.array([shards.entries[index].labels[0] % 4 for index in rows.index])
    x = np.eye(4, dtype=np.float32)[label] * 3 + 0.01 * np.sin(np.outer(rows.index + 1, np.arange(1, 5)))
    return Embedded(sensors=sensor, members=members, rows=rows, x=x.astype(np.float32))


def shown(shards: Any, sensor: str = "s2", **more: Any) -> Seen:
    return seen(
        found(shards, sensor), shards, **({"seed": 0, "points_have_pictures": True, "with_neighbours": True} | more)
    )


def test_every_look_is_a_point_with_its_class_words_and_picture(shards: Any) -> None:
    scatter, _ = shown(shards).parts
    assert isinstance(scatter, Scatter)
    assert len(scatter.x) == len(scatter.y) == len(scatter.category) == len(scatter.label) == 24
    assert scatter.category[:3] == ("grain-1", "grain-1", "grain-2")
    assert scatter.label[0] == "grain-1: place-0000, 2021-06-03, train"
    assert scatter.picture is not None
    assert len(scatter.picture) == 24
    assert all(picture.startswith(JPEG) for picture in scatter.picture)
    assert "24 looks by the encoder of s2;" in scatter.title
    assert scatter.category_name == "class"
    # Points of a class lie together.
    assert abs(scatter.x[0] - scatter.x[8]) < 0.05 < abs(scatter.x[0] - scatter.x[2]) + abs(scatter.y[0] - scatter.y[2])


def test_neighbours_come_with_class_cosine_and_picture_after_their_query(shards: Any) -> None:
    _, gallery = shown(shards).parts
    assert isinstance(gallery, Gallery)
    assert len(gallery.cards) == 8
    assert sorted(card.title for card in gallery.cards[:4]) == ["grain-1", "grain-2", "grain-4", "grain-8"]
    card = gallery.cards[0]
    assert dict(card.facts) == {"of the same class": "3 of 5"}
    assert dict(card.tags) == {"class": "grain-1"}
    (strip,) = card.strips
    assert strip.caption.startswith("Query: place-")
    # Three other places are of its class.
    assert ". Nearest, by cosine: grain-1 1.00, grain-1 1.00, grain-1 1.00, grain-" in strip.caption
    assert len(strip.pictures) == 6
    assert all(data.startswith(JPEG) for _, data in strip.pictures)
    said = [alt.split(", ") for alt, _ in strip.pictures]
    assert [words for words, *_ in said[:4]] == ["query: grain-1", "grain-1 1.00", "grain-1 1.00", "grain-1 1.00"]
    assert len({place for _, place, *_ in said}) == 6


def test_how_often_the_nearest_is_of_the_class_is_a_fact(shards: Any) -> None:
    assert shown(shards).facts == {"same class as the nearest elsewhere, s2": "100 %, by chance 21 %"}


def test_radar_is_shown_where_the_encoder_sees_nothing_else(shards: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(maps, "thumbnails", lambda look, members, side: asked.append(tuple(look)) or {"radar": b"R"})
    scatter, _ = shown(shards, "s1").parts
    assert isinstance(scatter, Scatter)
    assert set(scatter.picture or ()) == {b"R"}
    assert set(asked) == {("s1",)}


def test_points_have_no_pictures_where_they_are_too_large_or_lacking(
    shards: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "MOST_SMALL_NBYTES", 100)
    assert shown(shards, with_neighbours=False).parts[0].picture is None  # type: ignore[attr-defined]
    monkeypatch.undo()
    monkeypatch.setattr(maps, "thumbnails", lambda look, members, side: {})
    scatter, gallery = shown(shards).parts
    assert scatter.picture is None  # type: ignore[attr-defined]
    assert all(strip.pictures == [] for card in gallery.cards for strip in card.strips)  # type: ignore[attr-defined]


def test_only_what_is_asked_for_is_read(shards: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "thumbnails", None)
    (scatter,) = shown(shards, points_have_pictures=False, with_neighbours=False).parts
    assert isinstance(scatter, Scatter)


def test_one_place_alone_has_a_point_and_no_neighbour(dated: Any) -> None:
    alone = shown(dated({"test": 1}))
    scatter, gallery = alone.parts
    assert isinstance(scatter, Scatter)
    assert (len(scatter.x), dict(alone.facts)) == (2, {})
    assert isinstance(gallery, Gallery)
    assert gallery.cards == []
    assert gallery.html("g") == ""


def test_collapsed_embeddings_lie_on_one_point(shards: Any) -> None:
    same = found(shards)
    same.x[:] = 1.0
    scatter, _ = seen(same, shards, seed=0, points_have_pictures=False, with_neighbours=True).parts
    assert isinstance(scatter, Scatter)
    assert set(scatter.x) == set(scatter.y) == {0.0}
    assert "0 % and 0 % of the variance" in scatter.title


def test_own_pictures_without_labels_are_told_apart_by_split(dated: Any, tmp_path: Path) -> None:
    unlabelled = dated({"train": 2, "test": 2}, labels=False)
    without = shown(unlabelled, points_have_pictures=False)
    assert without.facts == {}
    assert set(without.parts[0].category) == {"train", "test"}  # type: ignore[attr-defined]
