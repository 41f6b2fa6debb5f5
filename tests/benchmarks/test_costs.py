"""The cost model: what it says follows from its rates, and the page on scale shows it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def costs() -> Iterator[Any]:
    """The module of the cost model, which is no package of the project."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import planet.costs

        yield planet.costs
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        for name in [name for name in sys.modules if name == "planet" or name.startswith("planet.")]:
            del sys.modules[name]


def test_the_page_on_scale_shows_the_table(costs: Any) -> None:
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    shown = text[text.index("<!-- costs") : text.index("<!-- end of costs -->")].split("\n", 1)[1]
    assert shown.strip() == costs.table()


def test_blocks_a_window_meets(costs: Any) -> None:
    measured = 20.0
    rule = sum(count * costs.blocks(264, metres) for metres, count in {10: 4, 20: 6, 60: 2}.items())
    assert rule == pytest.approx(measured, rel=0.08)
    assert costs.blocks(512, 10) == 4.0
    assert costs.blocks(512, 10, across=True) == 2.0


def test_ten_times_the_places_cost_ten_times_as_much(costs: Any) -> None:
    one, ten = (costs.cost_of(places, costs.Rates(), 2.0) for places in (100_000, 1_000_000))
    for name in ("looks", "requests", "read_gb", "stored_gb", "shard_hours", "gpu_euros"):
        assert getattr(ten, name) == pytest.approx(10 * getattr(one, name))
    assert ten.limit == one.limit == "requests"


def test_what_bounds_the_reading_changes_with_the_rates(costs: Any) -> None:
    limits = [
        costs.cost_of(1_000, costs.Rates().changed(settings)).limit
        for settings in ([], ["gigabits=1"], ["cores=1"], ["latency_ms=500"])
    ]
    assert limits == ["requests", "network", "processor", "requests"]
    with pytest.raises(ValueError, match="prize: not one of concurrency"):
        costs.Rates().changed(["prize=1"])
