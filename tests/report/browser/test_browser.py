"""The page in a real browser: asks for nothing, complains of nothing, and does what hands ask of it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from .conftest import Opened

MAP, SCATTER, GALLERY = ".points.map", ".points.scatter", ".gallery"


def test_nothing_is_asked_for_and_nothing_complained_of(opened: "Opened", file: Path) -> None:
    opened.page.wait_for_load_state("networkidle")
    assert [url for url in opened.requests if not url.startswith("data:")] == [file.as_uri()]
    assert opened.complaints == []
    assert opened.page.evaluate("document.documentElement.classList.contains('scripted')")
    assert opened.page.locator("img").evaluate_all("all => all.every(each => each.naturalWidth > 0)")
    assert opened.page.locator("[onerror], img[src=x]").count() == 0


def test_every_picture_has_a_name(opened: "Opened") -> None:
    page = opened.page
    charts = page.locator("svg")
    assert charts.count() == 7
    for number in range(charts.count()):
        tree = charts.nth(number).aria_snapshot()
        assert re.match(r'- img "[^"]+"', tree), tree
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert page.locator("canvas").count() == 0
    for control in page.locator("button, select, input").all():
        assert re.match(r'- \w+ "[^"]+"', control.aria_snapshot())


def test_pointing_at_a_bar_tells_its_number(opened: "Opened") -> None:
    # Bins of 6, 6 and 12 hours.
    box = opened.reveal("#s3-p1-t ~ .hit")
    opened.page.mouse.move(box["x"] + 1.5 * box["width"], box["y"] + 20)
    assert opened.tip() == "6 to 12 hours\nlooks: 12"
    opened.page.locator("h1").hover()
    assert opened.tip() == ""


def test_pointing_at_a_place_tells_its_label(opened: "Opened") -> None:
    box = opened.reveal(f"{MAP} .plane")
    opened.page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2 - 2)
    assert opened.tip() == "origin\nsplit: train"
    opened.page.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2)
    assert opened.tip() == ""


def test_pointing_at_a_point_shows_its_picture(opened: "Opened") -> None:
    box = opened.reveal(f"{SCATTER} .plane")
    opened.page.mouse.move(box["x"] + 0.04 * box["width"], box["y"] + box["height"] * 0.9)
    opened.page.mouse.move(box["x"] + 0.04 * box["width"] + 1, box["y"] + box["height"] * 0.945)
    assert opened.tip().startswith("look one\n")
    assert str(opened.page.locator(".tip img").get_attribute("src")).startswith("data:image/jpeg;base64,")


def test_the_legend_hides_what_it_names(opened: "Opened") -> None:
    page = opened.page
    assert page.locator(f"{MAP} .dots path").count() == 3
    entry = page.locator(f"{MAP} .legend").get_by_role("button", name="train")
    entry.click()
    assert page.locator(f"{MAP} .dots .split-train").count() == 0
    assert page.locator(f"{MAP} .dots path").count() == 2
    assert entry.get_attribute("aria-pressed") == "false"
    entry.click()
    assert str(page.locator(f"{MAP} .dots .split-train").get_attribute("d")).count("M") == 2


def test_another_colouring_has_its_own_legend(opened: "Opened") -> None:
    page = opened.page
    select = page.get_by_label("Colour by")
    assert select.locator("option").all_text_contents() == ["split", "stratum", "change score"]
    select.select_option(label="change score")
    names = page.locator(f"{MAP} .legend button").all_text_contents()
    assert names[-1] == "not known1"
    assert page.locator(f"{MAP} .dots path").count() == 4
    box = opened.reveal(f"{MAP} .plane")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert opened.tip() == "origin\nchange score: 0.1"


def view(opened: "Opened") -> list[float]:
    return [float(each) for each in str(opened.page.locator(f"{MAP} .plane").get_attribute("viewBox")).split()]


def test_buttons_zoom_and_dragging_moves(opened: "Opened") -> None:
    page = opened.page
    start = view(opened)
    page.locator(MAP).get_by_role("button", name="Zoom in").click()
    left, top, width, _ = view(opened)
    assert width == pytest.approx(start[2] / 1.6)
    assert left + width / 2 == pytest.approx(start[2] / 2)
    box = opened.reveal(f"{MAP} .plane")
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 180, steps=2)
    page.mouse.up()
    pixel = width / box["width"]
    assert view(opened)[:2] == pytest.approx([left - 100 * pixel, top + 20 * pixel], abs=pixel)
    page.locator(MAP).get_by_role("button", name="Reset").click()
    assert view(opened) == pytest.approx(start, abs=0.05)


def test_pressing_twice_zooms_to_what_was_pressed(opened: "Opened") -> None:
    box = opened.reveal(f"{MAP} .plane")
    opened.page.mouse.dblclick(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    left, _, width, _ = view(opened)
    assert width == pytest.approx(250)
    assert left + width / 4 == pytest.approx(250, abs=2)


def test_the_wheel_zooms_with_ctrl_and_scrolls_without(opened: "Opened") -> None:
    page = opened.page
    start = view(opened)
    box = opened.reveal(f"{MAP} .plane")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -50)
    assert view(opened) == start
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    page.wait_for_function(f"document.querySelector('{MAP} .plane').viewBox.baseVal.width < 999")
    assert view(opened)[2] == pytest.approx(start[2] / 2, rel=0.01)


def test_the_keyboard_moves_and_tells(opened: "Opened") -> None:
    page = opened.page
    start = view(opened)
    opened.reveal(f"{MAP} .plane")
    page.locator(f"{MAP} .plane").focus()
    for _ in range(3):
        page.keyboard.press("+")
    assert view(opened)[2] == pytest.approx(start[2] / 1.6**3)
    assert opened.tip() == "origin\nsplit: train"
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    assert opened.tip().startswith("east\n")
    page.keyboard.press("Escape")
    assert opened.tip() == ""
    page.keyboard.press("0")
    assert view(opened) == pytest.approx(start, abs=0.05)


def test_a_filter_leaves_the_cards_that_fit(opened: "Opened") -> None:
    page = opened.page
    visible = page.locator(f"{GALLERY} .card:not([hidden]) h4")
    page.locator(f"{GALLERY} [data-tag]").first.select_option("train")
    assert visible.all_text_contents() == ["place 0", "place 2"]
    assert page.locator(f"{GALLERY} output").text_content() == "2 of 3"
    page.get_by_label("Find").fill("t32tlq_2 GAP")
    assert visible.all_text_contents() == ["place 2"]
    page.get_by_label("Find").fill("nowhere")
    assert visible.count() == 0
    assert page.locator(".beside .card").count() == 3


def test_a_click_on_a_header_sorts(opened: "Opened") -> None:
    table = opened.page.locator("table", has_text="Scores.")
    first = table.locator("tbody th")
    table.get_by_role("button", name="score").click()
    assert first.all_text_contents() == ["b", "d", "a", "c"]
    table.get_by_role("button", name="score").click()
    assert first.all_text_contents() == ["a", "d", "b", "c"]
    assert table.locator("th[aria-sort=descending]").count() == 1


def test_a_link_opens_a_folded_section(opened: "Opened") -> None:
    page = opened.page
    assert not page.locator("pre").is_visible()
    page.locator("nav").get_by_text("Recipe").click()
    page.wait_for_selector("details[open]")
    assert page.locator("pre").is_visible()


def test_the_dark_page_is_dark(opened: "Opened") -> None:
    def levels(name: str) -> list[int]:
        return [
            int(each) for each in re.findall(r"\d+", opened.page.evaluate(f"getComputedStyle(document.body).{name}"))
        ]

    light_page, light_ink = levels("backgroundColor"), levels("color")
    opened.page.emulate_media(color_scheme="dark")
    dark_page, dark_ink = levels("backgroundColor"), levels("color")
    opened.page.emulate_media(color_scheme="light")
    assert min(light_page) > 200 > 100 > max(dark_page)
    assert max(light_ink) < 100 < 200 < min(dark_ink)


def test_a_phone_scrolls_one_way_and_can_be_read(browser: "Browser", file: Path) -> None:
    from .conftest import Opened

    found = Opened(browser, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True).go(file)
    page = found.page
    page.locator("nav").get_by_text("Recipe").click()
    page.wait_for_selector("details[open]")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg text')].map(each =>"
        " parseFloat(getComputedStyle(each).fontSize) * each.getScreenCTM().a)"
    )
    assert len(sizes) > 20
    assert min(sizes) >= 11
    box = found.reveal(f"{MAP} .plane")
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert found.tip() == "origin\nsplit: train"
    found.context.close()


def test_two_fingers_zoom_to_the_middle_between_them(browser: "Browser", file: Path) -> None:
    from .conftest import Opened

    found = Opened(browser, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True).go(file)
    box = found.reveal(f"{MAP} .plane")
    hand = found.context.new_cdp_session(found.page)

    def touch(kind: str, *apart: float) -> None:
        """Fingers on a level with the middle of the map, so many pixels left and right of it."""
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        points = [{"x": x + offset, "y": y, "id": number} for number, offset in enumerate(apart)]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    left, top, width, height = view(found)
    touch("touchStart", -30, 30)
    for offset in (40, 50, 60):
        touch("touchMove", -offset, offset)
    touch("touchEnd")
    nearer = view(found)
    assert nearer[2] == pytest.approx(width / 2, rel=0.05)
    assert nearer[0] + nearer[2] / 2 == pytest.approx(left + width / 2, abs=width / 50)
    assert nearer[1] + nearer[3] / 2 == pytest.approx(top + height / 2, abs=height / 50)
    assert found.page.evaluate("visualViewport.scale") == 1
    found.context.close()


def test_without_its_script_the_page_is_complete(browser: "Browser", file: Path) -> None:
    from .conftest import Opened

    found = Opened(browser, java_script_enabled=False).go(file)
    page = found.page
    assert page.locator(f"{MAP} .dots path").count() == 3
    assert page.locator(f"{MAP} .legend li").all_inner_texts() == ["train\n2", "val\n1", "test\n1"]
    assert page.locator(f"{GALLERY} .card").count() == 3
    assert not page.locator(".controls").first.is_visible()
    assert page.get_by_text("12,345").is_visible()
    found.context.close()
