"""`geossl report` shows whatever a folder holds, as one page, and changes nothing else."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import numbers, write_raster

from geossl_data import pipeline, tables
from geossl_data.errors import DatasetError
from geossl_data.files import exclusive, sha256
from geossl_data.pipeline import _report
from geossl_data.recipe import ShardOptions
from geossl_data.records import Site
from geossl_data.report import build, runs
from geossl_data.report.page import Section, page
from geossl_data.report.parts import Gallery, Text

Command = Callable[..., tuple[int, str, str]]

TITLES = [
    "Overview",
    "Where the places lie",
    "Samples",
    "Looks",
    "Change and variety",
    "Bands",
    "Strata",
    "Splits",
    "Checks",
    "Worst looks",
    "Pairs found",
    "Skipped and rejected",
    "Provenance",
    "Licence notice",
    "Recipe",
]
"""Of a dataset with shards and no run; what it may lack is left out."""


def titles(path: Path) -> list[str]:
    found: list[str] = re.findall(r"<h2>([^<]*)</h2>", (path / "report.html").read_text())
    return found


def test_a_dataset_is_shown_whole(dataset: Path, geossl: Command) -> None:
    before = {path: sha256(path) for path in dataset.rglob("*") if path.is_file() and path.name != "report.html"}
    code, out, err = geossl("report", dataset, "--places", 2, "--json")
    assert code == 0, err
    facts = json.loads(out)["facts"]
    text = (dataset / "report.html").read_text()
    assert facts["places shown"] == 2
    assert facts["sections"] == len(titles(dataset))
    assert facts["file"] == str(dataset / "report.html")
    assert titles(dataset) == [title for title in TITLES if title in titles(dataset)]
    assert set(TITLES) - set(titles(dataset)) <= {"Change and variety", "Skipped and rejected"}
    assert "Every shard was read once" in text
    assert text.count("data:image/jpeg") >= 2 * 2 * 3
    after = {path: sha256(path) for path in dataset.rglob("*") if path.is_file() and path.name != "report.html"}
    assert after == before
    geossl("report", dataset, "--places", 2)
    assert (dataset / "report.html").read_text() == text


def test_the_page_of_a_draw_says_nothing_of_pixels(built: Path) -> None:
    assert {"Overview", "Where the places lie", "Looks", "Strata", "Pairs found", "Recipe"} <= set(titles(built))
    assert {"Samples", "Bands", "Checks"}.isdisjoint(titles(built))
    text = (built / "report.html").read_text()
    assert "data:image" not in text
    assert "evenness of strata" in text
    # The recipe is the one of the stage that wrote the page.
    assert "block_km" in text


def test_every_stage_has_a_page(dataset: Path, tmp_path: Path) -> None:
    searched = tmp_path / "searched"
    searched.mkdir()
    for name in ("scenes.parquet", "pairs.parquet", "yield.csv"):
        shutil.copy(dataset / name, searched)
    pipeline.report(searched)
    assert titles(searched) == ["Overview", "Pairs found", "Provenance"]
    shutil.copy(dataset / "samples.parquet", searched)
    pipeline.report(searched)
    assert "Strata" in titles(searched)
    # The shards alone, as somebody publishes them.
    published = tmp_path / "published"
    published.mkdir()
    shutil.copy(dataset / "manifest.parquet", published)
    shutil.copytree(dataset / "shards", published / "shards")
    pipeline.report(published, places=1)
    assert {"Samples", "Bands", "Looks", "Provenance"} <= set(titles(published))


def test_places_without_a_catalog_have_a_map(tmp_path: Path) -> None:
    values = {"size_px": 60, "cell": "c", "weight": 1.0, "inclusion_probability": 0.5, "block": "b"}
    sites = [
        Site(key=f"s{number}", lon=8.0 + number, lat=45.0, stratum="s", split="val", drawn_by="uniform", **values)
        for number in range(3)
    ]
    tables.write_table(tmp_path / "places.parquet", sites, Site)
    report = pipeline.report(tmp_path)
    assert report.facts["places shown"] == 0
    assert "Where the places lie" in titles(tmp_path)


def test_own_pictures_that_lie_nowhere_are_shown(tmp_path: Path) -> None:
    lines = ["place,look,sensor,path,label"]
    for place in range(4):
        write_raster(tmp_path / f"{place}.png", numbers(3, 24, 24, dtype="uint8", start=place * 50))
        lines.append(f"p{place},0,photo,{place}.png,{'land' if place % 2 else 'water'}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    folder = tmp_path / "own"
    pipeline.shard(folder, ShardOptions(from_table=str(tmp_path / "table.csv"), shard_mb=1))
    report = pipeline.report(folder)
    assert report.facts["places shown"] == 4
    assert {"Overview", "Samples", "Bands", "Checks"} <= set(titles(folder))
    assert {"Where the places lie", "Strata", "Looks"}.isdisjoint(titles(folder))
    assert "water" in (folder / "report.html").read_text()


def test_damaged_shards_are_told_and_the_rest_is_shown(dataset: Path) -> None:
    shard = next((dataset / "shards").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-512])
    pipeline.report(dataset)
    assert "The shards cannot be opened" in (dataset / "report.html").read_text()
    assert {"Where the places lie", "Checks"} <= set(titles(dataset))
    assert {"Samples", "Bands"}.isdisjoint(titles(dataset))


def test_large_shards_are_not_read_for_a_page(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_report, "MOST_VERIFIED_BYTES", 10)
    assert _report._findings(built, _report.silent) is None
    monkeypatch.undo()
    assert _report._findings(built, _report.silent) == []
    assert _report._findings(tmp_path, _report.silent) is None


def test_pictures_make_room_for_everything_else(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(sections: list[Section]) -> int:
        (gallery,) = [part for section in sections for part in section.parts if isinstance(part, Gallery)]
        return len(gallery.cards)

    sections = build.sections_of(built, places=5, runs=False, findings=[])
    assert shown(sections) == 5
    without = [section for section in sections if section.title != "Samples"]
    monkeypatch.setattr(build, "MOST_BYTES", len(page(without, title="").encode()) + 100_000)
    monkeypatch.setattr(build, "LEAST_PICTURES", 0)
    fewer = build.sections_of(built, places=5, runs=False, findings=[])
    assert 1 <= shown(fewer) < 5
    assert len(page(fewer, title="").encode()) < build.MOST_BYTES


def test_of_very_many_runs_some_are_only_named(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = [Section(title=f"Run {number}", parts=(Text(text="x" * 90),)) for number in range(5)]
    monkeypatch.setattr(runs, "run_sections", lambda *_, **__: sections)
    monkeypatch.setattr(build, "MOST_RUNS", 250)
    found = build.sections_of(built, places=0, findings=[])
    first = [section.title for section in found].index("Run 0")
    found = found[first : first + 3]
    assert [section.title for section in found] == ["Run 0", "Run 1", "Further runs"]
    assert "Run 2, Run 3, Run 4" in found[-1].text


def test_a_folder_that_another_process_works_on_can_be_looked_at(built: Path, dataset: Path) -> None:
    with exclusive(dataset):
        assert pipeline.report(dataset, places=0).facts["places shown"] == 0


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_folder_that_is_no_dataset_is_one_line(tmp_path: Path, geossl: Command, name: str) -> None:
    code, _, err = geossl("report", tmp_path / name)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


def test_a_damaged_table_leaves_the_old_page(dataset: Path) -> None:
    before = (dataset / "report.html").read_text()
    (dataset / "manifest.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DatasetError, match=r"manifest\.parquet"):
        pipeline.report(dataset)
    assert (dataset / "report.html").read_text() == before
    assert not list(dataset.glob(".*.tmp"))
