"""The recipe: the one place where an option, its default, bounds and help are declared.

The command line and the commented YAML are derived from these classes. A recipe holds one section per stage that has
run; replaying its sections in order makes the dataset folder again. Unknown keys are refused.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from geossl_data.errors import RecipeError
from geossl_data.files import write_text
from geossl_data.version import VERSION

RECIPE_NAME = "recipe.yaml"
MOST_REQUESTS = 50_000
"""Requests that one `geossl fetch` may make unless told otherwise; results do not depend on it."""

_STORE_URL = re.compile(r"(s3|gs|az|abfs)://[^/:?#\s]+(/[^?#\s]*)?")
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


def _store_url(value: str) -> str:
    if value and _STORE_URL.fullmatch(value) is None:
        # Not repeated: it may hold what it must not.
        raise ValueError("not the URL of an object store without credentials and query, as in s3://bucket/prefix")
    return value


def _bands(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if value and (not all(names) or len(set(names)) != len(names) or any(" " in name for name in names)):
        raise ValueError(f"{value!r} is not names of bands with commas between them, as in B04,B03,B02")
    return value


class ShardOptions(Section):
    name: ClassVar[str] = "shard"
    summary: ClassVar[str] = "Cut every look onto its pixel grid and store the samples as WebDataset shards."
    example: ClassVar[str] = "geossl shard mydata --workers 4"
    own: ClassVar[tuple[str, ...]] = ("rasters", "tile", "bands", "val", "test", "block_km", "seed")
    """Options that only a table of own rasters has a use for."""
    later: ClassVar[tuple[str, ...]] = ("max_cloud", "min_entropy", "output", "from_table", *own)

    codec: Literal["blosc", "npy", "archive"] = Field(
        "blosc",
        description="How arrays are stored, always without loss: blosc (Blosc chunks, LZ4), npy (plain NumPy files, "
        "1.4 times larger, read fastest), archive (Blosc chunks, zstd: a seventh smaller, slower to write and read).",
    )
    shard_mb: int = Field(256, ge=1, le=4096, description="Size that a shard is planned for, MB.")
    min_valid: float = Field(0.9, ge=0, le=1, description="Least share of valid pixels in every look, both sensors.")
    max_cloud: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Most cloud and cloud shadow in the window of every look, percent; left out: any. A look that "
        "fails this or the other demands is replaced by the next best pair.",
    )
    min_entropy: float | None = Field(
        None, ge=0, le=6, description="Least spectral entropy of every look, bits (0 to 6); left out: any."
    )
    output: Annotated[str, AfterValidator(_store_url)] = Field(
        "",
        description="URL of an object store below which the shards are put, as in s3://bucket/prefix, with credentials "
        "from the environment; left out: the dataset folder.",
    )
    from_table: str = Field(
        "",
        description="CSV file of your own rasters instead of samples of a catalog: columns place, time, sensor, path; "
        "maybe look (its number, where times differ or are not known), split, label (several with |), lon, lat, bands, "
        "scale, offset, units. Times without a zone are UTC. Or a folder with a folder of images for each class.",
    )
    rasters: str = Field(
        "", description="With --from-table: folder that its paths are relative to and stay in; left out: the table's."
    )
    tile: int = Field(
        0,
        ge=0,
        le=16_384,
        description="With --from-table: side of the squares that rasters are cut into, in pixels of the finest sensor; "
        "strips that hold no whole one are dropped. 0: rasters are squares already.",
    )
    bands: Annotated[str, AfterValidator(_bands)] = Field(
        "",
        description="With --from-table FOLDER: names of the bands of its images, as in B04,B03,B02; those of radar "
        "(VV, VH) make the sensor s1, all others s2. Left out: as the files say, or counted.",
    )
    val: float = Field(0.1, ge=0, lt=1, description="With --from-table: share of blocks, or places, for validation.")
    test: float = Field(0.2, ge=0, lt=1, description="With --from-table: share of blocks, or places, for testing.")
    block_km: float = Field(
        10.0, gt=0, le=1000, description="With --from-table: side of the blocks of ground that decide the split, km."
    )
    seed: int = Field(0, ge=0, description="With --from-table: seed of the splits and of the shuffle into shards.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError("val + test leave nothing to train on")
        what = "for scenes of a catalog" if self.from_table else "for --from-table"
        for name in ("max_cloud", "min_entropy") if self.from_table else self.own:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is {what} only")
        return self


VIEW_KINDS = ("augment", "season", "sensor", "long")


def _views(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if value != "auto" and not (set(names) <= set(VIEW_KINDS) and len(set(names)) == len(names)):
        raise ValueError(f"{value!r} is not auto, or some of {', '.join(VIEW_KINDS)}")
    return value


class PretrainOptions(Section):
    name: ClassVar[str] = "pretrain"
    summary: ClassVar[str] = "Train the reference encoder from the shards."
    example: ClassVar[str] = "geossl pretrain mydata --objective infonce --encoder resnet18 --epochs 20"

    of_method: ClassVar[tuple[str, ...]] = (
        "sensors", "joint", "views", "min_scale", "temperature", "projection_dim", "hidden_dim", "queue", "momentum",
        "optimizer", "learning_rate", "weight_decay", "warmup", "schedule", "clip",
    )  # fmt: skip
    """Options whose defaults are those of the objective, so that they do not carry over to another one."""

    run: str = Field("default", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Name of the folder below runs/.")
    objective: Literal[
        "infonce", "simclr", "moco", "moco3", "seco", "caco", "byol", "dino", "barlow", "vicreg", "hsic", "mae"
    ] = Field(
        "infonce",
        description="infonce: one encoder per sensor, the two sensors of a look agree; simclr, moco (v2), moco3: views "
        "of a look against those of other places; seco: three heads, invariant to season, augmentation, both; caco: "
        "seco with places that changed over years as negatives; byol, dino, barlow, vicreg, hsic: without negatives; "
        "mae: predicts what is masked.",
    )
    sensors: str = Field(
        "auto",
        description="Sensors to train on, as in s2 or s2,s1; auto: both where views compare sensors, else the optical.",
    )
    joint: bool = Field(False, description="One encoder over the bands of all sensors instead of one for each.")
    views: Annotated[str, AfterValidator(_views)] = Field(
        "auto",
        description="In what the two views of a pair differ: augment, season (dates within a year), sensor, long "
        "(dates years apart), several with commas; auto: as the objective was published.",
    )
    encoder: Literal["resnet10", "resnet18", "resnet50", "vit-tiny", "vit-small", "vit-base"] = Field(
        "resnet18", description="Encoder architecture."
    )
    embed: Literal["plain", "groups", "wavelength"] = Field(
        "plain",
        description="Patch embedding of a ViT: plain: all bands in one token; groups: a token for each group of bands; "
        "wavelength: weights made from the bands' wavelengths.",
    )
    epochs: int = Field(20, ge=1, le=100_000, description="Passes over the training split.")
    batch_size: int = Field(64, ge=2, le=1_048_576, description="Looks or places per step, of all processes together.")
    accumulate: int = Field(1, ge=1, le=65_536, description="Parts that a step is computed in, to fit the memory.")
    crop: int = Field(0, ge=0, le=2046, description="Side of the training crop, pixels; 0: three quarters of a place.")
    min_scale: float | None = Field(
        None, gt=0, le=1, description="Least share of a look that an augmented view shows; left out: the method's."
    )
    gain: float = Field(
        0.0, ge=0, le=2, description="Augmentation: deviation of the logarithm of a factor for each band of a view."
    )
    offset: float = Field(
        0.0, ge=0, le=5, description="Augmentation: deviation of a shift of each band, in its standard deviations."
    )
    band_drop: float = Field(
        0.0, ge=0, lt=1, description="Augmentation: probability that a band of a view is left out."
    )
    speckle: float = Field(0.0, ge=0, le=5, description="Augmentation: deviation of noise on radar pixels, likewise.")
    local_crops: int = Field(8, ge=0, le=32, description="Small views of dino beside its two large ones.")
    temperature: float | None = Field(
        None, gt=0, le=10, description="Temperature of the softmax; left out: the method's, as what follows."
    )
    projection_dim: int | None = Field(
        None, ge=2, le=262_144, description="Width of the embedding that the loss compares; prototypes of dino."
    )
    hidden_dim: int | None = Field(None, ge=2, le=65_536, description="Width inside projection heads.")
    queue: int | None = Field(None, ge=1, le=4_194_304, description="Keys that moco, seco and caco remember.")
    momentum: float | None = Field(None, ge=0, le=1, description="Momentum of the averaged encoder, at the begin.")
    mask: str = Field(
        "patch",
        description="What mae hides: patch (ground), group (wavelengths), sensor, date, future (the last date); of "
        "several with commas one is drawn each step.",
    )
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="Share of patches, groups or dates that mae hides.")
    dates: int = Field(1, ge=1, le=64, description="Looks of a place that mae sees together.")
    change_labels: Literal["estimated", "score"] = Field(
        "estimated",
        description="Where caco knows from which places changed: estimated in training, or the shards' change score.",
    )
    change_threshold: float = Field(1.0, description="Change score from which on a place counts as changed.")
    cross_view_negatives: bool = Field(
        False, description="caco: unchanged places stay negatives in the other views, as in its code, not its text."
    )
    georank: float = Field(0.0, ge=0, le=1, description="Weight of GeoRank: near places look alike; 0.5 as published.")
    georank_eps: float = Field(
        0.001, gt=0, le=1000, description="Softness of GeoRank's ranks: small batches want 0.1 to 1."
    )
    geoloc: float = Field(0.0, ge=0, description="Weight of telling the cluster of places; 1 as in GASSL.")
    geoloc_clusters: int = Field(100, ge=2, le=100_000, description="Clusters of places for --geoloc.")
    csp: float = Field(0.0, ge=0, description="Weight of the contrast between images and locations.")
    negatives_km: float = Field(
        0.0, ge=0, le=20_000, description="Places nearer than this are no negatives of each other, km."
    )
    far_negatives: bool = Field(False, description="Make batches of places far apart from each other.")
    optimizer: Literal["auto", "adamw", "sgd", "lars"] = Field(
        "auto", description="Optimiser; auto: the method's own, as what follows where it is left out."
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1000, description="Peak learning rate; left out: the method's, scaled as published."
    )
    weight_decay: float | None = Field(None, ge=0, le=1, description="Weight decay, not of biases and norms.")
    warmup: float | None = Field(None, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    schedule: Literal["auto", "cosine", "steps", "constant"] = Field(
        "auto", description="How the learning rate falls: along half a cosine, tenfold at 60 % and 80 %, not at all."
    )
    clip: float | None = Field(None, ge=0, description="Largest norm of the gradient; 0: any.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Of encoders and heads; losses are in float32. auto: bf16 on a GPU, fp32 elsewhere."
    )
    compile: bool = Field(False, description="Compile the encoders with torch.compile.")
    checkpoint_every: int = Field(1, ge=1, description="Epochs between checkpoints; SIGTERM and Ctrl-C save as well.")
    tensorboard: bool = Field(False, description="Write TensorBoard event files as well.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train.")
    seed: int = Field(0, ge=0, description="Seed of weights, order and augmentations.")

    def carried(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All of them, but for those of the method where another one is asked for."""
        values = super().carried(given)
        if given.get("objective", self.objective) == self.objective:
            return values
        return {name: value for name, value in values.items() if name not in self.of_method}


EVALUATION_TASKS = (
    "classification", "multilabel", "segmentation", "change", "retrieval", "cross-sensor", "events", "geolocation",
)  # fmt: skip


def _tasks(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if value != "all" and not (set(names) <= set(EVALUATION_TASKS) and len(set(names)) == len(names)):
        raise ValueError(f"{value!r} is not all, or some of {', '.join(EVALUATION_TASKS)}")
    return value


def parse_fractions(text: str) -> tuple[float, ...]:
    """`1,10,100` percent as shares in (0, 1], ascending; ValueError where it is not that."""
    try:
        shares = sorted(float(part) / 100 for part in text.split(","))
    except ValueError:
        shares = []
    if not shares or not all(0 < share <= 1 for share in shares) or len(set(shares)) < len(shares):
        raise ValueError(f"{text!r} is not percents above 0 up to 100, as in 1,10,100")
    return tuple(shares)


def _fractions(value: Any) -> Any:
    text = str(value)
    parse_fractions(text)
    return text


class EvaluateOptions(Section):
    name: ClassVar[str] = "evaluate"
    summary: ClassVar[str] = (
        "Judge an encoder by labelled places, beside a random one and a supervised one of the same shape."
    )
    example: ClassVar[str] = "geossl evaluate mydata --run default --task classification,segmentation"

    run: str = Field("default", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Name of the folder below runs/.")
    encoder: str = Field(
        "",
        description="Exported encoder to judge instead of the run's: a safetensors file, a run's folder, or several "
        "with commas; its scores go to evaluations/.",
    )
    task: Annotated[str, AfterValidator(_tasks)] = Field(
        "classification",
        description="What to judge by, several with commas: classification, multilabel (land classes); segmentation, "
        "change (maps); retrieval (of one class), cross-sensor (of one place), events (places that changed), "
        "geolocation; all: what the labels allow.",
    )
    target: str = Field(
        "", description="Member with the class maps of segmentation and change; left out: label, or the only one."
    )
    fractions: Annotated[str, BeforeValidator(_fractions)] = Field(
        "100", description="Percents of the labelled train places that teach, as in 1,10,100."
    )
    seeds: int = Field(3, ge=1, le=100, description="Random encoders, label subsets and trained heads of each kind.")
    k: int = Field(20, ge=1, le=1000, description="Neighbours of the kNN probe.")
    temperature: float = Field(0.07, gt=0, le=10, description="Temperature of their vote.")
    ridge: float = Field(1.0, gt=0, description="Regularisation of the closed-form linear probe.")
    statistics: str = Field(
        "auto",
        description="Means and deviations that images are standardised by: encoder (those it was trained with), own "
        "(of the labelled train split), a JSON file {band: [mean, deviation]}; auto: the encoder's where units agree.",
    )
    epochs: int = Field(
        20, ge=1, le=10_000, description="Passes of decoders, fine-tuning and supervised training over the labels."
    )
    crop: int = Field(0, ge=0, le=2046, description="Side of the crops of supervised training, pixels; 0: whole looks.")
    supervised: bool = Field(True, description="Train encoders of the same shape with the labels alone to compare.")
    finetune: bool = Field(False, description="Segmentation and change: also train the encoder on with the labels.")
    event_percent: float = Field(
        5.0, gt=0, le=100, description="Part of a place that has to change to be an event, percent."
    )
    batch_size: int = Field(64, ge=2, description="Looks per forward pass; training takes half of it.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to compute.")
    seed: int = Field(0, ge=0, description="First seed of random encoders, label subsets and heads.")


SECTIONS: tuple[type[Section], ...] = (
    PlacesOptions,
    FetchOptions,
    SampleOptions,
    ShardOptions,
    PretrainOptions,
    EvaluateOptions,
)


class Recipe(BaseModel):
    """Every choice made for one dataset folder; a section is None until its stage has run."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    geossl: str = Field(VERSION, description="Version that wrote this recipe.")
    places: PlacesOptions | None = None
    fetch: FetchOptions | None = None
    sample: SampleOptions | None = None
    shard: ShardOptions | None = None
    pretrain: PretrainOptions | None = None
    evaluate: EvaluateOptions | None = None

    def with_section(self, section: Section) -> "Recipe":
        """A copy with one section replaced."""
        return self.model_copy(update={section.name: section, "geossl": VERSION})

    @classmethod
    def complete(cls) -> "Recipe":
        """All sections with their defaults, but for places, which only a fetch that names them has a use for."""
        return cls.model_validate({kind.name: kind() for kind in SECTIONS if kind is not PlacesOptions})


def make_section(kind: type[Section], values: dict[str, Any]) -> Section:
    """A section from plain values (by field name or alias); RecipeError in one line where they do not fit."""
    # Under their aliases, so that a message names an option as it is typed.
    aliases = {name: info.alias or name for name, info in kind.model_fields.items()}
    try:
        return kind(**{aliases.get(name, name): value for name, value in values.items()})
    except ValidationError as error:
        raise RecipeError(_one_line(error, prefix=f"{kind.name}: ")) from None


def _one_line(error: ValidationError, prefix: str = "") -> str:
    parts = []
    for item in error.errors():
        where = ".".join(str(step) for step in item["loc"])
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown key {where!r}")
        else:
            what = item["msg"].removeprefix("Value error, ")
            given = "" if item["type"] == "value_error" else f", got {item['input']!r}"
            parts.append(f"{where}: {what}{given}" if where else what)
    return prefix + "; ".join(parts)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file; RecipeError names every unknown key and every value out of bounds."""
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; `geossl config` prints one to start from")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections, see `geossl config`")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(_one_line(error, prefix=f"{path}: ")) from None


def _yaml_value(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def to_yaml(recipe: Recipe) -> str:
    """The recipe as commented YAML: above every key its help, then the value."""
    lines = [f"# Replay with: geossl run {RECIPE_NAME} --out DIR", f"geossl: {_yaml_value(recipe.geossl)}"]
    for kind in SECTIONS:
        section: Section | None = getattr(recipe, kind.name)
        if section is None:
            continue
        lines += ["", f"# {kind.summary}", f"{kind.name}:"]
        values = section.model_dump(mode="json", by_alias=True)
        for name, info in kind.model_fields.items():
            key = info.alias or name
            lines += [f"  # {info.description}", f"  {key}: {_yaml_value(values[key])}"]
    return "\n".join(lines) + "\n"


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write the commented recipe, atomically."""
    write_text(path, to_yaml(recipe))
