"""A folder of classes: a row for each image, and splits that share out every class alike."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.errors import DatasetError
from geossl_data.sampling.splits import SplitRule
from geossl_data.shards.writing.own.classes import read_classes, stratified_splits


def folder_of(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def test_every_file_of_a_class_is_a_place_of_its_own(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "river/b.jpg", "forest/a.tif", "river/.hidden", ".git/x.jpg", "README.md")
    rows = read_classes(folder, folder, ("B04", "B03", "B02"))
    assert [(row.place, row.path, row.label) for row in rows] == [
        ("a", "forest/a.tif", "forest"),
        ("b", "river/b.jpg", "river"),
    ]
    assert {(row.line, row.sensor, row.look, row.time, row.split, row.bands) for row in rows} == {
        (0, "s2", 0, None, None, ("B04", "B03", "B02"))
    }
    assert rows[0].where == "forest/a.tif"


@pytest.mark.parametrize(
    ("bands", "sensor"), [(("VV",), "s1"), (("VH", "VV"), "s1"), ((), "s2"), (("VV", "B04"), "s2"), (("1",), "s2")]
)
def test_bands_of_radar_make_the_sensor(tmp_path: Path, bands: tuple[str, ...], sensor: str) -> None:
    folder = folder_of(tmp_path, "city/a.png")
    assert [row.sensor for row in read_classes(folder, folder, bands)] == [sensor]


def test_files_of_one_name_are_different_places(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "x/1.png", "y/1.png", "y/1.tif", "y/2.png")
    assert [row.place for row in read_classes(folder, folder)] == ["x/1.png", "y/1.png", "y/1.tif", "2"]


def test_classes_that_are_numbers_are_these_numbers(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "01/a.png", "12/b.png")
    assert [row.label for row in read_classes(folder, folder)] == ["1", "12"]


def test_paths_may_be_told_from_a_folder_above(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "images", "river/b.jpg")
    assert [row.path for row in read_classes(folder, tmp_path)] == ["images/river/b.jpg"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ((), "no folder of images in it; expected one for each class"),
        (("a.png", ".x/b.png"), "no folder of images in it"),
        (("train/river/a.png",), "train/river: a folder in the folder of a class.*or write a table"),
        (("0/a.png",), "'0' is no name of a class: those that are numbers are counted from 1"),
    ],
)
def test_a_folder_that_is_laid_out_otherwise_is_one_line(tmp_path: Path, paths: tuple[str, ...], message: str) -> None:
    with pytest.raises(DatasetError, match=message) as error:
        read_classes(folder_of(tmp_path, *paths), tmp_path)
    assert "\n" not in str(error.value)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "images", "river/a.png")
    outside = folder_of(tmp_path, "secret.png") / "secret.png"
    (folder / "river" / "b.png").symlink_to(outside)
    with pytest.raises(DatasetError, match="a link out of the folder of the rasters"):
        read_classes(folder, folder)


# ------------------------------------------------------------------------------------------------ splits


def test_every_class_has_the_shares_that_were_asked_for() -> None:
    classes = {f"{kind}-{number}": kind for kind, count in ((1, 10), (2, 30)) for number in range(count)}
    splits = stratified_splits(classes, SplitRule(val=0.1, test=0.2, seed=3))
    counts = Counter((classes[place], split) for place, split in splits.items())
    assert counts == {
        (1, "train"): 7, (1, "val"): 1, (1, "test"): 2, (2, "train"): 21, (2, "val"): 3, (2, "test"): 6,
    }  # fmt: skip
    other = stratified_splits(classes, SplitRule(val=0.1, test=0.2, seed=4))
    assert other != splits


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    shares=st.tuples(st.floats(0, 0.5), st.floats(0, 0.49)),
    seed=st.integers(0, 2**16),
)
def test_no_share_is_off_by_more_than_rounding_and_none_trains_on_nothing(
    counts: list[int], shares: tuple[float, float], seed: int
) -> None:
    val, test = shares
    classes = {f"{kind}/{number}": kind for kind, count in enumerate(counts) for number in range(count)}
    splits = stratified_splits(classes, SplitRule(val=val, test=test, seed=seed))
    assert splits == stratified_splits(dict(reversed(classes.items())), SplitRule(val=val, test=test, seed=seed))
    found = Counter((classes[place], split) for place, split in splits.items())
    for kind, count in enumerate(counts):
        assert found[kind, "train"] >= 1
        assert abs(found[kind, "test"] - test * count) <= 0.5 + 1e-6 or found[kind, "train"] == 1
        judged = found[kind, "test"] + found[kind, "val"]
        assert abs(judged - (test + val) * count) <= 0.5 + 1e-6 or found[kind, "train"] == 1
