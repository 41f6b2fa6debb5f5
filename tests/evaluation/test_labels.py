"""Labelled rows: worked by hand, loops as oracles, shares that are nested, no ground on both sides."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from evaluation.own_shards import MASK, PICTURE, OwnShards
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.bands import MEMBERS, Member
from geossl_data.errors import ShardError, TrainingError
from geossl_data.evaluation import labels
from geossl_data.evaluation.labels import UNKNOWN, change_maps_of, class_sets_of, classes_of, maps_of, target_of
from geossl_data.evaluation.rows import Rows, looks_of, pairs_of, share_of, sides_of

LABEL = MEMBERS["label"]


def picture() -> dict[str, np.ndarray]:
    return {"s2": np.zeros((3, 4, 4), np.uint8)}


def with_map(values: Any, name: str = "mask", dtype: str = "uint8") -> dict[str, np.ndarray]:
    return picture() | {name: np.array(values, dtype=dtype).reshape(4, 4)}


def timed(*days: list[float], **more: Any) -> OwnShards:
    return OwnShards([PICTURE], [[picture()] * len(own) for own in days], days=days, **more)


# ------------------------------------------------------------------------------------------------ looks and pairs


def test_every_look_that_has_all_the_members_is_a_row(toy: Any) -> None:
    shards = toy.ToyShards({"train": 2, "test": 1}, n_looks=2, size=24, lacking=((0, 1, "s1"), (2, 0, "s2_60m")))
    assert looks_of(shards, ["s1"]).order == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]
    rows = looks_of(shards, ["s1", "s2_60m"])
    assert rows.order == [(0, 0), (1, 0), (1, 1), (2, 1)]
    assert rows.look.tolist() == [[0], [0], [1], [1]]
    assert rows.split.tolist() == ["train"] * 3 + ["test"]
    assert len(rows) == 4
    assert rows.taken(np.array([2, 0])).order == [(1, 1), (0, 0)]
    assert rows.taken(rows.split == "test").order == [(2, 1)]
    with pytest.raises(ShardError, match="no member 'sar'"):
        looks_of(shards, ["sar"])


def test_places_are_the_same_where_coordinates_are() -> None:
    here, there = (7.0, 46.0), (8.0, 46.0)
    unknown = (np.nan, np.nan)
    shards = timed(*[[0.0]] * 6, lonlat=[here, unknown, there, here, unknown, there])
    assert looks_of(shards, ["s2"]).place.tolist() == [0, 1, 2, 0, 4, 2]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([0, 85, 730, 815], (0, 2)),  # two years, the same season, the earlier of two alike
        ([0, 200, 560], (1, 2)),  # of one year both; 360 days are nearer to a season than 560
        ([30, 300, 720], (0, 2)),  # 690 days are two years short of 40 days; 420 are one
        ([0, 100, 130], (1, 2)),  # no year: the nearest season
        ([0, 600, 700], (0, 2)),  # 600 is one year, 700 two
        ([np.nan, np.nan, np.nan], (0, 2)),  # nobody knows when: first and last
        ([np.nan, 10, 400, np.nan], (1, 2)),  # what is known goes first
        ([np.nan, 10, np.nan], (0, 2)),
    ],
)
def test_pairs_worked_by_hand(days: list[float], expected: tuple[int, int]) -> None:
    rows = pairs_of(timed([5.0], list(map(float, days))), ["s2"])
    assert rows.index.tolist() == [1]
    assert tuple(rows.look[0].tolist()) == expected
    assert rows.order == [(1, expected[0]), (1, expected[1])]


def by_loops(days: list[float]) -> tuple[float, float]:
    """Most whole years, by 45 days short of them at most, and then the least days between the seasons."""
    best = (-1.0, 0.0)
    for i, one in enumerate(days):
        for other in days[i + 1 :]:
            apart, years = other - one, 0
            while apart + 45 >= 365.25 * (years + 1):
                years += 1
            season = min(abs(apart - 365.25 * whole) for whole in range(12))
            best = max(best, (years, -season))
    return best


@settings(max_examples=30, deadline=None)
@given(days=st.lists(st.integers(0, 3000), min_size=2, max_size=6, unique=True))
def test_pairs_agree_with_loops(days: list[int]) -> None:
    ordered = [float(day) for day in sorted(days)]
    first, second = pairs_of(timed(ordered), ["s2"]).look[0].tolist()
    assert by_loops([ordered[first], ordered[second]]) == by_loops(ordered)
    assert first < second


def test_pairs_have_the_members_and_the_later_look_the_target(caplog: pytest.LogCaptureFixture) -> None:
    mask = with_map([1] * 16)
    nothing: dict[str, np.ndarray] = {}
    days = [[0.0, 365.0, 730.0]] * 3
    shards = OwnShards(
        [PICTURE, MASK], [[picture(), mask, picture()], [mask, nothing, picture()], [mask] * 3], days=days
    )
    assert pairs_of(shards, ["s2"]).look.tolist() == [[0, 2]] * 3
    with caplog.at_level(logging.INFO):
        rows = pairs_of(shards, ["s2"], target="mask")
    assert rows.index.tolist() == [0, 2]
    assert rows.look.tolist() == [[0, 1], [0, 2]]
    assert "1 of 3 places have no two looks to compare" in caplog.text


# ------------------------------------------------------------------------------------------------ sides and shares


def test_the_train_split_teaches_and_the_test_split_judges(toy: Any) -> None:
    shards = toy.ToyShards({"train": 3, "val": 1, "test": 2}, size=24)
    sides = sides_of(shards, looks_of(shards, ["s1"]))
    assert sides.train.tolist() == [0, 1, 2, 3, 4, 5]
    assert sides.test.tolist() == [8, 9, 10, 11]
    assert sides.judged == "test"


def test_val_judges_where_no_test_row_is_there(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    shards = toy.ToyShards({"train": 2, "val": 1, "test": 1}, size=24)
    rows = looks_of(shards, ["s1"])
    sides = sides_of(shards, rows.taken(rows.split != "test"))
    assert (sides.judged, sides.test.tolist()) == ("val", [4, 5])
    assert "the val split judges instead" in caplog.text


@pytest.mark.parametrize(("splits", "lacking"), [({"train": 2}, "test or val"), ({"test": 2}, "train")])
def test_a_side_without_rows_is_refused(toy: Any, splits: dict[str, int], lacking: str) -> None:
    shards = toy.ToyShards(splits, size=24)
    with pytest.raises(TrainingError, match=f"no labelled looks in the {lacking} split; sample again with other"):
        sides_of(shards, looks_of(shards, ["s1"]))


def test_a_place_on_both_sides_is_refused() -> None:
    shards = timed([0.0], [0.0], [0.0], splits=["train", "train", "test"], lonlat=[(7, 46), (8, 46), (7, 46)])
    with pytest.raises(
        TrainingError, match=r"^place \(7.0, 46.0\) is in both the train split and the judged split \(1"
    ):
        sides_of(shards, looks_of(shards, ["s2"]))
    unknown = timed([0.0], [0.0], splits=["train", "test"])
    assert len(sides_of(unknown, looks_of(unknown, ["s2"])).test) == 1


def test_a_block_on_both_sides_is_refused(toy: Any) -> None:
    shards = toy.ToyShards({"train": 6, "test": 6}, size=24)
    object.__setattr__(shards.entries[8], "block", shards.entries[1].block)
    with pytest.raises(TrainingError, match=r"^block train-0 is in both .* \(1 such\); the scores would be worth noth"):
        sides_of(shards, looks_of(shards, ["s1"]))
    rows = looks_of(shards, ["s1"])
    assert len(sides_of(shards, rows.taken(rows.index != 8)).test) == 10


def rows_of(place: list[int]) -> Rows:
    n = len(place)
    return Rows(
        index=np.arange(n),
        look=np.zeros((n, 1), np.int64),
        place=np.array(place, dtype=np.int64),
        split=np.full(n, "train"),
    )


@settings(max_examples=40, deadline=None)
@given(
    place=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    seed=st.integers(0, 2**32),
    shares=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)),
    data=st.data(),
)
def test_shares_are_whole_places_nested_and_hold_every_class(
    place: list[int], seed: int, shares: tuple[float, float], data: st.DataObject
) -> None:
    rows = rows_of(place)
    train = np.flatnonzero(np.array(data.draw(st.lists(st.booleans(), min_size=len(place), max_size=len(place)))))
    labels = np.array(data.draw(st.lists(st.integers(-1, 4), min_size=len(place), max_size=len(place))))
    if not len(train):
        train = np.arange(len(place))
    small, large = (share_of(rows, train, share, seed=seed, labels=labels) for share in sorted(shares))
    assert set(small) <= set(large) <= set(train)
    assert len(small)
    for chosen, share in zip((small, large), sorted(shares), strict=True):
        places = np.unique(rows.place[chosen])
        assert chosen.tolist() == train[np.isin(rows.place[train], places)].tolist()
        assert set(labels[chosen]) - {-1} == set(labels[train]) - {-1}
        wanted = round(share * len(np.unique(rows.place[train])))
        assert wanted <= len(places) <= max(wanted, len(set(labels[train]) - {-1}), 1)
    assert share_of(rows, train, 1.0, seed=seed).tolist() == train.tolist()


def test_shares_of_places_with_several_classes_keep_each_of_them() -> None:
    rows = rows_of(list(range(100)))
    sets = np.zeros((100, 3), dtype=bool)
    sets[:, 0] = True
    sets[17, 1] = sets[62, 2] = True
    for seed in range(3):
        chosen = share_of(rows, np.arange(100), 0.03, seed=seed, labels=sets)
        assert sets[chosen].any(axis=0).all()
        assert len(chosen) == 3


def test_shares_depend_on_the_seed() -> None:
    rows, train = rows_of(list(range(50))), np.arange(50)
    drawn = [share_of(rows, train, 0.2, seed=seed).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 10


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(TrainingError, match="expected more than 0 and at most 1"):
        share_of(rows_of([0, 1]), np.arange(2), share, seed=0)


# ------------------------------------------------------------------------------------------------ classes


def test_classes_are_positions_among_the_names_by_number() -> None:
    shards = timed(
        [0.0, 800.0], [0.0], [0.0], labels=[[2, 10], [0], [4]], label_names={"10": "orchard", "2": "wood", "1": "lake"}
    )
    found, names = classes_of(shards, looks_of(shards, ["s2"]))
    assert names == ("lake", "wood", "4", "orchard")
    assert found.tolist() == [1, 3, -1, 2]
    assert classes_of(shards, pairs_of(shards, ["s2"]))[0].tolist() == [3]  # of the later look


def test_shards_without_labels_have_no_classes() -> None:
    shards = timed([0.0], [0.0])
    found, names = classes_of(shards, looks_of(shards, ["s2"]))
    assert (found.tolist(), names) == ([-1, -1], ())


def test_classes_that_cover_enough_of_the_known_ground() -> None:
    maps = [[1] * 12 + [3] * 4, [0] * 12 + [3] * 3 + [2], [0] * 16, [1] * 15 + [3]]
    samples = [[with_map(values, "label")] for values in maps] + [[picture()]]
    shards = OwnShards([PICTURE, LABEL], samples, label_names={"1": "water", "2": "wood", "5": "town"})
    found, names = class_sets_of(shards, looks_of(shards, ["s2"]), least_share=0.25)
    assert names == ("water", "wood", "3", "town")
    assert found.astype(int).tolist() == [
        [1, 0, 1, 0],
        [0, 1, 1, 0],  # a quarter of the four pixels that are known
        [0, 0, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    assert class_sets_of(shards, looks_of(shards, ["s2"]), least_share=0.01)[0][3].tolist() == [
        True,
        False,
        True,
        False,
    ]


def test_several_names_a_look_are_its_classes() -> None:
    shards = timed([0.0, 1.0], [0.0], [0.0], labels=[[1, 3], [2], [0]], label_names={"1": "a", "2": "b", "3": "c"})
    entries = [replace(entry) for entry in shards.entries]
    for entry, more in zip(entries, [((1, 2), (3,)), (), ()], strict=True):
        shards.entries[entries.index(entry)] = Several(entry, more)
    found, names = class_sets_of(shards, looks_of(shards, ["s2"]))
    assert names == ("a", "b", "c")
    assert found.astype(int).tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]]


class Several:
    """An entry with several labels a look."""

    def __init__(self, entry: Any, more: tuple[tuple[int, ...], ...]) -> None:
        self.labels, self.labels_more = entry.labels, more


def test_looks_with_one_class_each_are_no_sets() -> None:
    shards = timed([0.0], labels=[[1]])
    with pytest.raises(TrainingError, match="at most one class each; looks with several need a class map, or names"):
        class_sets_of(shards, looks_of(shards, ["s2"]))


def test_class_maps_with_large_numbers_have_no_sets() -> None:
    own = Member("label", "label", ("label",), 1, "int16", "class", plane=True)
    shards = OwnShards([PICTURE, own], [[with_map([300] * 16, "label", "int16")]])
    with pytest.raises(TrainingError, match="class maps label hold values beyond 0 to 255"):
        class_sets_of(shards, looks_of(shards, ["s2"]))


# ------------------------------------------------------------------------------------------------ maps

SCL = MEMBERS["scl"]


@pytest.mark.parametrize(
    ("members", "wanted", "expected"),
    [
        ([PICTURE, SCL, LABEL, MASK], None, "label"),
        ([PICTURE, SCL, LABEL, MASK], "mask", "mask"),
        ([PICTURE, SCL, LABEL], "scl", "scl"),
        ([PICTURE, SCL, MASK], None, "mask"),
    ],
)
def test_the_target_is_named_or_the_only_one(members: list[Member], wanted: str | None, expected: str) -> None:
    assert target_of(OwnShards(members, [[picture()]]), wanted) == expected


@pytest.mark.parametrize(
    ("members", "wanted", "message"),
    [
        ([PICTURE, SCL], None, "these shards hold no class maps; cut them with labels or masks"),
        ([PICTURE, MASK], "s2", "no class maps 's2' in these shards; they hold mask"),
        ([PICTURE], "label", "no class maps 'label' in these shards; they hold none"),
        (
            [MASK, replace(MASK, name="crop")],
            None,
            "hold 2 members with class maps: mask, crop; name one with --target",
        ),
    ],
)
def test_a_target_that_is_not_there_is_refused(members: list[Member], wanted: str | None, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        target_of(OwnShards(members, [[picture()]]), wanted)


def test_land_class_maps_have_the_names_of_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [[picture(), with_map([0, 1, 7, 2] * 4, "label")], [with_map([2] * 16, "label"), picture()], [picture()]]
    shards = OwnShards([PICTURE, LABEL], samples, label_names={"1": "water", "2": "wood", "5": "town"})
    maps = maps_of(shards, looks_of(shards, ["s2"]), "label")
    assert maps.names == ("water", "wood", "town", "7")
    assert maps.values.shape == (5, 4, 4)
    assert maps.values.dtype == np.uint8
    assert maps.values[1].ravel().tolist() == [UNKNOWN, 0, 3, 1] * 4
    assert [np.unique(values).tolist() for values in maps.values[[0, 2, 3, 4]]] == [
        [UNKNOWN],
        [1],
        [UNKNOWN],
        [UNKNOWN],
    ]
    monkeypatch.setattr(labels, "_MAPS_AT_ONCE", 1)
    assert np.array_equal(maps_of(shards, looks_of(shards, ["s2"]), "label").values, maps.values)


def test_masks_have_the_classes_that_they_hold() -> None:
    own = Member("mask", "mask", ("mask",), 1, "int16", "class", nodata=-1, plane=True)
    samples = [[with_map([0, 255, -1, 0] * 4, dtype="int16")], [with_map([900] * 16, dtype="int16")]]
    maps = maps_of(shards := OwnShards([PICTURE, own], samples), looks_of(shards, ["s2"]), "mask")
    assert maps.names == ("0", "255", "900")
    assert maps.values[0].ravel().tolist() == [0, 1, UNKNOWN, 0] * 4
    assert np.unique(maps.values[1]).tolist() == [2]


def test_a_mask_of_one_thing_is_called_by_it() -> None:
    own = Member("mask-water", "mask-water", ("mask-water",), 1, "uint8", "class", plane=True)
    shards = OwnShards([PICTURE, own], [[with_map([0, 255, 255, 0] * 4, "mask-water")]])
    maps = maps_of(shards, looks_of(shards, ["s2"]), "mask-water")
    assert maps.names == ("no water", "water")
    assert maps.values[0].ravel().tolist() == [0, 1, 1, 0] * 4


def test_maps_of_more_classes_than_fit_are_refused() -> None:
    own = Member("mask", "mask", ("mask",), 1, "int16", "class", plane=True)
    samples = [[with_map(np.arange(16) + 16 * number, dtype="int16")] for number in range(16)]
    shards = OwnShards([PICTURE, own], samples)
    with pytest.raises(TrainingError, match="class maps mask hold 256 different values; expected at most 255"):
        maps_of(shards, looks_of(shards, ["s2"]), "mask")
    with pytest.raises(TrainingError, match="member s2 holds bands, not classes"):
        maps_of(shards, looks_of(shards, ["s2"]), "s2")


def test_what_changed_is_where_class_maps_differ_or_the_later_mask_is_set() -> None:
    one, other = with_map([1, 1, 0, 2] * 4, "label"), with_map([1, 2, 2, 0] * 4, "label")
    shards = OwnShards([PICTURE, LABEL], [[one, other], [picture(), other], [one, picture()], [picture()] * 2])
    maps = change_maps_of(shards, pairs_of(shards, ["s2"]), "label")
    assert maps.names == ("unchanged", "changed")
    assert maps.values[0].ravel().tolist() == [0, 1, UNKNOWN, UNKNOWN] * 4
    assert maps.values[1].ravel().tolist() == [1, 1, 1, UNKNOWN] * 4
    assert (maps.values[2:] == UNKNOWN).all()
    masks = OwnShards([PICTURE, MASK], [[picture(), with_map([0, 255, 0, 1] * 4)]])
    assert change_maps_of(masks, pairs_of(masks, ["s2"]), "mask").values.ravel().tolist() == [0, 1, 0, 1] * 4
