"""An interrupted search goes on where it stopped, and only then."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geossl_data.scenes.items import Item
from geossl_data.scenes.journal import Journal
from geossl_data.scenes.providers import ALIASES, provider_for
from geossl_data.scenes.reduction import reduced
from geossl_data.scenes.scene import scene_from_item
from geossl_data.scenes.selection import Findings, skipped_row

FILE = provider_for("catalog.parquet")
Make = Callable[..., Item]


@pytest.fixture
def findings(s2_item: Make) -> Findings:
    item = s2_item()
    scene = scene_from_item(item, FILE, "/data")
    return Findings(
        found=[(scene, reduced(item, scene, "/data", ALIASES))],
        skipped=[skipped_row("S2A_b", "no-time", "S2A_b: no acquisition time")],
        outside={"too cloudy": 3},
        n_items=5,
    )


def scene_of(item: Item) -> Any:
    return scene_from_item(item, FILE, "/data")


def test_what_was_found_comes_back(tmp_path: Path, findings: Findings) -> None:
    Journal(tmp_path / "j", "june").write("a", findings)
    again = Journal(tmp_path / "j", "june")
    assert again.read("a", scene_of) == findings
    assert again.read("b", scene_of) is None
    again.remove()
    assert not (tmp_path / "j").exists()


def test_another_query_starts_anew(tmp_path: Path, findings: Findings) -> None:
    Journal(tmp_path / "j", "june").write("a", findings)
    assert Journal(tmp_path / "j", "july").read("a", scene_of) is None
    assert Journal(tmp_path / "j", "june").read("a", scene_of) is None


def test_5_10_a_torn_entry_is_asked_for_again(tmp_path: Path, findings: Findings) -> None:
    journal = Journal(tmp_path / "j", "june")
    journal.write("a", findings)
    path = tmp_path / "j" / "a.json.gz"
    content = path.read_bytes()
    for cut in range(0, len(content), 37):
        path.write_bytes(content[:cut])
        assert journal.read("a", scene_of) is None
        assert not path.exists()
    path.write_bytes(b"\x1f\x8b" + content[2:40] + b"CANARY" + content[46:])
    assert journal.read("a", scene_of) is None


def test_the_same_findings_are_the_same_bytes(tmp_path: Path, findings: Findings) -> None:
    journal = Journal(tmp_path / "j", "june")
    journal.write("a", findings)
    journal.write("b", findings)
    assert (tmp_path / "j" / "a.json.gz").read_bytes() == (tmp_path / "j" / "b.json.gz").read_bytes()
