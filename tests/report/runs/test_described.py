"""Looks are called by their class, else their stratum, else their split."""

from typing import Any

import pytest

from geossl_data.evaluation.rows import looks_of
from geossl_data.report.runs.described import UNKNOWN, described


def test_classes_name_looks(shards: Any) -> None:
    found = described(shards, looks_of(shards, ("s1",)))
    assert found.kind == "class"
    assert found.group[:4] == ("grain-1", "grain-1", "grain-2", "grain-2")
    assert found.known.all()
    assert found.words[:2] == ("place-0000, 2021-06-03, train", "place-0000, look 2, train")


@pytest.mark.parametrize(
    ("strata", "kind", "group", "known"),
    [
        (("N45E000", ""), "stratum", ("N45E000", UNKNOWN), [True, False]),
        (("",), "split", ("train", "test"), [True, True]),
    ],
)
def test_without_labels_strata_name_looks_and_then_splits(
    strata: tuple[str, ...], kind: str, group: tuple[str, ...], known: list[bool], dated: Any
) -> None:
    unlabelled = dated({"train": 1, "test": 1}, strata=strata, labels=False)
    found = described(unlabelled, looks_of(unlabelled, ("s1",)))
    assert found.kind == kind
    assert found.group[::2] == group
    assert found.known[::2].tolist() == known
