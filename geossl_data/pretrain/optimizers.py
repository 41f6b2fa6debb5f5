"""Optimisers by name, and learning rate and weight decay as functions of the step."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from geossl_data.errors import TrainingError

OPTIMIZERS = ("adamw", "sgd", "lars")
SCHEDULES = ("cosine", "steps", "constant")
TRUST = 0.001
"""Length of a step of LARS before the learning rate, as a share of the weights' own (You et al. 2017, section 5)."""
DROP = 0.1
"""Factor of each drop of the schedule `steps`."""


class LARS(Optimizer):
    """SGD with momentum whose gradient is scaled, layer by layer, to a fixed share of the layer's weights.

    You et al. 2017, algorithm 1, as SimCLR and BYOL use it: with g the gradient and its weight decay, g ← trust × ‖w‖ /
    ‖g‖ × g, then SGD with momentum. A layer whose weights or gradient are all zero is not scaled, nor is a group with
    `is_weight` false: biases and norms. The learning rate stands outside the momentum, as in torch.optim.SGD; the paper
    has it inside, which is the same while it does not change. No number is read back from the device.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = TRUST,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "is_weight": True}
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; parameters without a gradient stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._step_of(group, weights)
        return loss

    def _step_of(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        gradients: list[Tensor] = [weight.grad for weight in weights if weight.grad is not None]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        if group["is_weight"]:
            own = torch.stack(torch._foreach_norm(weights))
            asked = torch.stack(torch._foreach_norm(gradients))
            scales = torch.where((own > 0) & (asked > 0), group["trust"] * own / asked, 1.0)
            gradients = list(torch._foreach_mul(gradients, list(scales.unbind())))
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        velocities = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, gradients)
        torch._foreach_add_(weights, velocities, alpha=-group["lr"])


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters to train: weights, which decay, and biases, norms and other vectors, which do not.

    `is_weight` tells them apart. TrainingError where there is nothing to train.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise TrainingError("the objective has no parameter to train")
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay, "is_weight": True},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "is_weight": False},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    name: str,
    module: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
) -> Optimizer:
    """The optimiser `name`, one of `OPTIMIZERS`, of the module's parameters in the groups of `parameter_groups`.

    momentum: of SGD and LARS; betas: of AdamW. The module has to be on its device. TrainingError for an unknown name.
    """
    if name not in OPTIMIZERS:
        raise TrainingError(f"optimizer {name!r} is not one of {', '.join(OPTIMIZERS)}")
    groups = parameter_groups(module, weight_decay)
    # One kernel for all parameters; on a CPU torch's plain step is as quick.
    fused = all(parameter.is_cuda for group in groups for parameter in group["params"]) or None
    if name == "adamw":
        return AdamW(groups, lr=learning_rate, betas=betas, fused=fused)
    if name == "sgd":
        return SGD(groups, lr=learning_rate, momentum=momentum, fused=fused)
    return LARS(groups, lr=learning_rate, momentum=momentum)


def learning_rate_at(
    step: int,
    steps: int,
    *,
    peak: float,
    warmup_steps: int = 0,
    schedule: Literal["cosine", "steps", "constant"] = "cosine",
    floor: float = 0.0,
    drops: tuple[float, ...] = (0.6, 0.8),
) -> float:
    """Learning rate of a step (from 0) of `steps`: a linear rise to `peak`, then the schedule.

    The rise ends at `peak` in its last step. `cosine`: half a cosine to `floor`, which the step after the last would
    have (Loshchilov and Hutter 2017). `steps`: a tenth of itself after each of the shares `drops` of all steps, never
    below `floor`. TrainingError for an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise TrainingError(f"schedule {schedule!r} is not one of {', '.join(SCHEDULES)}")
    if step < warmup_steps:
        return peak * ((step + 1) / warmup_steps)
    if schedule == "constant":
        return peak
    if schedule == "steps":
        n_drops = sum(step >= round(share * steps) for share in drops)
        return max(floor, peak * DROP**n_drops)
    return half_cosine((step - warmup_steps) / max(1, steps - warmup_steps), peak, floor)


def weight_decay_at(progress: float, start: float, end: float) -> float:
    """Weight decay after a share `progress` in [0, 1] of training: half a cosine from `start` to `end`.

    Caron et al. 2021, section 3.2: from 0.04 to 0.4 with a ViT.
    """
    return half_cosine(progress, start, end)


def half_cosine(progress: float, start: float, end: float) -> float:
    """From `start` to `end` as progress goes from 0 to 1, flat at both."""
    return end + (start - end) * (math.cos(math.pi * progress) + 1) / 2
