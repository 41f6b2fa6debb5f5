"""Findings, looks that are stored twice and the worst looks, by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geossl_data.report.dataset import checks
from geossl_data.report.dataset.checks import Twice, checks_section, findings_of_rows, stored_twice, worst_section
from geossl_data.report.dataset.contents import Contents
from geossl_data.report.dataset.recorded import LookFacts, Recorded
from geossl_data.report.parts import Table
from geossl_data.shards.checking.findings import error, warning
from geossl_data.shards.manifest import read_manifest
from geossl_data.shards.reading.index import Index
from geossl_data.shards.reading.shards import Shards
from geossl_data.shards.stac_table import write_manifest

Make = Callable[..., Contents]
NOTHING = Recorded(looks=(), n_samples=0)


def tables_of(section: checks.Section) -> list[Table]:
    return [part for part in section.parts if isinstance(part, Table)]


def test_a_sound_dataset_has_no_findings(built: Path, contents: Contents, shards: Shards) -> None:
    assert findings_of_rows(built, contents) == []
    twice = stored_twice(shards, contents)
    section = checks_section(contents, [], twice, read_shards=True)
    assert section.facts == {"errors": 0, "warnings": 0, "looks that are stored more than once": 0}
    assert section.parts == ()


def test_rows_that_contradict_each_other_are_found(dataset: Path, contents: Contents) -> None:
    manifest = read_manifest(dataset / "manifest.parquet")
    first, *rest = manifest.entries
    odd = replace(first, gap_hours=(500.0, *first.gap_hours[1:]))
    write_manifest(dataset / "manifest.parquet", [odd, *rest], manifest.notes)
    found = findings_of_rows(dataset, contents)
    assert found is not None
    assert [(one.severity, one.where) for one in found] == [("warning", first.key)]


def test_too_many_rows_are_left_to_verify(built: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MOST_ROWS", 3)
    assert findings_of_rows(built, contents) is None
    assert "geossl verify" in checks_section(contents, None, None, read_shards=False).text


def test_findings_are_listed_and_counted(make: Make) -> None:
    section = checks_section(make(), [error("a.tar", "short"), warning("b", "odd")], None, read_shards=False)
    assert section.facts == {"errors": 1, "warnings": 1}
    assert tables_of(section)[0].rows[1:] == [("error", "a.tar", "short"), ("warning", "b", "odd")]
    assert "cannot be opened" in checks_section(make(), [], None, read_shards=False, problem="no such file").text


class Stored:
    """Shards of which only the index and the members are asked."""

    def __init__(self, shards: Shards, member_file: list[list[int]], crc32: list[int], nbytes: list[int]) -> None:
        names = ("s2_10m", "s1", "label")
        self.members = {name: shards.members[name] for name in names}
        none = np.zeros(0, dtype=np.int64)
        self.index = Index(
            (), none, none, none, none, np.array(member_file, np.int32), none, np.array(nbytes, np.int32),
            np.array(crc32, np.uint32),
        )  # fmt: skip


def test_the_same_pixels_are_found_whatever_the_class_map(shards: Shards, make: Make) -> None:
    # Looks 0, 2 and 5 hold the same; look 1 has another size, look 3 lacks a member, look 4 has another image.
    files = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, -1, 10], [11, 12, 13], [14, 15, 16]]
    crc = [7, 8, 1, 7, 8, 1, 7, 8, 2, 7, 1, 9, 8, 1, 7, 8, 3]
    nbytes = [100, 50, 9, 100, 51, 9, 100, 50, 9, 100, 9, 100, 50, 9, 100, 50, 9]
    found = stored_twice(Stored(shards, files, crc, nbytes), make())  # type: ignore[arg-type]
    assert found == Twice(groups=((0, 2, 5),), n_across=1)
    section = checks_section(make(), [], found, read_shards=True)
    assert section.facts["of these in two splits"] == 1
    assert tables_of(section)[0].rows[1] == ("place_0 look 0, place_1 look 0, place_2 look 1", "test, train")


def test_looks_without_an_image_are_not_alike(shards: Shards, make: Make) -> None:
    files = [[-1, -1, 0], [-1, -1, 1]]
    found = stored_twice(Stored(shards, files, [4, 4], [9, 9]), make("train test", looks=1))  # type: ignore[arg-type]
    assert found == Twice(groups=(), n_across=0)


def test_the_worst_looks_by_hand(make: Make) -> None:
    contents = make(
        gap_hours=np.array([1, -30, 2, 5, 0, np.nan]),
        cloud=np.array([0, 0, 0.5, 0, np.nan, 0.1]),
        s2_valid=np.array([1, 1, 0.7, 1, 1, np.nan]),
        s1_valid=np.array([1, 0.6, 1, 1, 1, np.nan]),
    )
    recorded = Recorded(looks=[LookFacts(look=0), LookFacts(look=3, shift_px=2.5)], n_samples=3)
    (section,) = worst_section(contents, recorded)
    found = {table.caption: [(row[0], row[2]) for row in table.rows[1:]] for table in tables_of(section)}
    assert found["Largest gap between the sensors."][:2] == [("place_0 look 1", "30.0"), ("place_1 look 1", "5.0")]
    assert found["Fewest valid pixels."] == [("place_0 look 1", "60.0"), ("place_1 look 0", "70.0")]
    assert found["Most cloud and cloud shadow."] == [("place_1 look 0", "50.0"), ("place_2 look 1", "10.0")]
    assert found["Radar images that lie furthest off."] == [("place_1 look 1", "2.50")]


def test_where_nothing_is_known_nothing_is_worst(make: Make) -> None:
    unknown = np.full(2, np.nan)
    contents = make("train", gap_hours=unknown, cloud=unknown, s2_valid=unknown, s1_valid=unknown)
    assert worst_section(contents, NOTHING) == []
