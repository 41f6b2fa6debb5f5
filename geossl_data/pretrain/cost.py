"""What a run will cost before it starts: parameters, arithmetic, memory, bytes to read, hours.

Arithmetic and memory are worked out on tensors that have shapes and no numbers, at the size of the real batch, so a
laptop answers for a GPU in seconds. Parameters, bytes and steps are exact; arithmetic counts the multiplications and
additions of matrix products, convolutions and attention; memory and time are estimates, and say so.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.utils.flop_counter import FlopCounterMode

from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.objectives.registry import Objective
from geossl_data.pretrain.views import Draws
from geossl_data.shards.codec import payload_nbytes
from geossl_data.shards.reading.shards import Shards

PEAK_FLOPS: dict[str, float] = {
    "A10": 125e12,
    "A10G": 70e12,
    "A30": 165e12,
    "A40": 149.7e12,
    "A100": 312e12,
    "A800": 312e12,
    "B100": 1750e12,
    "B200": 2250e12,
    "GB200": 2500e12,
    "GH200": 989e12,
    "H100": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H200": 989e12,
    "H200 NVL": 835e12,
    "H800": 989e12,
    "L4": 121e12,
    "L40": 181e12,
    "L40S": 362e12,
    "RTX 3090": 71e12,
    "RTX 4090": 165e12,
    "RTX 5090": 209.5e12,
    "RTX A6000": 154.8e12,
}
"""GPU → bfloat16 matrix operations a second, dense (without sparsity), accumulated in float32.

From NVIDIA's data sheets (A10, A30, A40, A100, H100, H200, GB200, L4, L40, L40S) and architecture papers (GA102, AD102,
Blackwell RTX). Where a sheet gives the number with sparsity, half of it.
"""

USUAL_SHARE = 0.2
"""Share of the peak that training reaches, where nobody measured it: ViT-S at 8,000 images/s on an H100 is 0.23, and
ResNet-50 at 2,600 on an A100 is 0.2."""

OPTIMIZER_COPIES: Mapping[str, int] = {"adamw": 2, "sgd": 1, "lars": 1}
"""Numbers that an optimiser remembers for each parameter that is trained."""


def peak_flops(device_name: str) -> float | None:
    """What a GPU could do at most in bfloat16, operations a second; None where it is not known.

    device_name: as in `PEAK_FLOPS`, or as torch.cuda.get_device_name() says, as in `NVIDIA A100-SXM4-80GB`. Of a part
    of a GPU (MIG) and of laptops' GPUs, which are other chips, nothing is known.
    """
    words = device_name.lower().replace("-", " ").split()
    if {"mig", "laptop", "max"} & set(words):
        return None
    fitting = [name for name in PEAK_FLOPS if _within(name.lower().split(), words)]
    return PEAK_FLOPS[max(fitting, key=lambda name: len(name.split()))] if fitting else None


def _within(part: Sequence[str], words: Sequence[str]) -> bool:
    return any(list(words[start : start + len(part)]) == list(part) for start in range(len(words) - len(part) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one forward and backward pass over a batch takes in one process."""

    flops: float
    """Floating point operations, forward and backward; a multiplication with an addition is two."""
    activation_nbytes: float
    """What the backward pass needs of the forward pass: estimate."""
    scaled: bool = False
    """Whether it was measured on a smaller batch and multiplied, since the objective looks at numbers on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run costs; of one process where not said otherwise."""

    parts: Mapping[str, tuple[int, int]]
    """Part of the objective → how many numbers of it are trained, and how many are not (averaged copies)."""
    weight_nbytes: int
    gradient_nbytes: int
    optimizer_nbytes: int
    buffer_nbytes: int
    """Statistics of batch norms, queues."""
    batch_nbytes: int
    """Standardised images of a batch."""
    work: Work
    """Of one batch, of which a step takes `accumulate`."""
    batch_size: int
    accumulate: int
    world: int
    looks: int
    """Of an item."""
    disk_nbytes: float
    """Of a look, mean, as it is stored."""
    decoded_nbytes: float
    """Of a look, as it goes to the device."""
    steps: int
    """In all."""
    steps_per_epoch: int

    @property
    def trained(self) -> int:
        """Numbers that are trained."""
        return sum(trained for trained, _ in self.parts.values())

    @property
    def averaged(self) -> int:
        """Numbers that are not trained."""
        return sum(other for _, other in self.parts.values())

    @property
    def step_flops(self) -> float:
        """Operations of one step in one process."""
        return self.work.flops * self.accumulate

    @property
    def memory_nbytes(self) -> float:
        """Most memory in use at a time: estimate, without the kernels' own room and what lies between allocations."""
        held = self.weight_nbytes + self.gradient_nbytes + self.optimizer_nbytes + self.buffer_nbytes
        return held + 2 * self.batch_nbytes + self.work.activation_nbytes

    @property
    def items_per_step(self) -> int:
        """Of all processes."""
        return self.batch_size * self.accumulate * self.world

    @property
    def step_nbytes(self) -> float:
        """Bytes that all loaders together read for a step."""
        return self.items_per_step * self.looks * self.disk_nbytes

    def seconds_per_step(self, peak: float, share: float = USUAL_SHARE) -> float:
        """Of a step on GPUs of `peak` operations a second, of which training reaches `share`: estimate."""
        return self.step_flops / (peak * share)

    def facts(self, gpu: str = "A100", *, share: float = USUAL_SHARE) -> dict[str, Any]:
        """Name → text, to show. gpu: for which rate and hours are estimated; they are left out for an unknown one."""
        shown: dict[str, Any] = {
            "parameters": f"{_count(self.trained)} trained, {_count(self.averaged)} averaged",
            **{
                f"  {name}": f"{_count(trained)} trained" if trained else f"{_count(other)} averaged"
                for name, (trained, other) in self.parts.items()
            },
            "batch": f"{self.items_per_step} items of {_several(self.looks, 'look')}"
            + (f", {self.accumulate} × {self.batch_size} in each process" if self.accumulate > 1 else ""),
            "steps": f"{self.steps} ({self.steps_per_epoch} an epoch)",
            "arithmetic": f"{self.step_flops / 1e12:.3g} TFLOP a step in each process",
            "memory": f"about {_gigabytes(self.memory_nbytes)} (estimate): {self._memory()}",
            "data": f"{self.step_nbytes / 1e6:,.1f} MB a step, {self.disk_nbytes / 1e6:.3g} MB a look on disk, "
            f"{self.decoded_nbytes / 1e6:.3g} MB decoded",
        }
        if self.work.scaled:
            shown["arithmetic"] += " (measured on a smaller batch)"
        peak = peak_flops(gpu)
        if peak is not None:
            seconds = self.seconds_per_step(peak, share)
            rate = f"{self.step_nbytes / seconds / 1e6:,.0f} MB/s, {self.items_per_step / seconds:,.0f} items/s"
            on = f"{self.world} × {gpu} at {share:.0%} of {peak / 1e12:.0f} TFLOP/s"
            shown |= {
                "data rate": f"{rate} (estimate: {on})",
                "time": f"{_duration(self.steps * seconds)} (estimate, likewise)",
            }
        return shown

    def _memory(self) -> str:
        parts = (
            ("weights", self.weight_nbytes),
            ("gradients", self.gradient_nbytes),
            ("optimiser", self.optimizer_nbytes),
            ("queues and statistics", self.buffer_nbytes),
            ("images", 2 * self.batch_nbytes),
            ("activations", self.work.activation_nbytes),
        )
        return ", ".join(f"{name} {_gigabytes(nbytes)}" for name, nbytes in parts if nbytes)


def _several(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _count(n: int) -> str:
    return f"{n / 1e6:.2f} M" if n >= 1e5 else f"{n:,}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"


def _gigabytes(nbytes: float) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e7 else f"{nbytes / 1e6:.2f} MB"


def cost_of(
    module: nn.Module,
    *,
    image_shapes: Mapping[str, tuple[int, int, int]],
    looks: int,
    batch_size: int,
    steps: int,
    steps_per_epoch: int,
    disk_nbytes: float,
    decoded_nbytes: float,
    optimizer: str = "adamw",
    accumulate: int = 1,
    world: int = 1,
    bf16: bool = True,
) -> Cost:
    """The cost of training an objective, which is left as it is.

    image_shapes: sensor → (bands, H, W) of its images, before views are cut. looks: of an item. batch_size: items of
    one forward pass in one process. disk_nbytes, decoded_nbytes: of a look, as `look_nbytes` finds them.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return Cost(
        parts=parts_of(module),
        weight_nbytes=sum(parameter.nbytes for parameter in module.parameters()),
        gradient_nbytes=sum(parameter.nbytes for parameter in trained),
        optimizer_nbytes=OPTIMIZER_COPIES[optimizer] * sum(parameter.nbytes for parameter in trained),
        buffer_nbytes=sum(buffer.nbytes for buffer in module.buffers()),
        batch_nbytes=batch_size * looks * sum(4 * math.prod(shape) for shape in image_shapes.values()),
        work=work_of(module, image_shapes, looks=looks, batch_size=batch_size, bf16=bf16),
        batch_size=batch_size,
        accumulate=accumulate,
        world=world,
        looks=looks,
        disk_nbytes=disk_nbytes,
        decoded_nbytes=decoded_nbytes,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
    )


def parts_of(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Part → (numbers that are trained, that are not): each encoder, and else by the names of parameters."""
    encoders = {
        id(parameter): f"encoder {branch}"
        for branch, encoder in cast(Objective, module).encoders.items()
        for parameter in encoder.parameters()
    }
    parts: dict[str, tuple[int, int]] = {}
    for name, parameter in module.named_parameters():
        part = encoders.get(id(parameter), ".".join(name.split(".")[:-1][:2]) or name)
        trained, other = parts.get(part, (0, 0))
        own = parameter.numel()
        parts[part] = (trained + own, other) if parameter.requires_grad else (trained, other + own)
    return parts


def look_nbytes(shards: Shards, members: Sequence[str]) -> tuple[float, float]:
    """Bytes of the members of a look on disk, mean over the looks that have all of them, and decoded."""
    columns = [list(shards.members).index(name) for name in members]
    files = shards.index.member_file[:, columns]
    whole = files[(files >= 0).all(axis=1)]
    disk = float(shards.index.nbytes[whole].sum(axis=1, dtype=np.int64).mean()) if len(whole) else 0.0
    size_px = shards.size_px
    decoded = sum(payload_nbytes(shards.members[name].dtype, shards.members[name].shape(size_px)) for name in members)
    return disk, float(decoded)


# ------------------------------------------------------------------------------------------------ arithmetic, memory


_FEW = 7
"""Items of which views are made for real: views are drawn on the CPU, where they may look at what was drawn. A number
that is no other length of a tensor, so that it tells which axis is that of the batch."""


def work_of(
    module: nn.Module,
    image_shapes: Mapping[str, tuple[int, int, int]],
    *,
    looks: int,
    batch_size: int,
    bf16: bool = True,
) -> Work:
    """Arithmetic and activations of a forward and a backward pass over a batch, of a copy of the objective.

    On tensors without numbers. Where an objective asks for one on its way, a few items are computed on the CPU, and
    what they take is multiplied.
    """
    rows = min(batch_size, _FEW)
    batch = _batch(image_shapes, looks, rows)
    draws = Draws(torch.Generator().manual_seed(0), rows, slice(0, rows))
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def whole(tensor: Tensor) -> Tensor:
        # Views may hold several rows of each item, as those of two years do.
        each = len(tensor) // rows if tensor.ndim > 0 and len(tensor) % rows == 0 else 0
        return torch.empty((each * batch_size, *tensor.shape[1:]) if each else tensor.shape, dtype=tensor.dtype)

    def stand_in(tensor: Tensor) -> Tensor:
        empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
        return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty

    # In a copy, these stand in place of the module's own tensors and take no memory.
    with mode:
        stand_ins = {id(tensor): stand_in(tensor) for tensor in (*module.parameters(), *module.buffers())}
    twin = copy.deepcopy(module, stand_ins)
    real = copy.deepcopy(module).cpu()
    views = cast(Objective, real).views(batch, draws)
    try:
        with mode:
            return _measured(twin, _each_tensor(views, whole), _each_tensor(batch, whole), bf16=bf16)
    except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException):
        few = _measured(real, views, batch, bf16=False)
        scale = batch_size / rows
        # bfloat16 halves most of what is kept; computing in it would be slow on a CPU.
        kept = few.activation_nbytes * scale / (2 if bf16 else 1)
        return Work(flops=few.flops * scale, activation_nbytes=kept, scaled=True)


def _batch(image_shapes: Mapping[str, tuple[int, int, int]], looks: int, rows: int) -> Batch:
    return Batch(
        images={sensor: torch.ones(rows, looks, *shape) for sensor, shape in image_shapes.items()},
        index=torch.arange(rows),
        look=torch.arange(looks).expand(rows, looks),
        lonlat=torch.ones(rows, 2, dtype=torch.float64),
        days=torch.ones(rows, looks, dtype=torch.float64),
        change=torch.ones(rows, dtype=torch.float64),
    )


def _each_tensor(value: Any, made: Callable[[Tensor], Tensor]) -> Any:
    """The same dataclasses, dicts, lists and tuples with other tensors."""
    if isinstance(value, Tensor):
        return made(value)
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: _each_tensor(getattr(value, field.name), made) for field in fields(value) if field.init}
        return replace(value, **own)
    if isinstance(value, dict):
        return {name: _each_tensor(part, made) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each_tensor(part, made) for part in value)
    return value


def _measured(module: nn.Module, views: Any, batch: Batch, *, bf16: bool) -> Work:
    weights = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = storage
        return tensor

    module.train()
    begin_step: Callable[[float], None] | None = getattr(module, "begin_step", None)
    if begin_step is not None:
        begin_step(0.0)
    counter = FlopCounterMode(display=False, custom_mapping=_ATTENTION_ON_CPU)
    precision = torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()
    with counter, torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        with precision:
            outcome = module(views, batch)
        activation_nbytes = sum(storage.nbytes() for storage in saved.values())
        outcome.terms["loss"].backward()
    return Work(flops=float(counter.get_total_flops()), activation_nbytes=float(activation_nbytes))


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of softmax(q kᵀ) v."""
    batch, heads, rows, dim = query
    return 2 * batch * heads * rows * key[-2] * (dim + value[-1])


def _attention_backward(
    _gradient: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    """The same backwards: q kᵀ again, and the gradients of its two factors, of the weights and of v."""
    batch, heads, rows, dim = query
    return 2 * batch * heads * rows * key[-2] * (3 * dim + 2 * value[-1])


_ATTENTION_ON_CPU: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""What torch's counter does not know."""
