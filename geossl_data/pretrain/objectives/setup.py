"""What every objective is built from, and what each answers with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.pretrain.encoders import Bands
from geossl_data.pretrain.views import ViewSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What an objective is built from. Numbers of the method are those asked for, or its published ones."""

    encoder: str
    """Architecture, a name of `encoders.ENCODERS`."""
    bands: Mapping[str, Bands]
    """Sensor → its bands, of the sensors to train on, in their order."""
    joint: bool = False
    """One encoder over the bands of all sensors, in their order, instead of one encoder for each."""
    patch: int = 16
    """Side of a ViT's patches, pixels."""
    embed: str = "plain"
    """Patch embedding of a ViT, one of `encoders.EMBEDDINGS`."""
    views: ViewSettings = field(default_factory=ViewSettings)
    temperature: float = 0.1
    projection_dim: int = 128
    """Width of the embedding that the loss compares; prototypes of `dino`."""
    hidden_dim: int = 0
    """Width inside projection and prediction heads; 0: as wide as the encoder's embedding."""
    queue: int = 4096
    """Keys that `moco`, `seco` and `caco` remember, per head."""
    momentum: float = 0.99
    """Share of itself that an averaged encoder keeps in a step, at the begin."""
    momentum_end: float = 1.0
    """The same at the end of training; between them half a cosine."""
    negatives_km: float = 0.0
    """Places nearer than this are no negatives of each other."""
    mask: tuple[str, ...] = ("patch",)
    """What `mae` hides: one or several of patch, group, sensor, date, future; of several one is drawn each step."""
    mask_ratio: float = 0.75
    looks: int = 1
    """Dates that `mae` sees together."""
    change_labels: str = "estimated"
    """Where `caco` knows from which places changed: estimated in training, or the score of the shards."""
    change_threshold: float = 1.0
    """Change score from which on a place counts as changed, where labels are scores."""
    mask_cross_view: bool = True
    """Whether `caco` masks unchanged places in the other views too, as its text means; upstream does not."""
    places: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    """Longitude and latitude of every train sample, degrees, shape (n, 2), by sample index; NaN where not known."""
    seed: int = 0

    @property
    def sensors(self) -> tuple[str, ...]:
        """The sensors to train on."""
        return tuple(self.bands)

    @property
    def crosses(self) -> bool:
        """Whether the two views of a pair are of different sensors."""
        return "sensor" in self.views.kinds

    def __post_init__(self) -> None:
        if not self.bands:
            raise TrainingError("no sensor to train on")

    def inside(self, width: int) -> int:
        """Width inside a head on embeddings of a width."""
        return self.hidden_dim or width

    def check_pairs(self, name: str) -> None:
        """TrainingError where these sensors and views make no pairs for the objective `name`."""
        if self.crosses and len(self.sensors) != 2:
            raise TrainingError(
                f"{name}: views of two sensors need two, not {' and '.join(self.sensors)}; give --sensors s2,s1, or "
                "leave sensor out of --views"
            )
        if not self.crosses and len(self.sensors) > 1 and not self.joint:
            raise TrainingError(
                f"{name}: views {','.join(self.views.kinds)} compare images of one encoder; add sensor to --views, "
                "give --joint, or one of --sensors"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an objective makes of the views of a batch."""

    terms: Mapping[str, Tensor]
    """Named scalars: `loss` is minimised, all are logged."""
    embeddings: tuple[Tensor, ...] = ()
    """What geographic terms look at: one or several times (B, d), row i of place i of the batch; their mean counts."""
