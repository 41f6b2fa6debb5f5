"""Where a dataset comes from is told, without what opens its catalog."""

from pathlib import Path

import pytest

from geossl_data import tables
from geossl_data.errors import DatasetError
from geossl_data.records import Pair
from geossl_data.report.dataset.contents import Contents
from geossl_data.report.dataset.origin import origin_section, text_of, text_sections, version_of
from geossl_data.report.dataset.recorded import LookFacts, Recorded, SceneFacts, recorded_in
from geossl_data.report.parts import Table, Text
from geossl_data.shards.reading.shards import Shards

NOTHING = Recorded(looks=(), n_samples=0)


def test_a_dataset_tells_its_stages_and_products(built: Path, shards: Shards, contents: Contents) -> None:
    (section,) = origin_section(built, recorded_in(shards, contents))
    assert "sentinel-2-l2a (" in str(section.facts["collections"])
    assert section.facts["Sentinel-1 product"] == "RTC"
    (table,) = section.parts
    assert isinstance(table, Table)
    made = {row[1]: row[2:] for row in table.rows[1:]}
    assert list(made) == ["scenes.parquet", "pairs.parquet", "samples.parquet", "manifest.parquet"]
    fingerprint = tables.read_metadata(built / "samples.parquet")["fingerprint"]
    assert made["samples.parquet"] == ("40 places", fingerprint)


def test_shards_alone_tell_what_their_samples_do(tmp_path: Path) -> None:
    look = LookFacts(look=0, s2=SceneFacts(collection="sentinel-2-l2a", baseline="05.10"))
    (section,) = origin_section(tmp_path, Recorded(looks=[look], n_samples=1))
    assert section.facts == {"collections": "sentinel-2-l2a", "Sentinel-2 baselines": "05.10"}
    assert origin_section(tmp_path, NOTHING) == []


def test_addresses_lose_what_opens_them(tmp_path: Path) -> None:
    notes = {"provider": "own", "catalog": "https://me:secret@host.example/stac?token=secret"}
    tables.write_table(tmp_path / "scenes.parquet", [], Pair, metadata=notes)
    (tmp_path / "recipe.yaml").write_text("geossl: 0.1.0\nfetch:\n  catalog: s3://host/a?sig=secret\n")
    sections = [*origin_section(tmp_path, NOTHING), *text_sections(tmp_path)]
    (text,) = sections[1].parts
    assert isinstance(text, Text)
    assert sections[0].facts["catalog"] == "own (https://host.example/stac)"
    assert text.text == "geossl: 0.1.0\nfetch:\n  catalog: s3://host/a\n"
    assert "secret" not in str(sections)


def test_recipe_and_licence_are_shown_as_they_are(built: Path) -> None:
    licence, recipe = text_sections(built)
    assert (licence.title, licence.folded) == ("Licence notice", False)
    assert (recipe.title, recipe.folded) == ("Recipe", True)
    (text,) = licence.parts
    assert isinstance(text, Text)
    assert text.text == (built / "LICENSE.txt").read_text()


@pytest.mark.parametrize(
    ("recipe", "version"),
    [("# x\ngeossl: 0.1.0\n", "geossl 0.1.0"), ("geossl: '1.2'\n", "geossl 1.2"), ("fetch: {}\n", None), (None, None)],
)
def test_who_wrote_it_is_read_from_the_recipe(tmp_path: Path, recipe: str | None, version: str | None) -> None:
    if recipe is not None:
        (tmp_path / "recipe.yaml").write_text(recipe)
    assert version_of(tmp_path) == version


def test_texts_that_are_none_are_shown_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\x00geossl")
    assert text_of(tmp_path / "recipe.yaml") == "\ufffd\x00geossl"
    (tmp_path / "LICENSE.txt").mkdir()
    with pytest.raises(DatasetError, match="cannot be read"):
        text_of(tmp_path / "LICENSE.txt")
