"""Items → scenes: which of a catalog's items are asked for, which of those can be used, and which there are twice.

A server's filters are never relied upon: collection, time, area and cloud are checked again for every item. An item
that was asked for and cannot be used becomes a Skipped row with the reason.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from geossl_data.errors import SceneError, fit_to_show
from geossl_data.memory import gc_paused
from geossl_data.records import Scene, Skipped
from geossl_data.scenes.calibration import uncalibrated
from geossl_data.scenes.footprint import footprint_of
from geossl_data.scenes.hrefs import host_of
from geossl_data.scenes.items import Item, Packed
from geossl_data.scenes.overlaps import redundant_tiles
from geossl_data.scenes.product_metadata import ProductMetadata
from geossl_data.scenes.providers import Provider
from geossl_data.scenes.query import Query
from geossl_data.scenes.reasons import ItemError, Reason
from geossl_data.scenes.reduction import reduced, self_links
from geossl_data.scenes.scene import product_of, scene_from_item
from geossl_data.scenes.versions import superseded

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

UnknownBaseline = Literal["skip", "as-stored"]
Consult = Callable[[Mapping[str, Any], str], ProductMetadata | None]
"""(item, base) → what the product's own metadata file says; None where it cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the items of one answer, or of a whole file, came to."""

    found: Sequence[tuple[Scene, Mapping[str, Any]]]
    """Usable scenes, and their items reduced to known fields and packed, hrefs unsigned."""
    skipped: Sequence[Skipped]
    """What was asked for and cannot be used."""
    outside: Mapping[str, int]
    """Why items were not asked for → how many of them."""
    n_items: int
    """All items of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """What decides about an item."""

    provider: Provider
    base: str
    """Absolute folder or URL of the catalog."""
    query: Query
    unknown_baseline: UnknownBaseline
    """Sentinel-2 items whose offset nobody states are skipped, or kept with `boa_offset` None."""
    consult: Consult
    """Asked about items that do not tell their baseline."""

    def scene_of(self, item: Item) -> Scene:
        """The scene of an item; raises ItemError."""
        return scene_from_item(item, self.provider, self._base_of(item))

    def select(self, items: Iterable[Item]) -> Findings:
        """What becomes of each item."""
        found: list[tuple[Scene, Mapping[str, Any]]] = []
        skipped: list[Skipped] = []
        outside: Counter[str] = Counter()
        n_items = 0
        for item in items:
            n_items += 1
            if product_of(item, self.provider) not in self.query.products:
                outside[f"of other collections ({str(item.get('collection'))[:40]})"] += 1
                continue
            try:
                scene = self.scene_of(item)
                miss = self.query.miss(scene)
                if miss is None and scene.sensor == "s2" and scene.boa_offset is None:
                    scene, item = self._with_baseline(scene, item)
            except ItemError as error:
                if not _is_elsewhere(item, self.query):
                    skipped.append(skipped_row(str(item.get("id"))[:200], error.reason, str(error)))
                continue
            why = uncalibrated(scene.platform, scene.acquired) if miss is None else None
            if miss is not None:
                outside[miss] += 1
            elif why is not None:
                skipped.append(skipped_row(scene.id, "not-calibrated", f"{scene.id}: {why}"))
            elif scene.sensor == "s2" and scene.boa_offset is None and self.unknown_baseline == "skip":
                detail = f"{scene.id}: no processing baseline is stated, so the offset of its numbers is unknown"
                skipped.append(skipped_row(scene.id, "unknown-baseline", detail))
            else:
                found.append((scene, Packed(reduced(item, scene, self.base, self.provider.aliases))))
        return Findings(found=found, skipped=skipped, outside=outside, n_items=n_items)

    def _with_baseline(self, scene: Scene, item: Item) -> tuple[Scene, Item]:
        """The same with the baseline that the product's own metadata states; unchanged where that cannot be read.

        Raises ItemError where the metadata contradicts itself or the item.
        """
        stated = self.consult(item, self._base_of(item))
        if stated is None or stated.baseline is None:
            return scene, item
        item = {**item, "properties": {**item["properties"], "s2:processing_baseline": stated.baseline}}
        scene = self.scene_of(item)
        if stated.offsets - {scene.boa_offset} and self.provider.offset == "stored":
            raise ItemError(
                "offset-contradiction",
                f"{scene.id}: its metadata states baseline {stated.baseline} and offsets {sorted(stated.offsets)}",
            )
        return scene, item

    def _base_of(self, item: Mapping[str, Any]) -> str:
        """What an item's relative hrefs are relative to: its own address in an API, the folder of a file."""
        links = [] if host_of(self.base) is None else self_links(item.get("links"), self.base)
        return links[0]["href"] if links else self.base


@gc_paused()
def distinct(findings: Iterable[Findings], query: Query) -> tuple[list[tuple[Scene, Mapping[str, Any]]], list[Skipped]]:
    """Each scene once, in order of time, then id; and why others were given up, in order of reason and id.

    Of several versions of one Sentinel-2 acquisition the newest baseline is kept; of tiles that see the same part of
    the area on every pass, one.
    """
    kept: dict[str, tuple[Scene, Mapping[str, Any]]] = {}
    given_up: dict[tuple[str, str], Skipped] = {}
    for part in findings:
        for row in part.skipped:
            given_up.setdefault((row.id, row.reason), row)
        for scene, item in part.found:
            present, _ = kept.setdefault(scene.id, (scene, item))
            if present.collection != scene.collection:
                detail = f"{scene.id}: the same id in two collections"
                given_up.setdefault((scene.id, "bad-item"), skipped_row(scene.id, "bad-item", detail))
    of_s2 = [(scene, item) for scene, item in kept.values() if scene.sensor == "s2"]
    for scene_id, newer in superseded(of_s2).items():
        del kept[scene_id]
        detail = f"{scene_id}: the same acquisition as {newer}, which has a newer baseline or processing"
        given_up[scene_id, "superseded"] = skipped_row(scene_id, "superseded", detail)
    left = [scene for scene, _ in kept.values() if scene.sensor == "s2"]
    for scene_id, tile in redundant_tiles(left, query.area).items():
        del kept[scene_id]
        detail = f"{scene_id}: tile {tile} sees the same part of the area on every pass"
        given_up[scene_id, "tile-overlap"] = skipped_row(scene_id, "tile-overlap", detail)
    chosen = sorted(kept.values(), key=lambda pair: (pair[0].acquired, pair[0].id))
    return chosen, sorted(given_up.values(), key=lambda row: (row.reason, row.id, row.detail))


def skipped_row(name: str, reason: Reason, detail: str) -> Skipped:
    """A row for skipped.parquet."""
    return Skipped(stage="fetch", id=fit_to_show(name), reason=reason, detail=fit_to_show(detail))


def _is_elsewhere(item: Mapping[str, Any], query: Query) -> bool:
    """Was an item that cannot be used not asked for anyway, as far as it can be understood?"""
    try:
        if not query.meets(footprint_of("", item.get("geometry"))):
            return True
    except SceneError:
        return False
    moment = (item.get("properties") or {}).get("datetime") if isinstance(item.get("properties"), Mapping) else None
    if not isinstance(moment, str) or _DAY.match(moment) is None:
        return False
    margin = query.margin
    first = "" if query.start is None else (query.start - margin).isoformat()[:10]
    last = "9999-99-99" if query.end is None else (query.end + margin - timedelta(microseconds=1)).isoformat()[:10]
    return not first <= moment[:10] <= last
