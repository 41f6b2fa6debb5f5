"""Learning on encoders: frozen ones stay as they are, the same call gives the same, and labels move with the pixels."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.own_shards import PICTURE, OwnShards
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.errors import TrainingError
from geossl_data.evaluation import learning
from geossl_data.evaluation.decoders import ChangeHead, ImageHead, MapHead
from geossl_data.evaluation.learning import Settings, class_weights, learn, predict, varied
from geossl_data.evaluation.rows import Rows
from geossl_data.evaluation.sight import Sight, fresh, sight_of
from geossl_data.pretrain.encoders import build_encoder
from geossl_data.pretrain.export import EncoderInfo
from geossl_data.pretrain.normalisation import Normalisation

SIDE = 12


def picture(rng: np.random.Generator) -> np.ndarray:
    """Bright and dark quarters, with noise, (3, SIDE, SIDE)."""
    bright = np.kron(rng.integers(0, 2, (2, 2)), np.ones((SIDE // 2, SIDE // 2)))
    return (60 + 120 * bright + rng.integers(-20, 20, (3, SIDE, SIDE))).astype(np.uint8)


@pytest.fixture(scope="module")
def shards() -> OwnShards:
    rng = np.random.default_rng(0)
    samples = [[{"s2": picture(rng)} for _ in range(2)] for _ in range(10)]
    return OwnShards([PICTURE], samples, size=SIDE, statistics=dict.fromkeys(PICTURE.bands, (120.0, 60.0)))


def sight_on(shards: OwnShards, encoder: str = "tiny", seed: int = 1) -> Sight:
    one = Normalisation(sensor="s2", bands=PICTURE.bands, mean=(120.0,) * 3, std=(60.0,) * 3, members=(PICTURE,))
    info = EncoderInfo(encoder=encoder, patch=4, embed="plain", normalisations=(one,), objective="simclr", epochs=1)
    return sight_of([(build_encoder(encoder, info.bands, seed=seed, patch=4), info)], shards, ("s2",))


def rows_of(shards: OwnShards, looks: int) -> Rows:
    """Each look, or the two looks of each place."""
    n = len(shards.entries)
    index = np.repeat(np.arange(n), 2 // looks)
    look = np.tile([[0], [1]], (n, 1)) if looks == 1 else np.tile([[0, 1]], (n, 1))
    return Rows(index=index, look=look, place=index, split=shards.facts.split[index])


def maps_on(shards: OwnShards, rows: Rows) -> np.ndarray:
    """Which pixels of the last look are bright; with two looks, which are so in one of them only."""
    bright = np.array(
        [
            [shards.arrays[i][look]["s2"][0] > 120 for look in looks]
            for i, looks in zip(rows.index, rows.look, strict=True)
        ]
    )
    return (bright[:, -1] ^ bright[:, 0] if rows.look.shape[1] == 2 else bright[:, 0]).astype(np.uint8)


def quick(**options: Any) -> Settings:
    return Settings(**{"frozen": False, "seed": 0, "epochs": 1, "batch_size": 8, "least_steps": 0, **options})


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], value) for name, value in other.items())


class Counted:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.total: float | None = None
        self.steps = 0

    @contextmanager
    def __call__(self, description: str, total: float | None = None) -> Iterator["Counted"]:
        self.total = total
        yield self

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        self.steps += 1


# ------------------------------------------------------------------------------------------------ what changes


@pytest.mark.parametrize(("head_type", "looks"), [(MapHead, 1), (ChangeHead, 2)])
def test_frozen_encoders_stay_as_they_are(shards: OwnShards, head_type: Any, looks: int) -> None:
    rows, sight = rows_of(shards, looks), sight_on(shards)
    before = state_of(sight)
    flags = [weight.requires_grad for weight in sight.parameters()]
    head = head_type(sight, 2)
    at_first = state_of(head)
    learn(sight, head, shards, rows, np.arange(6), maps_on(shards, rows), "map", quick(frozen=True))
    assert same(state_of(sight), before)
    assert [weight.requires_grad for weight in sight.parameters()] == flags
    assert all(weight.grad is None for weight in sight.parameters())
    assert not any(torch.equal(at_first[name], head.state_dict()[name]) for name in ("smooth.weight", "out.weight"))
    assert not sight.training
    assert not head.training


def test_what_learns_on_moves_with_the_norms_of_its_batches(shards: OwnShards) -> None:
    rows, sight = rows_of(shards, 1), sight_on(shards)
    before = state_of(sight)
    head = MapHead(sight, 2)
    learn(sight, head, shards, rows, np.arange(6), maps_on(shards, rows), "map", quick())
    after = state_of(sight)
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {name.rpartition(".")[2] for name in moved} >= {"weight", "running_mean", "running_var"}
    assert not head.standardised
    assert not sight.training


def test_encoders_learn_at_their_own_rate(shards: OwnShards) -> None:
    rows = rows_of(shards, 1)
    moved = []
    for factor in (1.0, 0.1, 0.0):
        sight = sight_on(shards)
        weights = torch.cat([weight.detach().flatten() for weight in sight.parameters()])
        options = quick(encoder_factor=factor, weight_decay=0.0)
        learn(sight, MapHead(sight, 2), shards, rows, np.arange(6), maps_on(shards, rows), "map", options)
        now = torch.cat([weight.detach().flatten() for weight in sight.parameters()])
        moved.append(float((now - weights).abs().max()))
    assert moved[0] > 5 * moved[1] > 0
    assert moved[2] == 0


# ------------------------------------------------------------------------------------------------ the same again


@pytest.mark.parametrize("frozen", [True, False])
def test_the_same_call_gives_the_same_to_the_bit(shards: OwnShards, frozen: bool) -> None:
    rows = rows_of(shards, 2)
    maps = maps_on(shards, rows)
    found = []
    for seed in (4, 4, 5):
        torch.rand(3)  # what else is drawn has no influence
        before = torch.get_rng_state()
        sight = sight_on(shards)
        head = ChangeHead(sight, 2)
        learn(
            sight, head, shards, rows, np.arange(7), maps, "map", quick(frozen=frozen, seed=seed, batch_size=3, crop=8)
        )
        assert torch.equal(torch.get_rng_state(), before)
        found.append(state_of(head) | state_of(sight))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.parametrize("looks", [1, 2])
def test_what_does_not_fit_in_memory_is_read_again(
    shards: OwnShards, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, head_type = rows_of(shards, looks), ChangeHead if looks == 2 else MapHead
    maps, train = maps_on(shards, rows), np.arange(len(rows))[::-1][:7]
    parts = [np.array([4, 0, 2]), np.array([6, 6]), np.array([5])]
    weights, levels = [], []
    for nbytes in (learning.CACHE_BYTES, 0):
        monkeypatch.setattr(learning, "CACHE_BYTES", nbytes)
        sight = sight_on(shards)
        head = head_type(sight, 2)
        learn(sight, head, shards, rows, train, maps, "map", quick(batch_size=3))
        weights.append(state_of(head))
        sight = sight_on(shards)
        source = learning._Looks(sight, shards, rows.taken(train), 3, torch.device("cpu"))
        kept = learning._Levels(head_type(sight, 2), sight, source)
        levels.append([level for batch in kept.batches(parts) for level in batch])
    assert same(weights[0], weights[1])
    for own, again in zip(*levels, strict=True):  # what is kept is in half precision
        assert torch.allclose(own, again, rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------------------------------------ what is learnt


def test_bright_pixels_are_found(shards: OwnShards) -> None:
    rows, sight = rows_of(shards, 1), sight_on(shards)
    maps = maps_on(shards, rows)
    head = MapHead(sight, 2)
    learn(sight, head, shards, rows, np.arange(12), maps, "map", quick(epochs=15, learning_rate=1e-2))
    told = predict(sight, head, shards, rows, np.arange(12, 20), "map", size=(SIDE, SIDE), batch_size=3)
    assert told.dtype == np.uint8
    assert (told == maps[12:]).mean() > 0.85


def test_rare_changes_are_found_on_a_frozen_encoder() -> None:
    rng = np.random.default_rng(3)
    dark = rng.integers(40, 80, (10, 2, 3, SIDE, SIDE)).astype(np.uint8)
    changed = np.zeros((10, SIDE, SIDE), dtype=np.uint8)
    for place in range(0, 10, 2):
        row, column = rng.integers(0, SIDE - 4, 2)
        changed[place, row : row + 4, column : column + 4] = 1
    dark[:, 1] += 120 * changed[:, None]
    shards = OwnShards([PICTURE], [[{"s2": look} for look in looks] for looks in dark], size=SIDE)
    rows, sight = rows_of(shards, 2), sight_on(shards)
    head = ChangeHead(sight, 2)
    options = quick(frozen=True, epochs=30, learning_rate=1e-2, balance=0.5)
    learn(sight, head, shards, rows, np.arange(6), changed, "map", options)
    told = predict(sight, head, shards, rows, np.arange(6, 10), "map", size=(SIDE, SIDE))
    judged = changed[6:]
    assert judged.mean() < 0.06
    assert told[judged == 1].mean() > 0.6
    assert told[judged == 0].mean() < 0.1


@pytest.mark.parametrize("kind", ["class", "multi", "vector"])
def test_looks_are_told_apart(kind: Any) -> None:
    bright = np.tile([True, False, False, True], 4)
    level = np.where(bright, 200, 50)[:, None, None, None] + np.random.default_rng(0).integers(-9, 9, (16, 3, 8, 8))
    shards = OwnShards([PICTURE], [[{"s2": look}] for look in level.astype(np.uint8)], size=8)
    index = np.arange(16)
    rows = Rows(index=index, look=np.zeros((16, 1), np.int64), place=index, split=shards.facts.split)
    sight = sight_on(shards)
    targets: Any = {
        "class": np.where(bright, 1, 0),
        "multi": np.stack([~bright, bright], axis=1),
        "vector": np.where(bright[:, None], [[0.0, 2.0]], [[2.0, 0.0]]),
    }[kind]
    if kind == "class":
        targets[0] = -1
    if kind == "vector":
        targets[0] = np.nan
    head = ImageHead(sight, 2)
    learn(sight, head, shards, rows, np.arange(8), targets, kind, quick(epochs=8, learning_rate=1e-2))
    told = predict(sight, head, shards, rows, np.arange(8, 16), kind, batch_size=5)
    assert told.shape == (8, 2)
    assert told.dtype == np.float32
    assert ((told[:, 1] > told[:, 0]) == bright[8:]).all()


def test_one_row_is_enough_for_a_batch_norm(shards: OwnShards) -> None:
    rows, sight = rows_of(shards, 1), sight_on(shards)
    learn(sight, ImageHead(sight, 2), shards, rows, np.array([3]), np.ones(20, np.int64), "class", quick(batch_size=1))
    assert all(bool(torch.isfinite(weight).all()) for weight in sight.state_dict().values())


def test_few_rows_are_gone_through_more_than_once_in_an_epoch(shards: OwnShards) -> None:
    rows, sight = rows_of(shards, 1), sight_on(shards)
    targets, progress = np.zeros(20, np.int64), Counted()
    options = quick(frozen=True, epochs=2, batch_size=4, least_steps=5)
    learn(sight, ImageHead(sight, 2), shards, rows, np.arange(6), targets, "class", options, progress=progress)
    assert progress.steps == progress.total == 2 * 3 * 2  # two batches, three times for five steps, two epochs


def test_predictions_come_in_the_order_asked_for(shards: OwnShards) -> None:
    rows, sight = rows_of(shards, 1), sight_on(shards, "tiny-vit")
    head = ImageHead(sight, 3)
    straight = predict(sight, head, shards, rows, np.arange(20), "vector", batch_size=6)
    order = np.array([17, 3, 3, 11])
    assert np.allclose(predict(sight, head, shards, rows, order, "vector"), straight[order], atol=1e-5)
    assert len(predict(sight, head, shards, rows, order[:0], "vector")) == 0
    assert predict(sight, MapHead(sight, 2), shards, rows, order[:0], "map", size=(5, 5)).shape == (0, 5, 5)


# ------------------------------------------------------------------------------------------------ views


def coordinates(side: int, finest: int) -> torch.Tensor:
    """Row and column of the first of the finest pixels in each pixel, (2, side, side)."""
    step = finest // side
    return torch.stack(torch.meshgrid(torch.arange(side) * step, torch.arange(side) * step, indexing="ij")).float()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), crop=st.sampled_from([0, 1, 4, 5, 8, 12, 99]))
def test_images_and_maps_move_together(seed: int, crop: int) -> None:
    fine, coarse = coordinates(12, 12), coordinates(6, 12)
    number = (fine[0] * 12 + fine[1]).to(torch.uint8)
    n = 3
    given_ = [fine.repeat(2 * n, 1, 1, 1), coarse.repeat(2 * n, 1, 1, 1), number.repeat(n, 1, 1)]
    images, halves, maps = varied(given_, n, crop=crop, chance=np.random.default_rng(seed))
    side = 12 if not 0 < crop < 12 else max(2, 2 * round(crop / 2))
    assert images.shape == (2 * n, 2, side, side)
    assert halves.shape == (2 * n, 2, side // 2, side // 2)
    assert maps.shape == (n, side, side)
    assert maps.dtype == torch.uint8
    for row in range(n):
        for look in (2 * row, 2 * row + 1):
            assert torch.equal(images[look, 0] * 12 + images[look, 1], maps[row].float())
            enlarged = halves[look].repeat_interleave(2, 1).repeat_interleave(2, 2)
            assert torch.equal(enlarged, images[look] // 2 * 2)


def test_all_eight_orientations_come_with_rows_of_their_own() -> None:
    image = torch.arange(9.0).reshape(1, 3, 3)
    (found,) = varied([image.repeat(64, 1, 1, 1)], 64, crop=0, chance=np.random.default_rng(0))
    seen = {tuple(one.flatten().tolist()) for one in found}
    assert len(seen) == 8
    for one in found:
        assert one[0, 1, 1] == 4
        assert sorted(one.flatten().tolist()) == list(range(9))


# ------------------------------------------------------------------------------------------------ losses


def test_unknown_labels_have_no_influence() -> None:
    answer = torch.randn(2, 3, 2, 2, requires_grad=True)
    wanted = torch.tensor([[[0, 255], [2, 255]], [[255, 255], [255, 255]]], dtype=torch.uint8)
    loss = learning._loss("map", None)(answer, wanted)
    by_hand = -torch.log_softmax(answer.detach(), 1)
    assert loss.item() == pytest.approx(float(by_hand[0, 0, 0, 0] + by_hand[0, 2, 1, 0]) / 2, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, answer)
    assert gradient[1].abs().max() == 0
    assert gradient[0, :, :, 1].abs().max() == 0
    assert gradient[0, :, :, 0].abs().min() > 0
    nothing = learning._loss("map", None)(answer, torch.full_like(wanted, 255))
    assert nothing.item() == 0
    vectors = learning._loss("vector", None)
    three, north = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]), torch.tensor([[0.0, 1.0]] * 3)
    north[2] = math.nan
    assert vectors(three, north).item() == pytest.approx(0.5)
    assert vectors(three[2:], north[2:]).item() == 0


def test_rare_classes_weigh_more() -> None:
    maps = np.array([[[0] * 9 + [1], [255] * 10]], dtype=np.uint8)
    assert class_weights(maps, 3, 0.0).tolist() == [1, 1, 0]
    assert class_weights(maps, 3, 1.0)[:2] == pytest.approx([0.5 / 0.9, 0.5 / 0.1])
    weights = class_weights(maps, 3, 0.5)
    assert weights[1] / weights[0] == pytest.approx(3.0)
    assert 0.9 * weights[0] + 0.1 * weights[1] == pytest.approx(1.0)
    assert weights[2] == 0
    assert class_weights(np.full((1, 2, 2), 255, np.uint8), 2, 0.5).tolist() == [0, 0]


# ------------------------------------------------------------------------------------------------ refusals


def test_what_cannot_be_learnt_is_refused(shards: OwnShards) -> None:
    rows, sight = rows_of(shards, 1), sight_on(shards)
    targets = np.zeros(20, np.int64)
    with pytest.raises(TrainingError, match="no row to learn from"):
        learn(sight, ImageHead(sight, 2), shards, rows, np.arange(0), targets, "class", quick())
    with pytest.raises(TrainingError, match="rows of 1 looks for a head that takes 2"):
        learn(sight, ChangeHead(sight, 2), shards, rows, np.arange(4), targets, "map", quick())
    broken = fresh(sight, 0)
    next(broken.parameters()).data.fill_(math.nan)
    with pytest.raises(TrainingError, match="not finite"):
        learn(broken, ImageHead(sight, 2), shards, rows, np.arange(4), targets, "class", quick())


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}, {"crop": -1}, {"learning_rate": 0.0}])
def test_settings_check_themselves(options: dict[str, Any]) -> None:
    with pytest.raises(TrainingError):
        quick(**options)
