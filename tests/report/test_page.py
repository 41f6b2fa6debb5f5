"""The page holds all it was given, as text, and asks for nothing outside."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from report.elements import Elements

from geossl_data.errors import DatasetError, StorageError
from geossl_data.report import Section, page, write_report
from geossl_data.report.parts import (
    Bars,
    Card,
    Curves,
    Gallery,
    Histogram,
    IntervalRow,
    Intervals,
    Picture,
    Scatter,
    SideBySide,
    Strip,
    Table,
    Text,
)

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000300000002080200000012160af40000000c49444154789c63606060000000040001f61738"
    "550000000049454e44ae426082"
)
HOSTILE = "</td><script>alert(1)</script>\"' onerror=x &amp; <img src=http://evil.example/x>"


def section(name: str = "Places") -> Section:
    """A section in which every word from outside is `name`."""
    card = Card(
        title=name, facts={name: name}, strips=[Strip(caption=name, pictures=[(name, PIXEL)])], tags={name: name}
    )
    return Section(
        title=name,
        facts={name: 12345, "share": "50 %", "is new": True},
        text=name,
        parts=(
            Table(rows=((name, "n"), (name, "1")), caption=name),
            Table(rows=()),
            Text(text=name, title=name, plain=True),
            Text(text=name),
            Picture(data=PIXEL, caption=name, alt=name),
            Histogram(title=name, unit=name, edges=(0, 1, 2), counts={name: (1, 2), name + "!": (2, 1)}),
            Bars(title=name, unit=name, values={name: {name: 1.0, name + "!": 2.0}}),
            Curves(title=name, x_name=name, y_name=name, lines={name: ((0, 1), (1, 2)), name + "!": ((0, 1), (2, 2))}),
            Intervals(title=name, unit=name, rows=[IntervalRow(name=name, series={name: (0.5, 0.4, 0.6)})]),
            Scatter(title=name, x=(0, 1), y=(0, 1), category=(name, "b"), label=(name, "b"), category_name=name),
            Gallery(title=name, cards=[card], note=name),
            SideBySide(title=name, left_title=name, right_title=name, left=[card], right=[card]),
        ),
    )


def test_hostile_words_are_shown_and_not_obeyed() -> None:
    text = page([section(HOSTILE), section(HOSTILE)], title=HOSTILE, note=HOSTILE)
    found, plain = Elements(text), Elements(page([section(), section()], title="Places", note="Places"))
    assert [tag for tag, _ in found.found] == [tag for tag, _ in plain.found]
    assert [set(attributes) for _, attributes in found.found] == [set(attributes) for _, attributes in plain.found]
    assert "<script>alert" not in text
    assert "<img src=http" not in text
    # The names beside bars and above intervals are cut, in both sections.
    assert found.words.count(HOSTILE) == plain.words.count("Places") - 4 > 50


def test_nothing_outside_of_the_page_is_asked_for() -> None:
    text = page([section(), section(HOSTILE)], title="mydata")
    for tag, attributes in Elements(text).found:
        assert tag not in ("iframe", "object", "embed", "form", "base", "image", "use")
        assert not any(name.startswith("on") for name in attributes)
        assert "style" not in attributes
        assert "srcset" not in attributes
        for name in ("src", "href", "xlink:href"):
            if name in attributes:
                assert re.match(r"data:(,$|image/png;base64,)|#s\d+$", str(attributes[name]))
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_the_pages_own_style_and_script_and_images_only() -> None:
    text = page([section()], title="mydata")

    def digest(words: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(words.encode()).digest()).decode()

    (style,) = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    (policy,) = [a["content"] for a in Elements(text).all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src '{digest(style)}'",
        f"script-src '{digest(script)}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_every_id_is_there_once_and_every_name_is_found() -> None:
    found = Elements(page([section(), section()], title="mydata")).found
    ids = [str(of["id"]) for _, of in found if "id" in of]
    assert len(ids) == len(set(ids)) > 20
    for _, attributes in found:
        for name in ("aria-labelledby", "aria-describedby", "data-points"):
            if name in attributes:
                assert attributes[name] in ids


def test_every_picture_and_chart_has_a_name() -> None:
    found = Elements(page([section()], title="mydata"))
    assert len(found.all("img")) == 4
    assert all(of["alt"] for of in found.all("img"))
    assert len(found.all("svg")) == 5
    assert all(of["role"] == "img" and of["aria-labelledby"] and of["aria-describedby"] for of in found.all("svg"))


def test_the_same_sections_give_the_same_bytes(tmp_path: Path) -> None:
    write_report(tmp_path / "a.html", [section()], title="mydata")
    write_report(tmp_path / "b.html", [section()], title="mydata")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_facts_and_words_are_all_there() -> None:
    found = Elements(page([section()], title="mydata", note="424 places"))
    assert {"12,345", "50 %", "yes", "mydata", "424 places"} <= set(found.words)
    assert found.texts("h1") == ["mydata"]
    assert not found.all("nav")


def test_a_long_fact_has_a_row_of_its_own() -> None:
    text = page([Section(title="a", facts={"short": "50 %", "long": "grassland 23 %, " * 8})], title="t")
    assert "<div><dt>short</dt>" in text
    assert '<div class="wide"><dt>long</dt>' in text


def test_paragraphs_are_parted_by_empty_lines() -> None:
    found = Elements(page([Section(title="a", text="one\nline\n\n\ntwo\n\n")], title="t"))
    assert found.texts("p") == ["one\nline", "two"]


def test_what_stands_between_backticks_is_code_and_still_text() -> None:
    text = page([Section(title="a", text="Run `geossl <b>verify</b>` and ` this")], title="t")
    assert "<p>Run <code>geossl &lt;b&gt;verify&lt;/b&gt;</code> and ` this</p>" in text


def test_a_link_leads_to_each_of_several_sections() -> None:
    found = Elements(page([section("one"), section("two")], title="mydata"))
    targets = [f"#{of['id']}" for of in found.all("section")]
    assert [of["href"] for of in found.all("a")] == targets == ["#s1", "#s2"]


def test_a_folded_section_shows_its_title_only() -> None:
    folded = page([Section(title="Recipe", text="seed: 0", folded=True)], title="t")
    assert re.search(r"<details><summary><h2>Recipe</h2></summary>\n<p>seed: 0</p>\n</details>", folded)
    assert "<details>" not in page([Section(title="Recipe", text="seed: 0")], title="t")


def test_what_a_page_cannot_hold_is_replaced(tmp_path: Path) -> None:
    name = "a\x00b\udc80c\u202ed"
    part = Scatter(title="t", x=[0], y=[0], category=[name], label=[name])
    card = Card(title=name, facts={}, strips=[], tags={"split": name})
    write_report(tmp_path / "a.html", [Section(title=name, parts=(part, Gallery(title="", cards=[card])))], title="t")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    # The heading, the description, the legend, its entry and the label in the data, the filter, the card and its tag.
    assert text.count("a\ufffdb\ufffdc\ufffdd") == 9
    assert "\u202e" not in text


@pytest.mark.parametrize("data", [b"<svg onload=alert(1)>", b"", b"RIFF0000WAVE", b"GIF89a"])
def test_a_picture_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(DatasetError, match="the picture 'map' is not a PNG, JPEG or WebP file"):
        Picture(data=data, caption="map", alt="map")


@pytest.mark.parametrize(
    ("data", "kind"), [(PIXEL, "png"), (b"\xff\xd8\xff\xe0..", "jpeg"), (b"RIFF\0\0\0\0WEBPVP8 ", "webp")]
)
def test_pictures_are_named_by_their_first_bytes(data: bytes, kind: str) -> None:
    (image,) = Elements(Picture(data=data, caption="map", alt="a map").html("k")).all("img")
    assert image["src"] == f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def test_a_page_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", [section()], title="t")
