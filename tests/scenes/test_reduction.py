"""Items are reduced to what is known of them, of known type and without a secret."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geossl_data.scenes.providers import ALIASES, provider_for
from geossl_data.scenes.reduction import reduced, self_links
from geossl_data.scenes.scene import scene_from_item

FILE = provider_for("catalog.parquet")
BASE = "/data/planet"
API = "https://example.org/stac/"

Item = dict[str, Any]
Make = Callable[..., Item]


def test_what_is_left_of_an_item(s1_item: Make) -> None:
    item = s1_item(proj__epsg=32632.0, sat__relative_orbit="44", eo__cloud_cover=True, canary="CANARY")
    item["assets"]["preview"] = {"href": "https://example.org/p.png?token=CANARY"}
    item["assets"]["vv"] |= {"roles": ["data", 7], "bands": [{"name": "vv", "raster:scale": 2, "data_type": "float32"}]}
    item["links"] = [{"rel": "root", "href": "https://example.org/?token=CANARY"}]
    left = reduced(item, scene_from_item(item, FILE, BASE), BASE, ALIASES)
    assert sorted(left["properties"]) == [
        *("datetime", "platform", "proj:epsg", "proj:shape", "proj:transform", "sat:orbit_state")
    ]
    assert left["properties"]["proj:epsg"] == 32632
    assert left["assets"] == {
        "vv": {
            "href": "/data/planet/s1/S1A_a/vv.tif",
            "roles": ["data"],
            "raster:bands": [{"scale": 2.0, "data_type": "float32"}],
        },
        "vh": {"href": "/data/planet/s1/S1A_a/vh.tif", "roles": []},
    }
    assert left["links"] == []


JSON = st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.lists(st.integers(), max_size=2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["gsd", "sat:absolute_orbit", "grid:code", "proj:shape", "s2:datatake_id", "any"]), JSON
    )
)
def test_the_same_scene_comes_of_what_is_left(s2_item: Make, stated: Item) -> None:
    item = s2_item()
    item["properties"] |= stated
    scene = scene_from_item(item, FILE, BASE)
    left = reduced(item, scene, BASE, ALIASES)
    assert scene_from_item(left, FILE, BASE) == scene
    assert json.loads(json.dumps(left, allow_nan=False)) == left
    assert reduced(left, scene, BASE, ALIASES) == left


def test_the_link_to_the_item_itself() -> None:
    own = {"rel": "self", "href": "https://example.org/stac/items/a?token=CANARY"}
    expected = [{"rel": "self", "type": "application/geo+json", "href": "https://example.org/stac/items/a"}]
    assert self_links([{"rel": "root", "href": API}, own], API) == expected
    assert self_links([own], "https://other.org/") == self_links([own], BASE) == self_links(None, API) == []
