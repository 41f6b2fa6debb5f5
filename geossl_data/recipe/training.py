"""Options of training an encoder."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from geossl_data.recipe.section import Section

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
    momentum: float | None = Field(None, ge=0, le=1, description="Momentum of the averaged encoder, at the start.")
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
