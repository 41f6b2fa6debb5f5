"""Options of drawing places, with a catalog and without one."""

import math
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from geossl_data.recipe.section import Bbox, Section


def _shares(value: str | None) -> str | None:
    if value is not None:
        parse_shares(value)
    return value


def parse_shares(text: str) -> dict[str, float]:
    """`geography=0.6,change=0.4` as strategy → share; ValueError where it is not that."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, sign, number = part.strip().partition("=")
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not name or not sign or not (share > 0 and math.isfinite(share)) or name in shares:
            raise ValueError(
                f"{text!r} is not strategy=share,strategy=share with each strategy once and shares above 0"
            )
        shares[name] = share
    return shares


StrategyName = Literal["uniform", "grid", "geography", "cities", "balanced", "diverse", "change", "mixture"]


class DrawOptions(Section):
    """What drawing places has in common, with a catalog and without one."""

    later: ClassVar[tuple[str, ...]] = ("test_bbox", "split_seed")

    strategy: StrategyName = Field(
        "geography",
        description="uniform: every square kilometre alike; grid: an even lattice; geography: the count is spread over "
        "strata by --allocation; balanced: over strata in equal parts; cities: around cities; diverse: unlike each "
        "other in colour and backscatter; change: by measured change; mixture: shares of the others.",
    )
    count: int | None = Field(
        None, ge=1, description="Places to draw; an error where there are fewer. Left out: all there are, up to 1000."
    )
    bbox: Bbox = Field(None, description="Only places centred in west, south, east, north, degrees.")
    area: str | None = Field(None, description="Vector file; only places centred in its polygons, instead of --bbox.")
    surface: Literal["any", "land"] = Field(
        "any",
        description="land: only places whose centre is on land (Natural Earth 1:50m); always so without a catalog.",
    )
    size: int = Field(264, ge=12, le=2046, description="Side of a place in 10 m pixels; a multiple of 6.")
    strata: str = Field(
        "regions",
        description="Classes of ground: regions (15° bands × 30° sectors), latitude, cells[:KM], climate, koppen, "
        "continent, country, landcover, a vector FILE:FIELD, a raster FILE.tif, or stac:COLLECTION/ASSET; several with "
        "commas are crossed.",
    )
    allocation: Literal["equal", "sqrt", "proportional", "quota"] = Field(
        "sqrt",
        description="How geography shares the count among strata of n km²: like 1, √n or n, or by --quota.",
    )
    quota: str | None = Field(
        None, description="CSV file with columns stratum and count (or share) for --allocation quota."
    )
    cities: Literal["caco", "seco", "ssl4eo"] = Field(
        "caco",
        description="Gaussians around the 10,000 largest cities: caco σ 5 km, on land; seco and ssl4eo σ 50 km. Places "
        "never overlap in any case.",
    )
    cities_file: str | None = Field(
        None, description="Table with columns lon, lat and maybe population, instead of the cities that come along."
    )
    sigma_km: float | None = Field(
        None, gt=0, le=1000, description="Standard deviation of the Gaussians in each direction, km; else the preset's."
    )
    mixture: Annotated[str | None, AfterValidator(_shares)] = Field(
        None, description="Shares of the strategies for --strategy mixture, as in geography=0.6,cities=0.4."
    )
    min_distance_km: float = Field(
        0.0, ge=0, le=1000, description="Least distance between place centres, km; places never overlap in any case."
    )
    block_km: float = Field(10.0, gt=0, le=1000, description="Side of the spatial blocks that decide the split, km.")
    buffer_km: float = Field(
        0.0, ge=0, le=500, description="Places nearer than this to a block of another split are left out, km."
    )
    val: float = Field(0.1, ge=0, lt=1, description="Share of the blocks for validation.")
    test: float = Field(0.2, ge=0, lt=1, description="Share of the blocks for testing.")
    test_bbox: Bbox = Field(
        None, description="Test only in west south east north, degrees, as on a continent, instead of by --test."
    )
    seed: int = Field(0, ge=0, description="Seed of every draw, of the splits and of the shuffle into shards.")
    split_seed: int | None = Field(
        None, ge=0, description="Seed of the splits alone, so that draws of several seeds share them; left out: --seed."
    )

    @property
    def shares(self) -> dict[str, float]:
        """The mixture's shares by strategy; empty without one."""
        return {} if self.mixture is None else parse_shares(self.mixture)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.size % 6:
            raise ValueError(f"size {self.size} is not a multiple of 6; try {self.size // 6 * 6 or 6}")
        if self.val + self.test >= 1:
            raise ValueError("val + test leave nothing to train on")
        if self.bbox is not None and self.area is not None:
            raise ValueError("bbox and area exclude each other; give one")
        if (self.allocation == "quota") != (self.quota is not None):
            raise ValueError("allocation quota and a quota file go together; give both or neither")
        if self.strategy == "mixture" and self.mixture is None:
            raise ValueError("strategy mixture needs shares, as in --mixture geography=0.6,change=0.4")
        unknown = set(self.shares) - (set(get_args(StrategyName)) - {"mixture"})
        if unknown:
            raise ValueError(f"mixture: no strategy {sorted(unknown)[0]!r} to mix")
        return self


class PlacesOptions(DrawOptions):
    name: ClassVar[str] = "places"
    summary: ClassVar[str] = "Draw places on land before any catalog is asked (geossl sample --anywhere)."
    example: ClassVar[str] = "geossl sample world --anywhere --count 2000"


class SampleOptions(DrawOptions):
    name: ClassVar[str] = "sample"
    summary: ClassVar[str] = "Draw places among the pairs and choose the looks of each."
    example: ClassVar[str] = "geossl sample mydata --strategy geography --count 2000 --looks seasons"
    later: ClassVar[tuple[str, ...]] = ("snap", "test_bbox", "split_seed")

    looks: Literal["single", "seasons", "long", "series"] = Field(
        "single",
        description="single: the clearest date; seasons: dates spread over one year; long: the same seasons in two "
        "periods years apart; series: all dates up to --most-looks.",
    )
    dates: int = Field(4, ge=2, le=24, description="Seasons that seasons and long divide the year into.")
    least_dates: int = Field(2, ge=2, le=24, description="Fewest seasons that a place of seasons and long must have.")
    most_looks: int = Field(16, ge=1, le=200, description="Most looks of a series.")
    years_apart: int | None = Field(
        None, ge=1, le=20, description="Least years between the two periods of long; left out: as far apart as can be."
    )
    looks_orbit: Literal["same", "any"] = Field(
        "same",
        description="same: all looks of a place share one Sentinel-1 relative orbit and direction; any: they may not.",
    )
    weight_by: str = Field(
        "none",
        description="What makes a place likelier within its strategy: none, change, entropy (of its spectra), or "
        "FILE:COLUMN, numbers of a vector file or of a table with lon and lat.",
    )
    measure: Literal["auto", "off", "s2", "s1", "both"] = Field(
        "auto",
        description="Sensors to measure change with, from overviews; auto: both where the strategy, the weights or "
        "--looks long need it.",
    )
    snap: Literal["none", "block"] = Field(
        "none",
        description="block: only places inside one 512-pixel block of every Sentinel-2 band, which are read faster and "
        "are fewer; places drawn beforehand move into one, by at most 2.6 km in each direction.",
    )
