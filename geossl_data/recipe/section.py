"""What the sections of a recipe have in common, and the kinds of values that several of them take."""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from geossl_data.errors import RecipeError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h)")


def parse_duration(text: str) -> timedelta:
    """`3d`, `36h` or `1.5d` as a timedelta; RecipeError otherwise."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise RecipeError(f"{text!r} is not a duration; write days or hours, as in 3d or 36h")
    amount = float(match[1])
    return timedelta(days=amount) if match[2] == "d" else timedelta(hours=amount)


def _checked_duration(value: Any) -> Any:
    if isinstance(value, str):
        try:
            parse_duration(value)
        except RecipeError as error:
            raise ValueError(str(error)) from None
    return value


Duration = Annotated[str, BeforeValidator(_checked_duration)]


def _on_earth(value: tuple[float, float, float, float] | None) -> tuple[float, float, float, float] | None:
    if value is not None:
        west, south, east, north = value
        if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90 and west != east):
            raise ValueError(f"{value} is not west south east north in degrees")
    return value


Bbox = Annotated[tuple[float, float, float, float] | None, AfterValidator(_on_earth)]
"""West, south, east, north in degrees; west > east crosses the antimeridian."""


class Section(BaseModel):
    """One stage's options. `example` is shown in the command's help."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, populate_by_name=True, defer_build=True
    )

    name: ClassVar[str]
    summary: ClassVar[str]
    example: ClassVar[str]
    later: ClassVar[tuple[str, ...]] = ()
    """Options that came later: at their defaults no part of the fingerprint, so that what was made before stands."""

    def carried(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What of these options still holds where `given` is asked for on top of them, by field."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def fingerprint(self, upstream: str = "") -> str:
        """Hex digest of these options and of what they were applied to; how a stage knows that it is up to date."""
        defaults = {name for name in self.later if getattr(self, name) == type(self).model_fields[name].default}
        text = json.dumps(self.model_dump(mode="json", by_alias=True, exclude=defaults), sort_keys=True)
        return hashlib.sha256(f"{self.name}\n{text}\n{upstream}".encode()).hexdigest()[:16]
