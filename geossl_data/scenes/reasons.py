"""Reasons for which a found item is given up, and the error that carries one."""

from typing import Literal

from geossl_data.errors import SceneError

Reason = Literal[
    "missing-asset",
    "no-time",
    "unknown-baseline",
    "offset-contradiction",
    "bad-item",
    "not-terrain-corrected",
    "href-refused",
    "superseded",
    "tile-overlap",
    "not-calibrated",
]
"""The classes of reason for which a found item is given up."""


class ItemError(SceneError):
    """An item that cannot be used; `reason` is the short class of reason that the summary counts."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[type["ItemError"], tuple[Reason, str]]:
        return (ItemError, (self.reason, str(self)))
