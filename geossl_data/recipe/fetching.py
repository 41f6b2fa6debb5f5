"""Options of searching a catalog."""

from datetime import date
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from geossl_data.recipe.section import Bbox, Duration, Section

MOST_REQUESTS = 50_000
"""Requests that one `geossl fetch` may make unless told otherwise; results do not depend on it."""


class FetchOptions(Section):
    name: ClassVar[str] = "fetch"
    summary: ClassVar[str] = "Search a STAC catalog for Sentinel-2 scenes and the Sentinel-1 scenes that match them."
    example: ClassVar[str] = (
        "geossl fetch mydata --catalog planetary-computer --bbox 5.9 45.8 10.5 47.8 --from 2023-01-01 --to 2023-12-31"
    )

    catalog: str = Field(
        "planetary-computer",
        description="Catalog name (planetary-computer, earth-search, cdse), STAC API URL, or stac-geoparquet: a file, "
        "a folder, or a URL (https, s3, gs, az).",
    )
    bbox: Bbox = Field(
        None, description="West, south, east and north edge in degrees; west > east crosses the antimeridian."
    )
    area: str | None = Field(None, description="Vector file whose polygons bound the search, instead of --bbox.")
    places: str | None = Field(
        None, description="Table of places to search around, as `geossl sample --anywhere` writes, instead of --bbox."
    )
    start: date | None = Field(None, alias="from", description="First day, UTC. Needed for a STAC API.")
    end: date | None = Field(None, alias="to", description="Last day, UTC, included. Needed for a STAC API.")
    s2: Literal["L2A", "L1C"] = Field("L2A", description="Sentinel-2 level: surface or top-of-atmosphere reflectance.")
    s1: Literal["RTC", "GRD"] = Field(
        "RTC", description="Sentinel-1 product: RTC is terrain-corrected; GRD needs usable georeferencing."
    )
    max_cloud: float = Field(30.0, ge=0, le=100, description="Largest cloud cover of a whole Sentinel-2 scene, %.")
    max_gap: Duration = Field("3d", description="Largest time between the two sensors: days or hours, as in 3d or 36h.")
    orbit: Literal["any", "ascending", "descending", "same-relative", "auto"] = Field(
        "any",
        description="Sentinel-1 passes to accept: any, one direction, for each tile the one relative orbit that gives "
        "most pairs (same-relative), or for each tile the direction that does (auto).",
    )
    tie: Literal["nearest", "clearest"] = Field(
        "clearest",
        description="Which of several pairs a look takes: the one nearest in time, or the clearest Sentinel-2 scene.",
    )
    unknown_baseline: Literal["skip", "as-stored"] = Field(
        "skip",
        description="Sentinel-2 items that state no processing baseline: skip them, or take their numbers as stored.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "FetchOptions":
        if sum(value is not None for value in (self.bbox, self.area, self.places)) > 1:
            raise ValueError("bbox, area and places exclude each other; give one")
        if self.start is not None and self.end is not None and self.end < self.start:
            raise ValueError(f"to ({self.end}) lies before from ({self.start})")
        return self
