"""A blank picture to draw on: its size, colours, font, words and marks along an axis.

No setting of the user's is asked, and words from outside are words, not formulas.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geossl_data.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

WIDTH_PX, HEIGHT_PX = 1200, 700
"""Size of a map; the other pictures are as wide and as high as they need."""
DPI = 100
OTHERS, PLAIN, WARNING = "#555555", "#004488", "#BB5566"
INK, MUTED, RULE = "#1B1F23", "#5C646B", "#D5DADD"


class Canvas:
    """A blank picture; positions and sizes in pixels from the lower left corner."""

    def __init__(self, height: int = HEIGHT_PX) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.height = height
        self.figure = Figure(figsize=(WIDTH_PX / DPI, height / DPI), dpi=DPI, facecolor="white")
        self._agg = FigureCanvasAgg(self.figure)

    def axes(self, left: float, bottom: float, width: float, height: float, facecolor: str = "white") -> "Axes":
        """Axes without marks or net, in a thin frame."""
        place = (left / WIDTH_PX, bottom / self.height, width / WIDTH_PX, height / self.height)
        axes = self.figure.add_axes(place, facecolor=facecolor)
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color=RULE, linewidth=0.8, visible=True)
        return axes

    def text(self, x: float, y: float, words: str, **style: Any) -> None:
        """A line of text, its baseline at `y`; style: `styled`."""
        styled(self.figure.text(x / WIDTH_PX, y / self.height, "", ha=style.pop("ha", "left")), words, **style)

    def title(self, title: str, below: str) -> None:
        """What the picture shows, and under it what there is to say of that."""
        self.text(20, self.height - 30, title, size=13, bold=True, most=100)
        self.text(20, self.height - 51, below, size=9.5, colour=MUTED, most=150)

    def save(self, path: Path) -> None:
        """Write the picture as a PNG; raises StorageError where the file cannot be written."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            self._agg.print_png(file, metadata={"Software": None})  # type: ignore[no-untyped-call]


@lru_cache(maxsize=2)
def _font(bold: bool) -> tuple["FontProperties", frozenset[int]]:
    """The font that comes with matplotlib, and the characters that it has."""
    from matplotlib import get_data_path
    from matplotlib.font_manager import FontProperties
    from matplotlib.ft2font import FT2Font

    path = Path(get_data_path()) / "fonts" / "ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    return FontProperties(fname=path), frozenset(FT2Font(str(path)).get_charmap())


def styled(text: "Text", words: str, *, size: float = 9, colour: str = INK, bold: bool = False, most: int = 40) -> None:
    """Put words into a text as they are: no formulas, no characters that the font lacks, no more than `most`."""
    font, has = _font(bold)
    shown = "".join(
        letter if ord(letter) in has and letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words
    )
    text.set_usetex(False)
    text.set_parse_math(False)
    text.set(fontproperties=font, fontsize=size, color=colour)
    text.set_text(shown if len(shown) <= most else shown[: most - 1] + "…")


def ticks(axes: "Axes", which: Literal["x", "y"], at: Sequence[float], labels: Sequence[str], **style: Any) -> None:
    """Marks along an axis with words beside them."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(list(at), list(labels))
    axes.tick_params(axis=which, length=3, color=RULE, pad=4 if which == "y" else 12)
    for text, words in zip(axis.get_ticklabels(), labels, strict=True):
        text.set_verticalalignment("center_baseline" if which == "y" else "baseline")
        styled(text, words, **{"colour": MUTED} | style)


def steps(most: float, count: int = 5) -> list[float]:
    """Round numbers from 0 up to `most`, at most about `count` of them."""
    step = round_step(most / count)
    return [step * number for number in range(int(most / step + 1e-9) + 1)]


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(max(least, 1e-6)))
    return next(power * digit for digit in (1.0, 2.0, 5.0, 10.0) if power * digit >= least * (1 - 1e-9))


def multiples(low: float, high: float, step: float) -> list[float]:
    """The multiples of a step from `low` to `high`."""
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
