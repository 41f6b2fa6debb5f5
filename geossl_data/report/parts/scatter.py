"""Points in a plane, such as embeddings on two axes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geossl_data.report.parts.picture import address_of
from geossl_data.report.parts.points import ACROSS, Plane, by_name, extent_in_words, in_words, plane

_LEAST_HIGH, _MOST_HIGH = 0.45, 0.75
"""Height of the plane over its width."""
_MARGIN = 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Points coloured by category; the legend filters, a point tells its label and shows its picture.

    Both axes have the same scale, so that distances compare. Points that are not finite are left out.
    """

    title: str
    x: Sequence[float]
    y: Sequence[float]
    category: Sequence[str]
    label: Sequence[str]
    picture: Sequence[bytes] | None = field(default=None, repr=False)
    """A small PNG, JPEG or WebP for each point; no bytes for none."""
    category_name: str = "category"
    """What the categories are."""

    def html(self, key: str) -> str:
        """The chart; empty without points."""
        x, y = np.asarray(self.x, dtype=np.float64), np.asarray(self.y, dtype=np.float64)
        rows = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        if not len(rows):
            return ""
        x, y = x[rows], y[rows]
        colouring = by_name(self.category_name, [self.category[at] for at in rows.tolist()])
        pictures = None
        if self.picture is not None:
            pictures = [address_of(data, self.label[at]) if (data := self.picture[at]) else "" for at in rows.tolist()]
        says = (
            f"{len(x):,} points, across from {extent_in_words(float(x.min()), float(x.max()))}, "
            f"up from {extent_in_words(float(y.min()), float(y.max()))}. {in_words(colouring)}"
        )
        return plane(
            key,
            title=self.title,
            says=says,
            kind="scatter",
            noun="points",
            points=_laid(x, y),
            label=[self.label[at] for at in rows.tolist()],
            colourings=[colouring],
            pictures=pictures,
        )


def _laid(x: NDArray[np.float64], y: NDArray[np.float64]) -> Plane:
    """The points at one scale within a frame, with lines through zero where it is in view."""
    wide, high = float(np.ptp(x)), float(np.ptp(y))
    aspect = min(max(high / wide if wide > 0 else 1.0, _LEAST_HIGH), _MOST_HIGH)
    height = ACROSS * aspect
    inner = 1 - 2 * _MARGIN
    scale = min(
        ACROSS * inner / wide if wide > 0 else np.inf,
        height * inner / high if high > 0 else np.inf,
    )
    scale = scale if np.isfinite(scale) else 1.0
    middle_x, middle_y = float(x.min() + x.max()) / 2, float(y.min() + y.max()) / 2
    zero_x, zero_y = ACROSS / 2 - middle_x * scale, height / 2 + middle_y * scale
    ground = "".join(
        [
            f'<path class="rule" d="M{zero_x:.1f} 0V{height:.1f}"/>' if 0 <= zero_x <= ACROSS else "",
            f'<path class="rule" d="M0 {zero_y:.1f}H{ACROSS:.1f}"/>' if 0 <= zero_y <= height else "",
        ]
    )
    box = (0.0, 0.0, ACROSS, height)
    return Plane(x=zero_x + x * scale, y=zero_y - y * scale, home=box, whole=box, deepest=50.0, ground=ground)
