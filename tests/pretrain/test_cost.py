"""What a run will cost: worked by hand where that can be done, and never by computing at the real size."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from geossl_data.pretrain import cost
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.cost import Cost, Work, cost_of, look_nbytes, parts_of, peak_flops, work_of
from geossl_data.pretrain.encoders import Bands
from geossl_data.pretrain.objectives.registry import OBJECTIVES
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, ViewSettings

SHAPES = {"s2": (3, 8, 8)}


class Two(nn.Module):
    """Two convolutions of single pixels, 3 → 5 → 2 channels, and a mean of squares."""

    asks = False

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({"s2": nn.Conv2d(3, 5, 1, bias=False)})
        self.head = nn.Conv2d(5, 2, 1, bias=False)
        self.average = nn.Conv2d(5, 2, 1, bias=False).requires_grad_(False)
        self.register_buffer("queue", torch.zeros(4, 2))
        self.begun = 0

    def begin_step(self, progress: float) -> None:
        self.begun += 1

    def views(self, batch: Batch, draws: Draws) -> tuple[Tensor, int]:
        # Views may look at what is drawn.
        return batch.images["s2"][:, 0], int(draws.integers(0, 2).sum())

    def forward(self, views: tuple[Tensor, int], batch: Batch) -> Outcome:
        loss = self.head(self.encoders["s2"](views[0])).pow(2).mean()
        if self.asks and loss.item() < 0:
            raise AssertionError
        return Outcome(terms={"loss": loss})


def by_hand(rows: int) -> float:
    """Multiplications and additions of `Two`: the first layer's images need no gradient."""
    pixels = rows * 64
    return 2 * pixels * (2 * 3 * 5 + 3 * 5 * 2)


@pytest.mark.parametrize("rows", [1, 7, 1_000_000])  # of which the last would be a gigabyte
def test_arithmetic_and_memory_worked_by_hand(rows: int) -> None:
    module = Two()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    work = work_of(module, SHAPES, looks=1, batch_size=rows, bf16=False)
    # Each convolution keeps its input, the square its own.
    assert work == Work(flops=by_hand(rows), activation_nbytes=4 * 64 * rows * (3 + 5 + 2))
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    assert module.begun == 0
    assert all(parameter.grad is None for parameter in module.parameters())


def test_what_asks_for_numbers_is_computed_for_a_few_items_and_multiplied() -> None:
    module = Two()
    module.asks = True
    work = work_of(module, SHAPES, looks=1, batch_size=70, bf16=False)
    assert work == Work(flops=by_hand(70), activation_nbytes=4 * 64 * 70 * (3 + 5 + 2), scaled=True)
    assert work_of(module, SHAPES, looks=1, batch_size=70).activation_nbytes == work.activation_nbytes / 2


def test_attention_is_counted() -> None:
    class Attending(Two):
        def forward(self, views: tuple[Tensor, int], batch: Batch) -> Outcome:
            tokens = self.encoders["s2"](views[0]).flatten(2).transpose(1, 2)[:, None].contiguous()
            attended = functional.scaled_dot_product_attention(tokens, tokens, tokens)  # (B, 1, 64, 5)
            return Outcome(terms={"loss": attended.sum()})

    work = work_of(Attending(), SHAPES, looks=1, batch_size=3, bf16=False)
    convolution = 2 * (3 * 64) * (3 * 5) * 2
    product = 2 * 3 * 64 * 64 * 5  # of 64 tokens with each other; two of them forwards, five backwards
    assert work.flops == convolution + 7 * product


@pytest.mark.parametrize("name", ["simclr", "moco"])
def test_real_objectives_take_what_their_images_take(name: str) -> None:
    setup = Setup(
        encoder="tiny",
        bands={"s2": Bands.plain(3)},
        views=ViewSettings(crop=8),
        projection_dim=8,
        hidden_dim=8,
        queue=16,
    )
    module = OBJECTIVES[name](setup)
    few, many = (work_of(module, {"s2": (3, 12, 12)}, looks=1, batch_size=rows, bf16=True) for rows in (8, 32))
    assert not many.scaled
    # A little more than in proportion, since each is compared with the others.
    assert 3.9 * few.flops < many.flops < 4.3 * few.flops
    # Of which copies of the weights in bfloat16 are a part that stays.
    assert 2 * few.activation_nbytes < many.activation_nbytes < 4.3 * few.activation_nbytes


def test_parts_tell_what_is_trained() -> None:
    assert parts_of(Two()) == {"encoder s2": (15, 0), "head": (10, 0), "average": (0, 10)}


def a_cost(**change: Any) -> Cost:
    values: dict[str, Any] = {
        "image_shapes": SHAPES,
        "looks": 2,
        "batch_size": 8,
        "steps": 300,
        "steps_per_epoch": 30,
        "disk_nbytes": 100.0,
        "decoded_nbytes": 400.0,
        "bf16": False,
    }
    return cost_of(Two(), **(values | change))


def test_cost_worked_by_hand() -> None:
    found = a_cost(accumulate=3, world=2)
    assert (found.trained, found.averaged) == (25, 10)
    assert (found.weight_nbytes, found.gradient_nbytes, found.optimizer_nbytes) == (4 * 35, 4 * 25, 8 * 25)
    assert a_cost(optimizer="sgd").optimizer_nbytes == 4 * 25
    assert (found.buffer_nbytes, found.batch_nbytes) == (32, 8 * 2 * 4 * 192)
    assert found.items_per_step == 48
    assert found.step_nbytes == 48 * 2 * 100
    assert found.step_flops == 3 * by_hand(8)
    assert found.memory_nbytes == 140 + 100 + 200 + 32 + 2 * found.batch_nbytes + 4 * 64 * 8 * 10
    assert found.seconds_per_step(1e6, 0.5) == pytest.approx(3 * by_hand(8) / 5e5)


def test_what_is_shown_says_what_is_estimate() -> None:
    found = replace(a_cost(world=4), work=Work(flops=312e12 / 100, activation_nbytes=2e9), disk_nbytes=1e6)
    shown = found.facts("NVIDIA A100-SXM4-80GB", share=0.5)
    assert shown["parameters"] == "25 trained, 10 averaged"
    assert shown["  encoder s2"] == "15 trained"
    assert shown["batch"] == "32 items of 2 looks"
    assert shown["steps"] == "300 (30 an epoch)"
    assert shown["arithmetic"] == "3.12 TFLOP a step in each process"
    assert shown["memory"].startswith("about 2.00 GB (estimate): weights")
    # A step takes 0.02 s: 64 looks of 1 MB in it.
    assert shown["data rate"] == (
        "3,200 MB/s, 1,600 items/s (estimate: 4 × NVIDIA A100-SXM4-80GB at 50% of 312 TFLOP/s)"
    )
    assert shown["time"] == "6 s (estimate, likewise)"
    assert {"data rate", "time"}.isdisjoint(found.facts("a toaster"))
    scaled = replace(found, work=replace(found.work, scaled=True))
    assert scaled.facts()["arithmetic"].endswith("(measured on a smaller batch)")


def test_bytes_of_a_look_are_those_of_its_members(toy: Any) -> None:
    shards = toy.ToyShards({"train": 3}, n_looks=2, size=12, lacking=((0, 1, "s2_20m"),))
    disk, decoded = look_nbytes(shards, ["s2_10m", "s2_20m", "s1"])
    assert disk == 3000  # the toy's files have 1000 bytes each
    assert decoded == 2 * (4 * 12 * 12 + 6 * 6 * 6 + 2 * 12 * 12)


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
        ("l4", 121),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("Tesla T4", None),
        ("", None),
    ],
)
def test_peaks_are_found_by_what_torch_calls_the_gpu(name: str, tera: float | None) -> None:
    found = peak_flops(name)
    assert found is None if tera is None else found == pytest.approx(tera * 1e12)


def test_every_peak_is_found_by_its_own_name() -> None:
    assert {name: peak_flops(name) for name in cost.PEAK_FLOPS} == cost.PEAK_FLOPS
    assert all(math.isfinite(peak) and peak > 1e13 for peak in cost.PEAK_FLOPS.values())


class Stacked(Two):
    """An objective whose views hold two rows of each item, as those of two years do."""

    def views(self, batch: Batch, draws: Draws) -> tuple[Tensor, int]:
        images, drawn = super().views(batch, draws)
        return torch.cat([images, images]), drawn


@pytest.mark.parametrize("rows", [7, 70])
def test_views_of_several_rows_an_item_grow_with_the_batch(rows: int) -> None:
    one, two = (work_of(kind(), SHAPES, looks=1, batch_size=rows, bf16=False) for kind in (Two, Stacked))
    assert two.flops == 2 * one.flops
