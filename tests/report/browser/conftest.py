"""A browser, and a page in it that notes what it asked for and complained about."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from imagecodecs import jpeg_encode

from geossl_data.report import Section, write_report
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
    WorldMap,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog
    from playwright.sync_api import FloatRect as Box

HELP = "bash tests/servers/install.sh installs it, pip install -e '.[dev]' its driver"
HOSTILE = "</script><img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One chromium for the tests of a module; they are skipped where there is none.

    Its driver keeps an event loop running in this thread, which tests of anything else asynchronous cannot have there.
    """
    driver = pytest.importorskip("playwright.sync_api", reason=f"no playwright; {HELP}")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip(f"no chromium; {HELP}")
    with driver.sync_playwright() as running:
        opened = running.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--headless=new"]
        )
        yield opened
        opened.close()


def picture(number: int, side: int = 16) -> bytes:
    """A small JPEG of one grey."""
    return bytes(jpeg_encode(np.full((side, side, 3), number % 256, dtype=np.uint8), level=80))


def card(number: int, split: str) -> Card:
    looks = [
        Strip(
            caption=f"2021-0{month}-05 · gap +{month}.2 h · S2B_MSIL2A_20210105T102229_N0500_R065_T32TLQ_{number}",
            pictures=[(name, picture(40 * number + month)) for name in ("true colour", "false colour", "radar")],
        )
        for month in (1, 7)
    ]
    stratum = f"N{15 * number:02d}"
    return Card(
        title=f"place {number}", facts={"stratum": stratum}, strips=looks, tags={"split": split, "stratum": stratum}
    )


LON, LAT = (0.0, 60.0, -60.0, 120.0), (0.0, 30.0, -20.0, 50.0)
CARDS = [card(number, split) for number, split in enumerate(("train", "val", "train"))]
STEPS = np.arange(100.0)


def sections() -> list[Section]:
    """A page with one of each part."""
    return [
        Section(
            title="Overview",
            facts={"places": 12345, "written by": HOSTILE},
            text="What there is.",
            parts=(Picture(data=picture(9, 32), caption="A picture.", alt="grey"),),
        ),
        Section(
            title="Places",
            parts=(
                WorldMap(
                    title="Where",
                    lon=LON,
                    lat=LAT,
                    label=["origin", "east", "west", HOSTILE],
                    category={"split": ["train", "train", "val", "test"], "stratum": ["a", "b", "c", HOSTILE]},
                    value={"change score": [0.1, 0.25, np.nan, 0.9]},
                ),
            ),
        ),
        Section(
            title="Numbers",
            parts=(
                Histogram(title="Gap", unit="hours", edges=(0, 6, 12, 24), counts={"looks": (3, 12, 5)}),
                Histogram(
                    title="Cloud", unit="%", edges=(0, 5, 10), counts={"train": (30, 4), "val": (5, 1)}, log=True
                ),
                Bars(title="Months", unit="looks", values={"Jan": {"n": 10}, "Feb": {"n": 50}, HOSTILE: {"n": 5}}),
                Curves(title="Loss", x_name="step", y_name="loss", lines={"total": (STEPS, 5 - STEPS / 25)}),
                Intervals(
                    title="Scores", unit="F1", rows=[IntervalRow(name="classes", series={"trained": (0.8, 0.7, 0.9)})]
                ),
                Scatter(
                    title="Embeddings",
                    x=(0, 4, 4),
                    y=(0, 0, 2),
                    category=("forest", "water", "water"),
                    label=("look one", "look two", "look three"),
                    picture=[picture(number) for number in (10, 20, 30)],
                ),
                Table(
                    rows=(("task", "score"), ("a", "1,200"), ("b", "30.5"), ("c", "–"), ("d", "400")), caption="Scores."
                ),
                Table(rows=(("reason", "what"), *((f"reason {n}", "long words " * 9) for n in range(50))), words=True),
            ),
        ),
        Section(
            title="Samples",
            parts=(
                Gallery(title="Samples", cards=CARDS, note="Three places."),
                SideBySide(title="Change", left_title="Least", right_title="Most", left=CARDS[:1], right=CARDS[1:]),
            ),
        ),
        Section(
            title="Recipe", folded=True, parts=(Text(text="x" * 300 + "\nseed: 0", plain=True, title="recipe.yaml"),)
        ),
    ]


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, sections(), title="mydata", note="a note")
    return path


class Opened:
    """A page in the browser, what it asked for and what it complained about."""

    def __init__(self, browser: "Browser", **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        # Machines that test much else are slow.
        self.page.set_default_timeout(60_000)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._dismiss)

    def go(self, path: Path) -> "Opened":
        """The page as it is at first, with nothing noted of what was before."""
        self.page.mouse.move(0, 0)
        self.page.goto("about:blank")
        self.requests.clear()
        self.complaints.clear()
        self.page.goto(path.as_uri())
        return self

    def reveal(self, selector: str) -> "Box":
        """Where an element is once it is in view and the page has come to rest, in pixels of the window."""
        place = self.page.locator(selector).first
        place.scroll_into_view_if_needed()
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        box = place.bounding_box()
        assert box is not None
        return box

    def tip(self) -> str:
        """What is told at the moment; empty for nothing."""
        text = self.page.locator(".tip:not([hidden])")
        return str(text.text_content()) if text.count() else ""

    def _dismiss(self, dialog: "Dialog") -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()


@pytest.fixture(scope="module")
def window(browser: "Browser") -> Iterator[Opened]:
    """A wide window with light colours."""
    found = Opened(browser, viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield found
    found.context.close()


@pytest.fixture
def opened(window: Opened, file: Path) -> Opened:
    """The page in a wide window, as it is at first."""
    return window.go(file)
