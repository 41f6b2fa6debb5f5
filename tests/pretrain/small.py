"""What the tests of objectives without negatives are given: noise, setups by sensors and views, random numbers."""

from dataclasses import replace
from typing import Any

from pretrain import noise

from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.objectives.setup import Setup
from geossl_data.pretrain.views import Draws, generator

SENSORS = [
    ("s2", "augment", False),
    ("s1", "season", False),
    ("s2,s1", "augment,sensor", False),
    ("s2,s1", "season,sensor", True),
    ("s2,s1", "augment,long", True),
]
"""Sensors, kinds of views, and whether one encoder sees all sensors: what makes sense for an objective of pairs."""


def batch(n: int = 6) -> Batch:
    """Places with two looks."""
    return noise.batch(n, looks=2)


def setup(sensors: str = "s2", kinds: str = "augment", **others: Any) -> Setup:
    """The tiny encoder with narrow heads, and three small views."""
    bands = {name: noise.BANDS[name] for name in sensors.split(",")}
    found = noise.setup(tuple(kinds.split(",")), bands, **({"projection_dim": 4, "hidden_dim": 8} | others))
    return replace(found, views=replace(found.views, local_crops=3, local_crop=8))


def draws(n: int = 6, *, step: int = 0, rows: slice | None = None) -> Draws:
    """Random numbers of a step, for n places or those of them in `rows`."""
    return Draws(generator(0, step), total=n, rows=rows or slice(0, n))
