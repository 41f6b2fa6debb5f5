"""Tables, texts and galleries hold all they were given."""

import json

from report.elements import Elements

from geossl_data.report.parts import Card, Gallery, SideBySide, Strip, Table, Text
from geossl_data.report.parts.table import MOST_ROWS

JPEG = b"\xff\xd8\xff\xe0"


def card(name: str, **tags: str) -> Card:
    looks = [
        Strip(caption=f"{name} look {look}", pictures=[("true colour", JPEG), ("radar", JPEG)]) for look in range(2)
    ]
    return Card(title=name, facts={"change score": 0.25}, strips=looks, tags=tags)


def test_a_table_has_a_header_and_its_rows() -> None:
    found = Elements(Table(rows=(("name", "n"), ("a", "1"), ("b", "2")), caption="Two.").html("k"))
    assert found.texts("th") == ["name", "n", "a", "b"]
    assert found.texts("td") == ["1", "2"]
    assert found.texts("caption") == ["Two."]
    assert [of["scope"] for of in found.all("th")] == ["col", "col", "row", "row"]
    assert not found.all("div", "tall")


def test_a_long_table_scrolls_and_a_very_long_one_is_cut_and_says_so() -> None:
    rows = [("name", "n"), *((str(number), "1") for number in range(MOST_ROWS + 234))]
    assert Elements(Table(rows=rows[:42]).html("k")).all("div", "tall")
    assert not Elements(Table(rows=rows[:41]).html("k")).all("div", "tall")
    found = Elements(Table(rows=rows, caption="All.").html("k"))
    assert len(found.all("tr")) == MOST_ROWS + 1
    assert found.texts("caption") == ["All. The first 1,000 rows; 234 more."]


def test_a_table_or_text_of_nothing_is_left_out() -> None:
    assert Table(rows=()).html("k") == ""
    assert Text(text=" \n").html("k") == ""


def test_plain_text_keeps_every_character() -> None:
    recipe = "fetch:\n  bbox: [1, 2]\n\n# <end>"
    found = Elements(Text(text=recipe + "\n", title="recipe.yaml", plain=True).html("k"))
    assert found.texts("pre") == [recipe]
    assert found.texts("h3") == ["recipe.yaml"]
    assert Elements(Text(text="one\n\ntwo").html("k")).texts("p") == ["one", "two"]


def test_a_gallery_has_a_filter_for_each_kind_of_tag() -> None:
    cards = [card("a", split="train", stratum="N"), card("b", split="val"), card("c", split="train", stratum="S")]
    found = Elements(Gallery(title="Samples", cards=cards, note="Grey is unknown.").html("k"))
    assert len(found.all("select")) == 2
    assert found.texts("option") == ["all (2)", "train", "val", "all (3)", "(none)", "N", "S"]
    assert [json.loads(str(of["data-tags"])) for of in found.all("article")] == [
        ["train", "N"],
        ["val", ""],
        ["train", "S"],
    ]
    assert found.texts("output") == ["3 of 3"]
    assert found.texts("h4") == ["a", "b", "c"]
    assert [of["alt"] for of in found.all("img")] == ["true colour", "radar"] * 6
    assert found.texts("figcaption")[:2] == ["a look 0", "a look 1"]
    assert found.texts("dd") == ["0.250"] * 3


def test_two_columns_to_compare() -> None:
    part = SideBySide(title="Change", left_title="Least", right_title="Most", left=[card("a")], right=[card("b")])
    found = Elements(part.html("k"))
    assert found.texts("h3") == ["Least", "Most"]
    assert found.texts("h4") == ["a", "b"]
    assert "data-tags" not in found.all("article")[0]


def test_galleries_of_nothing_are_left_out() -> None:
    assert Gallery(title="t", cards=[]).html("k") == ""
    assert SideBySide(title="t", left_title="a", right_title="b", left=[], right=[]).html("k") == ""


def test_a_look_that_could_not_be_read_has_words_only() -> None:
    look = Strip(caption="look 0: cannot be read", pictures=[])
    found = Elements(Gallery(title="", cards=[Card(title="a", facts={}, strips=[look])]).html("k"))
    assert not found.all("img")
    assert not found.all("dl")
    assert found.texts("figcaption") == ["look 0: cannot be read"]
