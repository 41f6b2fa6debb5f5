"""The offset follows from the baseline, once, and contradictions are refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from geossl_data.bands import S2_BANDS
from geossl_data.scenes.providers import PROVIDERS, Provider, provider_for
from geossl_data.scenes.reasons import ItemError
from geossl_data.scenes.scene import scene_from_item

ES = PROVIDERS["earth-search"]
FILE = provider_for("catalog.parquet")
BASE = "/data/planet"

Item = dict[str, Any]
Make = Callable[..., Item]


def given_up(item: Item, provider: Provider = FILE, base: str = BASE) -> tuple[str, str]:
    with pytest.raises(ItemError) as caught:
        scene_from_item(item, provider, base)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize(
    ("baseline", "product", "expected"),
    [
        ("05.10", None, ("05.10", -1000)),
        ("04.00", None, ("04.00", -1000)),
        ("03.01", None, ("03.01", 0)),
        ("2.12", None, ("02.12", 0)),
        (4.0, None, ("04.00", -1000)),
        (None, "S2A_MSIL2A_20190601T102031_N0500_R065_T32TMT_20230601T170000.SAFE", ("05.00", -1000)),
        (None, "S2A_MSIL2A_20230601T102031_N0301_R065_T32TMT_20230601T170000.SAFE", ("03.01", 0)),
        ("garbage", None, (None, None)),
        (None, None, (None, None)),
    ],
)
def test_the_baseline_decides_never_the_date(
    s2_item: Make, baseline: Any, product: str | None, expected: tuple[str | None, int | None]
) -> None:
    item = s2_item(s2__processing_baseline=baseline, s2__product_uri=product)
    scene = scene_from_item(item, FILE, BASE)
    assert (scene.baseline, scene.boa_offset) == expected


def with_offset(item: Item, offset: float | None) -> Item:
    for band in S2_BANDS:
        item["assets"][band]["raster:bands"] = [{"scale": 0.0001, **({} if offset is None else {"offset": offset})}]
    return item


@pytest.mark.parametrize(
    ("baseline", "flag", "offset", "expected"),
    [
        ("05.10", True, -0.1, 0),  # as Earth Search publishes it: raster:bands describe the product before the shift
        ("05.10", True, 0, 0),
        ("05.10", False, -0.1, -1000),
        ("05.10", False, 0, "contradiction"),
        ("05.10", None, -0.1, -1000),
        ("05.10", None, 0, "contradiction"),
        ("05.10", None, -0.7, "contradiction"),
        ("05.10", None, 1e308, "contradiction"),  # beyond all numbers once it is divided by the scale
        ("03.01", True, 0, "contradiction"),
        ("03.01", False, 0, 0),
        ("03.01", None, -0.1, "contradiction"),
        (None, True, None, 0),
        (None, False, -0.1, None),
        (None, None, -0.1, None),
    ],
)
def test_what_the_catalog_has_already_subtracted(
    s2_item: Make, baseline: str | None, flag: bool | None, offset: float | None, expected: int | str | None
) -> None:
    item = with_offset(s2_item(s2__processing_baseline=baseline, earthsearch__boa_offset_applied=flag), offset)
    if expected == "contradiction":
        assert given_up(item, ES, "https://x.org/")[0] == "offset-contradiction"
    else:
        assert scene_from_item(item, ES, "https://x.org/").boa_offset == expected


def test_a_baseline_that_the_name_contradicts(s2_item: Make) -> None:
    item = s2_item(s2__product_uri="S2A_MSIL2A_20190601T102031_N0301_R065_T32TMT_20230601T170000.SAFE")
    assert given_up(item)[0] == "offset-contradiction"


@pytest.mark.parametrize(
    ("rule", "baseline", "flag", "expected"),
    [
        ("stored", "05.10", None, -1000),
        ("stored", "05.10", False, -1000),
        ("stored", "05.10", True, "contradiction"),
        ("stored", "03.01", None, 0),
        ("applied", "05.10", None, 0),
        ("applied", "05.10", True, 0),
        ("applied", "05.10", False, "contradiction"),
        ("applied", None, None, 0),
        ("flag", "05.10", None, -1000),
    ],
)
def test_1_54_what_a_catalog_is_known_to_do(
    s2_item: Make, rule: Any, baseline: str | None, flag: bool | None, expected: int | str
) -> None:
    item = s2_item(s2__processing_baseline=baseline, earthsearch__boa_offset_applied=flag)
    provider = replace(FILE, offset=rule)
    if expected == "contradiction":
        assert given_up(item, provider)[0] == "offset-contradiction"
    else:
        assert scene_from_item(item, provider, BASE).boa_offset == expected
