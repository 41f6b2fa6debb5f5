"""Everything that can be chosen about a run; None is what the method was published with."""

from dataclasses import dataclass
from typing import Literal

from geossl_data.errors import TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """See `recipe.PretrainOptions`, which has the same fields and says what they mean."""

    objective: str = "infonce"
    sensors: str = "auto"
    joint: bool = False
    views: str = "auto"
    encoder: str = "resnet18"
    embed: str = "plain"
    epochs: int = 20
    batch_size: int = 64
    accumulate: int = 1
    crop: int = 0
    min_scale: float | None = None
    gain: float = 0.0
    offset: float = 0.0
    band_drop: float = 0.0
    speckle: float = 0.0
    local_crops: int = 8
    temperature: float | None = None
    projection_dim: int | None = None
    hidden_dim: int | None = None
    queue: int | None = None
    momentum: float | None = None
    mask: str = "patch"
    mask_ratio: float = 0.75
    dates: int = 1
    change_labels: str = "estimated"
    change_threshold: float = 1.0
    cross_view_negatives: bool = False
    georank: float = 0.0
    georank_eps: float = 0.001
    geoloc: float = 0.0
    geoloc_clusters: int = 100
    csp: float = 0.0
    negatives_km: float = 0.0
    far_negatives: bool = False
    optimizer: str = "auto"
    learning_rate: float | None = None
    weight_decay: float | None = None
    warmup: float | None = None
    schedule: str = "auto"
    clip: float | None = None
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    checkpoint_every: int = 1
    tensorboard: bool = False
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size % self.accumulate:
            raise TrainingError(f"batch size {self.batch_size} does not split into {self.accumulate} parts")


RUN_ONLY = ("checkpoint_every", "tensorboard", "device", "compile")
"""Options that a run may go on with others of."""
