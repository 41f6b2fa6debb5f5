"""The plan of a search: which questions are put to an API, and what they are expected to cost.

A question is one collection, one box and one window of time, sized so that its answer fits a few pages: few questions
where little is expected, many side by side where there is a lot. What turns out too large is halved while searching.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from geossl_data.errors import CatalogError
from geossl_data.grid import Bounds
from geossl_data.records import Product
from geossl_data.scenes.area import query_boxes
from geossl_data.scenes.items import rfc3339
from geossl_data.scenes.providers import Provider
from geossl_data.scenes.query import Query

PAGES_PER_QUESTION = 4
"""Pages follow one another, questions run side by side."""
LONGEST_WINDOW = timedelta(days=366)

_KM_PER_DEGREE = 111.2
_GROUND_KM = {"L2A": (110.0, 110.0), "L1C": (110.0, 110.0), "RTC": (270.0, 200.0), "GRD": (270.0, 200.0)}
"""Extent of a scene from west to east and from south to north, with what its slant adds."""
_PER_DAY = {"L2A": 0.30, "L1C": 0.30, "RTC": 0.25, "GRD": 0.25}
"""Looks at one point of the equator a day: two satellites of 10 (Sentinel-2) and 12 days (Sentinel-1, both directions),
with what neighbouring swaths add."""
_PITCH_KM = 100.0
"""Spacing of Sentinel-2 tiles, which overlap by 10 km."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One collection, one box, one window of time."""

    collection: str
    product: Product
    box: Bounds
    """West, south, east, north in degrees; never across the antimeridian."""
    start: datetime
    end: datetime
    """Exclusive."""
    expected: float
    """Items that the answer is estimated to hold."""

    @property
    def name(self) -> str:
        """The same sixteen hex digits for the same question, in any process."""
        asked = [self.collection, *self.box, rfc3339(self.start), rfc3339(self.end)]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All questions of a search."""

    provider: Provider
    questions: tuple[Question, ...]

    @property
    def expected_items(self) -> int:
        """Estimated from how often the satellites pass; the archive may hold less."""
        return math.ceil(sum(question.expected for question in self.questions))

    @property
    def expected_requests(self) -> int:
        """Landing page, and every page of every answer."""
        return 1 + sum(math.ceil(max(question.expected, 1) / self.provider.page_size) for question in self.questions)

    @property
    def expected_seconds(self) -> float:
        """Least time that the provider's limits allow, at about 1.5 s a page."""
        provider = self.provider
        return self.expected_requests * max(1 / provider.per_second, 1.5 / provider.concurrency)


def plan_search(provider: Provider, query: Query) -> Plan:
    """The questions that together cover a query, each moment and place by at least one.

    Raises CatalogError where the catalog lacks a wanted product or the query has no bounds.
    """
    needed = {"--bbox, --area or --places": query.area, "--from": query.start, "--to": query.end}
    missing = [name for name, value in needed.items() if value is None]
    if query.area is None or query.start is None or query.end is None:
        raise CatalogError(f"{provider.name} is searched by place and time; give {', '.join(missing)}")
    boxes = query_boxes(query.area)
    questions: list[Question] = []
    for product in query.products:
        if product == "class" and "class" not in provider.collections.values():
            continue
        first, end = query.period(product)
        assert first is not None
        assert end is not None
        for box in boxes:
            questions += _windows(provider, product, box, first, end)
    return Plan(provider=provider, questions=tuple(questions))


def expected_items(product: Product, box: Bounds, days: float) -> float:
    """Estimated number of scenes of a product that meet a box within so many days."""
    if product == "class":
        return 1.0
    west, south, east, north = box
    latitude = math.radians(min(abs(south + north) / 2, 80.0))
    width_km = (east - west) * _KM_PER_DEGREE * math.cos(latitude)
    height_km = (north - south) * _KM_PER_DEGREE
    ground_width, ground_height = _GROUND_KM[product]
    step = (_PITCH_KM, _PITCH_KM) if product in ("L2A", "L1C") else (ground_width, ground_height)
    scenes_across = (width_km + ground_width) / step[0] * (height_km + ground_height) / step[1]
    return scenes_across * _PER_DAY[product] / math.cos(latitude) * days


def _windows(provider: Provider, product: Product, box: Bounds, start: datetime, end: datetime) -> Sequence[Question]:
    """Equal windows of whole days, as many as keep an answer to a few pages."""
    days = math.ceil((end - start) / timedelta(days=1))
    expected = expected_items(product, box, days)
    count = max(
        math.ceil(expected / (PAGES_PER_QUESTION * provider.page_size)),
        math.ceil(days / LONGEST_WINDOW.days),
    )
    step = timedelta(days=max(1, math.ceil(days / count)))
    windows = []
    while start < end:
        following = min(start + step, end)
        share = (following - start) / timedelta(days=1) / days
        windows.append(
            Question(
                collection=provider.collection(product),
                product=product,
                box=box,
                start=start,
                end=following,
                expected=expected * share,
            )
        )
        start = following
    return windows
