"""The page holds all it was given, as text, and asks for nothing outside."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from geossl_data.errors import DatasetError, StorageError
from geossl_data.evaluation.report import Picture, Section, Table, page, write_report

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000300000002080200000012160af40000000c49444154789c63606060000000040001f61738"
    "550000000049454e44ae426082"
)
HOSTILE = "</td><script>alert(1)</script>\"' onerror=x &amp; <img src=http://evil.example/x>"


class Parts(HTMLParser):
    """The elements of a page, their attributes and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def section(name: str = "Places") -> Section:
    return Section(
        title=name,
        facts={name: 12345, "share": "50 %", "is new": True},
        text=name,
        tables=(Table(rows=((name, "n"), (name, "1")), caption=name), Table(rows=())),
        pictures=(Picture(png=PIXEL, caption=name, alt=name),),
    )


def test_hostile_words_are_shown_and_not_obeyed() -> None:
    found = Parts(page([section(HOSTILE), section(HOSTILE)], title=HOSTILE))
    plain = Parts(page([section(), section()]))
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
    assert [set(attributes) for _, attributes in found.elements] == [
        set(attributes) for _, attributes in plain.elements
    ]
    # Twice a link, a heading, a fact, a paragraph, two cells, two captions; the title in the tab and on the page.
    assert sum(words == HOSTILE for words in found.words) == 18
    assert [attributes["alt"] for tag, attributes in found.elements if tag == "img"] == [HOSTILE] * 2


def test_nothing_outside_of_the_page_is_asked_for() -> None:
    text = page([section(), section(HOSTILE)])
    parts = Parts(text)
    for tag, attributes in parts.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form", "base")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            if name in attributes:
                assert str(attributes[name]).startswith(("data:image/png;base64,", "#s"))
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_the_pages_own_style_and_images_only() -> None:
    import base64
    import hashlib

    text = page([section()])
    style = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert len(style) == 1
    (policy,) = [a["content"] for tag, a in Parts(text).elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = policy.split("; ")
    assert "default-src 'none'" in rules
    assert f"style-src 'sha256-{digest}'" in rules
    assert "img-src data:" in rules
    assert "unsafe" not in policy
    assert "style=" not in text


def test_the_same_sections_give_the_same_bytes(tmp_path: Path) -> None:
    write_report(tmp_path / "a.html", [section()], title="mydata")
    write_report(tmp_path / "b.html", [section()], title="mydata")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_facts_tables_and_pictures_are_all_there() -> None:
    parts = Parts(page([section()], title="mydata"))
    assert {"12,345", "50 %", "True", "mydata", "n", "1"} <= set(parts.words)
    (image,) = [attributes for tag, attributes in parts.elements if tag == "img"]
    assert (image["width"], image["height"]) == ("3", "2")
    assert sum(tag == "table" for tag, _ in parts.elements) == 1
    assert not any(tag == "nav" for tag, _ in parts.elements)


def test_a_link_leads_to_each_of_several_sections() -> None:
    parts = Parts(page([section("one"), section("two")]))
    targets = [f"#{attributes['id']}" for tag, attributes in parts.elements if tag == "section"]
    assert [attributes["href"] for tag, attributes in parts.elements if tag == "a"] == targets == ["#s1", "#s2"]


def test_what_a_page_cannot_hold_is_replaced(tmp_path: Path) -> None:
    write_report(tmp_path / "a.html", [Section(title="a\x00b\udc80c\u202ed")])
    assert "a\ufffdb\ufffdc\ufffdd" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_picture_that_is_no_png_is_refused() -> None:
    with pytest.raises(DatasetError, match="the picture 'map' is not a PNG file"):
        Picture(png=b"<svg onload=alert(1)>", caption="map", alt="map")


def test_a_page_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", [section()])
