"""Cards of samples show the looks that the shards hold, and say of each what is known."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from geossl_data.errors import ShardError
from geossl_data.report.dataset import samples
from geossl_data.report.dataset.contents import Contents
from geossl_data.report.dataset.samples import card_of, changed_section, gallery_section
from geossl_data.report.parts import Card, Gallery, SideBySide
from geossl_data.report.thumbnails import thumbnails
from geossl_data.shards.reading.shards import Shards


def cards(sections: list[Any]) -> list[Card]:
    (part,) = sections[0].parts
    assert isinstance(part, Gallery)
    return list(part.cards)


def test_a_card_shows_all_looks_in_time_order(shards: Shards, contents: Contents) -> None:
    card = card_of(shards, contents, 3, range(int(contents.n_looks[3])))
    entry = shards.entries[3]
    assert card.facts["key"] == entry.key
    assert card.tags == {"split": entry.split, "stratum": entry.stratum}
    assert len(card.strips) == entry.n_looks
    for look, strip in enumerate(card.strips):
        expected = thumbnails(shards.read(3, look), shards.members)
        assert list(strip.pictures) == [(f"{name}, look {look}", data) for name, data in expected.items()]
        time, gap = entry.acquired[look], entry.gap_hours[look]
        assert time is not None
        assert gap is not None
        scene = shards.meta(3)["looks"][look]
        for words in (
            time.strftime("%Y-%m-%d %H:%M UTC"),
            f"gap {gap:+.1f} h".replace("-", "\N{MINUS SIGN}"),
            f"cloud {100 * (entry.cloud_fraction[look] or 0):.0f} %",
            f"orbit {scene['s1']['sat:relative_orbit']} {scene['s1']['sat:orbit_state']}",
            f"baseline {scene['s2']['s2:processing_baseline']}",
            entry.s2_ids[look],
            entry.s1_ids[look],
        ):
            assert words in strip.caption


def test_samples_are_spread_and_drawn_by_seed(shards: Shards, contents: Contents) -> None:
    drawn = [cards(gallery_section(shards, contents, places=3, nbytes=10**9, seed=seed)) for seed in (1, 1, 2)]
    first, again, other = ([card.facts["key"] for card in found] for found in drawn)
    assert first == again != other
    assert len(set(first)) == 3
    assert {card.tags["split"] for card in drawn[0]} == set(contents.per_split())


def test_what_does_not_fit_is_left_out_but_for_one(shards: Shards, contents: Contents) -> None:
    every = cards(gallery_section(shards, contents, places=3, nbytes=10**9))
    nbytes = [sum(4 * len(data) // 3 for strip in card.strips for _, data in strip.pictures) for card in every]
    assert cards(gallery_section(shards, contents, places=3, nbytes=nbytes[0] + nbytes[1])) == every[:2]
    sections = gallery_section(shards, contents, places=3, nbytes=1)
    assert cards(sections) == every[:1]
    (part,) = sections[0].parts
    assert isinstance(part, Gallery)
    assert part.title.startswith(f"1 of {len(contents)} places")
    assert gallery_section(shards, contents, places=0, nbytes=10**9) == []


def test_of_many_looks_some_are_left_out_from_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_LOOKS", 4)
    assert samples._some(3) == [0, 1, 2]
    assert samples._some(10) == [0, 3, 6, 9]
    assert (samples._some(5)[0], samples._some(5)[-1]) == (0, 4)


def test_a_look_that_cannot_be_read_has_a_line(
    shards: Shards, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Callable[..., Any] = shards.read

    def damaged(sample: int, look: int, *rest: Any) -> Any:
        if look == 1:
            raise ShardError("its checksum is another")
        return read(sample, look, *rest)

    def no_meta(sample: int) -> Any:
        raise ShardError("no JSON")

    monkeypatch.setattr(shards, "read", damaged)
    monkeypatch.setattr(shards, "meta", no_meta)
    first, second, *_ = card_of(shards, contents, 0, (0, 1)).strips
    assert first.pictures
    assert contents.s2_id[int(contents.first_look[0])].as_py() in first.caption
    assert (second.caption, second.pictures) == ("look 1: cannot be read: its checksum is another", ())


def test_least_and_most_changed_are_the_first_and_last_by_score(shards: Shards, contents: Contents) -> None:
    several = np.flatnonzero(contents.n_looks > 1)
    change = np.full(len(contents), np.nan)
    change[several] = np.arange(len(several))[::-1]
    (section,) = changed_section(shards, replace(contents, change=change), most=2)
    (part,) = section.parts
    assert isinstance(part, SideBySide)
    keys = contents.key.to_pylist()
    assert [card.facts["key"] for card in part.left] == [keys[several[-1]], keys[several[-2]]]
    assert [card.facts["key"] for card in part.right] == [keys[several[0]], keys[several[1]]]
    assert {len(card.strips) for card in (*part.left, *part.right)} == {2}
    alts = {alt.split(",")[0] for alt, _ in part.left[0].strips[0].pictures}
    assert alts == {"true colour", "false colour", "radar"}


def test_clear_looks_are_compared_where_there_are_two(make: Callable[..., Contents]) -> None:
    cloud = np.array([0.9, 0.1, np.nan, 0.5, 0.9, 0.9, 0.9, 0.0])
    contents = make("train test", looks=4, cloud=cloud)
    assert samples._ends(contents, 0) == (1, 2)
    assert samples._ends(contents, 1) == (0, 3)


def test_places_are_in_one_column_only(shards: Shards, contents: Contents) -> None:
    several = np.flatnonzero(contents.n_looks > 1)[:3]
    change = np.full(len(contents), np.nan)
    change[several] = 1.0
    (section,) = changed_section(shards, replace(contents, change=change))
    (part,) = section.parts
    assert isinstance(part, SideBySide)
    assert len(part.left) == len(part.right) == 1
    assert part.left[0].facts["key"] != part.right[0].facts["key"]


def test_without_a_change_score_nothing_is_compared(shards: Shards, contents: Contents) -> None:
    assert changed_section(shards, replace(contents, change=np.full(len(contents), np.nan))) == []
