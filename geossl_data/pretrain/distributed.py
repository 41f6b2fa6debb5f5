"""Several processes that train as one: who this process is, gathering with gradient, batch norm over all of them.

`torchrun` says in the environment which of how many processes this is; without it there is one. The gradient of a loss
that is computed from gathered embeddings is right after the mean over the processes that DistributedDataParallel takes:
every process computes the loss of the whole batch, and the backward pass sums what all of them have to say about the
rows of each.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from geossl_data.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many processes this is."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    """Among those of this machine: the number of its GPU."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    def rows(self, n: int) -> slice:
        """Of a batch with `n` rows in each process, those of this one."""
        return slice(self.rank * n, (self.rank + 1) * n)


ALONE = Ranks()
"""One process that trains by itself."""


def ranks_of_environment() -> Ranks:
    """What torchrun says; one process where nobody does. TrainingError where it makes no sense."""
    try:
        found = Ranks(*(int(os.environ.get(name, default)) for name, default in _VARIABLES))
    except ValueError:
        raise TrainingError("RANK, WORLD_SIZE and LOCAL_RANK have to be whole numbers, as torchrun sets them") from None
    if not (0 <= found.rank < found.world and found.local_rank >= 0):
        raise TrainingError(f"rank {found.rank} of {found.world} processes does not exist; start them with torchrun")
    return found


_VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


@contextmanager
def process_group(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """The processes know each other inside: through NCCL on GPUs, through gloo elsewhere. One alone needs nobody."""
    if ranks.world == 1 or dist.is_initialized():
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=ranks.rank, world_size=ranks.world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    """All-gather along the first axis, whose backward pass sums the gradients that the processes have for each row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.n = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        rank = dist.get_rank()
        return total[rank * ctx.n : (rank + 1) * ctx.n]


def gather(rows: Tensor) -> Tensor:
    """The rows (n, …) of all processes, in the order of their ranks, (world × n, …); gradients flow back to each."""
    if world_size() == 1:
        return rows
    return cast(Tensor, _Gather.apply(rows))  # type: ignore[no-untyped-call]


@torch.no_grad()
def gathered(rows: Tensor) -> Tensor:
    """The same without gradient, for keys, indices and the like."""
    return gather(rows.detach())


@torch.no_grad()
def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, without gradient."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def shared_loss(loss: Tensor) -> Tensor:
    """The mean of a loss of rows over all processes, with the gradient of this one's own rows.

    DistributedDataParallel takes the mean of the gradients itself.
    """
    return loss if world_size() == 1 else loss + (mean_over_ranks(loss) - loss).detach()


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world_size() > 1:
        dist.barrier()


class _Sum(torch.autograd.Function):
    """Sum over the processes, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def _total(value: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(value))  # type: ignore[no-untyped-call]


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the rows of all processes; torch's own does the same on GPUs only."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"input of {input.dim()} axes, at least 2 are needed")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        wide = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        count = wide.numel() // wide.shape[1] * world_size()
        mean = _total(wide.sum(axes)) / count
        shape = [1, -1] + [1] * (input.dim() - 2)
        centred = wide - mean.view(shape)
        variance = _total((centred**2).sum(axes)) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_((variance * (count / max(1, count - 1))).to(self.running_var.dtype), share)
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)


def synchronised(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with batch norm over all processes; itself where there is one process."""
    if world_size() == 1:
        return module
    if device.type == "cuda":
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(module))  # type: ignore[no-untyped-call]
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            own = SyncBatchNorm(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            own.load_state_dict(child.state_dict())
            own.train(child.training)
            for parameter, before in zip(own.parameters(), child.parameters(), strict=True):
                parameter.requires_grad_(before.requires_grad)
            setattr(module, name, own.to(next(iter(child.state_dict().values())).device))
        else:
            synchronised(child, device)
    return module
