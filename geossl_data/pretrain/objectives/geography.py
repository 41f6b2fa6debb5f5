"""Geography as a signal beside an objective: terms that know where a place is, added by weight.

`geoloc`, `csp` and `georank` stand in files of their own. A term looks at the embeddings that the objective compares,
of all processes, and answers with named numbers; it needs no view of its own.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import world_size
from geossl_data.pretrain.looks import LookPlan
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, generator


class Geographic(nn.Module):
    """An objective with geographic terms beside it, shaped as an objective itself.

    terms: name → (weight, term). A term is a module of (embeddings (B, d), batch) that answers with named scalars,
    `loss` among them; of several embeddings of a place the mean counts. The loss is (1 − w) × objective + w × georank,
    as published, plus w × every other term. `objective` is logged beside it, each term as its name, and what else a
    term says as name_what.
    """

    def __init__(self, objective: nn.Module, terms: Mapping[str, tuple[float, nn.Module]]) -> None:
        super().__init__()
        for name, (weight, _) in terms.items():
            if not 0 <= weight < math.inf or (name == "georank" and weight > 1):
                allowed = "in [0, 1]" if name == "georank" else "at least 0"
                raise TrainingError(f"weight {weight:g} of {name}; expected {allowed}")
        self.objective = objective
        self.terms = nn.ModuleDict({name: term for name, (_, term) in terms.items()})
        self.weights = {name: float(weight) for name, (weight, _) in terms.items()}

    @property
    def encoders(self) -> nn.ModuleDict:
        """Those of the objective."""
        return cast(nn.ModuleDict, self.objective.encoders)

    @property
    def looks(self) -> LookPlan:
        """Those of the objective."""
        return cast(LookPlan, self.objective.looks)

    def views(self, batch: Batch, draws: Draws) -> Any:
        """Those of the objective."""
        return cast(Any, self.objective).views(batch, draws)

    def forward(self, views: Any, batch: Batch) -> Outcome:
        """The objective's terms and those of geography."""
        outcome = cast(Outcome, self.objective(views, batch))
        if not outcome.embeddings:
            raise TrainingError(
                f"this objective answers with no embeddings for {' and '.join(self.terms)} to look at; leave them out"
            )
        own = outcome.terms["loss"]
        total = own * (1 - self.weights.get("georank", 0.0))
        named: dict[str, Tensor] = {"objective": own.detach()}
        for name, term in self.terms.items():
            found = [cast(dict[str, Tensor], term(embeddings, batch)) for embeddings in outcome.embeddings]
            mean = {key: torch.stack([one[key] for one in found]).mean(dim=0) for key in found[0]}
            total = total + self.weights[name] * mean["loss"]
            named |= {name if key == "loss" else f"{name}_{key}": value.detach() for key, value in mean.items()}
        return Outcome(terms={**outcome.terms, **named, "loss": total}, embeddings=outcome.embeddings)

    def begin_step(self, progress: float) -> None:
        """As the objective does, if it does."""
        self._hook("begin_step", progress)

    def adjust_gradients(self, epoch: int) -> None:
        """As the objective does, if it does."""
        self._hook("adjust_gradients", epoch)

    def end_step(self, progress: float) -> None:
        """As the objective does, if it does."""
        self._hook("end_step", progress)

    def end_epoch(self) -> dict[str, float]:
        """What the objective has to say, if anything."""
        return cast(dict[str, float], self._hook("end_epoch") or {})

    def _hook(self, name: str, *arguments: float) -> Any:
        hook = getattr(self.objective, name, None)
        return None if hook is None else hook(*arguments)


@torch.no_grad()
def embedding_width(objective: nn.Module, setup: Setup) -> int:
    """Width of the embeddings that an objective answers with, found by trying: a copy sees two places of zeros.

    The objective itself, and torch's global generator, stay as they are. Where several processes train together all of
    them have to ask, since the objective may gather. TrainingError where there are none, or of several widths.
    """
    device = torch.device("cuda" if world_size() > 1 and dist.get_backend() == "nccl" else "cpu")
    trial = cast(Any, copy.deepcopy(objective).to(device).eval())
    n, n_looks, size = 2, trial.looks.n_looks, setup.views.crop
    batch = Batch(
        images={
            sensor: torch.zeros(n, n_looks, len(bands), size, size, device=device)
            for sensor, bands in setup.bands.items()
        },
        index=torch.arange(n, device=device),
        look=torch.arange(n_looks, device=device).expand(n, n_looks),
        lonlat=torch.tensor([[0.0, 0.0], [90.0, 0.0]], dtype=torch.float64, device=device),
        days=torch.arange(n_looks, dtype=torch.float64, device=device).expand(n, n_looks),
        change=torch.zeros(n, dtype=torch.float64, device=device),
    )
    views = trial.views(batch, Draws(generator(setup.seed), total=n, rows=slice(0, n)))
    outcome = cast(Outcome, trial(views, batch))
    widths = sorted({embeddings.shape[1] for embeddings in outcome.embeddings})
    if len(widths) != 1:
        found = "none" if not widths else f"some of widths {' and '.join(map(str, widths))}"
        raise TrainingError(f"geographic terms need embeddings of one width; this objective answers with {found}")
    return widths[0]
