"""Where a look comes from, in words: what its JSON says of scenes, offsets, rules and class maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import LABEL_BAND, MEMBERS, S1_BANDS, S2_MEMBERS, S2_QUANTIFICATION
from geossl_data.records import Scene
from geossl_data.scenes.items import rfc3339
from geossl_data.tiles.radiometry import majority_class
from geossl_data.tiles.windows import EXACT

Rules = dict[str, str]
"""Band → the rule by which it was resampled; only those that were."""


def _common_meta(scene: Scene, bands: Sequence[str], base: str | None) -> dict[str, Any]:
    return {
        "id": scene.id,
        "collection": scene.collection,
        "platform": scene.platform,
        "datetime": rfc3339(scene.acquired),
        "sat:orbit_state": scene.orbit_state,
        "sat:relative_orbit": scene.relative_orbit,
        "geossl:product_id": scene.product_id,
        "assets": {band: relative_href(scene.hrefs[band], base) for band in bands if band in scene.hrefs},
    }


def _mosaic_meta(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the first of several scenes says, the ids of all in order, and what each further one says of itself."""
    if len(parts) == 1:
        return parts[0]
    return parts[0] | {
        "geossl:mosaic_item_ids": [part["id"] for part in parts],
        "geossl:mosaic": list(parts[1:]),
    }


def _s2_part_meta(scene: Scene, base: str | None) -> dict[str, Any]:
    bands = [band for name in (*S2_MEMBERS, "scl") for band in MEMBERS[name].bands]
    return _common_meta(scene, bands, base) | {
        "eo:cloud_cover": scene.cloud_percent,
        "s2:mgrs_tile": scene.mgrs_tile,
        "s2:processing_baseline": scene.baseline,
        "geossl:offset_native": scene.boa_offset,
        "geossl:offset_applied": scene.boa_offset,
    }


def s2_meta(
    parts: Sequence[Scene], rules: Rules, cloudy: float | None, valid_fraction: float, base: str | None
) -> dict[str, Any]:
    """What a look says of its Sentinel-2 scenes. cloudy, valid_fraction: shares of its own window."""
    return _mosaic_meta([_s2_part_meta(part, base) for part in parts]) | {
        "geossl:quantification": S2_QUANTIFICATION,
        "geossl:resampling": rules or EXACT,
        "geossl:cloud_fraction": cloudy,
        "geossl:valid_fraction": valid_fraction,
    }


def s1_meta(frames: Sequence[Scene], valid_fraction: float, rules: Rules, base: str | None) -> dict[str, Any]:
    """What a look says of its Sentinel-1 frames."""
    return _mosaic_meta([_common_meta(frame, S1_BANDS, base) for frame in frames]) | {
        "sar:polarizations": list(S1_BANDS),
        "sar:product_type": frames[0].product,
        "geossl:units": "dB",
        "geossl:resampling": "; ".join(sorted(set(rules.values()))) or EXACT,
        "geossl:valid_fraction": valid_fraction,
    }


def label_meta(scene: Scene, label: NDArray[np.uint8], base: str | None) -> dict[str, Any]:
    """What a look says of its class map, and the class that most of it is of."""
    majority, share = majority_class(label)
    return {
        "id": scene.id,
        "collection": scene.collection,
        "start_datetime": rfc3339(scene.acquired),
        "end_datetime": rfc3339(scene.ends),
        "geossl:majority_class": majority,
        "geossl:majority_share": share,
        "assets": {LABEL_BAND: relative_href(scene.hrefs[LABEL_BAND], base)},
    }


def relative_href(href: str, base: str | None) -> str:
    """An href below the folder or URL `base` as `./…`, any other unchanged."""
    if base is not None:
        prefix = base.rstrip("/") + "/"
        if href.startswith(prefix):
            return "./" + href.removeprefix(prefix)
    return href
