"""Batches: which looks come when, what is known of them, and where a loader stands."""

from typing import Any

import numpy as np
import pytest
import torch

from geossl_data.errors import TrainingError
from geossl_data.pretrain import batches
from geossl_data.pretrain.batches import Batch, Loader
from geossl_data.pretrain.distributed import Ranks
from geossl_data.pretrain.looks import LookPlan
from geossl_data.pretrain.normalisation import Normalisation, normalisation

CPU = torch.device("cpu")


def normalisations_of(shards: Any, *sensors: str) -> list[Normalisation]:
    return [normalisation(shards.notes, shards.members, sensor) for sensor in sensors]


def loader_of(shards: Any, own: list[Normalisation], plan: LookPlan, batch_size: int, **more: Any) -> Loader:
    return Loader(shards, own, batches.items_of(shards, own, plan), batch_size, device=CPU, **more)


def items(seen: list[Batch]) -> list[tuple[int, ...]]:
    return [(index, *look) for one in seen for index, look in zip(one.index.tolist(), one.look.tolist(), strict=True)]


def test_an_epoch_holds_every_look_once_and_says_where_and_when_it_is_from(toy: Any) -> None:
    shards = toy.ToyShards({"val": 3, "train": 5}, n_looks=2, size=12)
    own = normalisations_of(shards, "s1", "s2")
    seen = list(loader_of(shards, own, LookPlan(), 5, seed=1))
    assert sorted(items(seen)) == [(index, look) for index in range(3, 8) for look in range(2)]
    one = seen[1]
    assert one.images["s2"].shape == (5, 1, 12, 12, 12)
    index, look = int(one.index[3]), int(one.look[3, 0])
    assert one.lonlat[3].tolist() == [index * 0.25, 45.0]
    assert one.days[3].tolist() == [7000.0 + 60 * look]
    assert float(one.change[3]) == (2.0 if index % 3 == 0 else 0.5)
    lone = own[0].apply({"s1": shards.arrays[index][look]["s1"][None]}, CPU)
    assert torch.equal(one.images["s1"][3, 0], lone[0])


def test_places_come_with_some_of_their_looks(toy: Any) -> None:
    shards = toy.ToyShards({"train": 6}, n_looks=4, size=12)
    loader = loader_of(shards, normalisations_of(shards, "s1"), LookPlan("season", 2), 3)
    assert (loader.n_looks, len(loader)) == (2, 2)
    first, second = list(loader), list(loader)
    assert sorted(index for index, *_ in items(first)) == list(range(6))
    assert items(first) != items(second)
    one = first[0]
    assert one.images["s1"].shape == (3, 2, 2, 12, 12)
    for row in range(3):
        for position, look in enumerate(one.look[row].tolist()):
            lone = normalisations_of(shards, "s1")[0].apply(
                {"s1": shards.arrays[int(one.index[row])][look]["s1"][None]}, CPU
            )
            assert torch.equal(one.images["s1"][row, position], lone[0])


@pytest.mark.parametrize("stop", [0, 1, 3, 4, 5, 8])
def test_a_loader_goes_on_where_it_stood(toy: Any, stop: int) -> None:
    shards = toy.ToyShards({"train": 9}, n_looks=2, size=12)

    def loader() -> Loader:
        return loader_of(shards, normalisations_of(shards, "s1"), LookPlan(), 4, seed=3)

    def stream(one: Loader) -> Any:
        while True:
            yield from one

    whole = loader()
    expected = [batch for batch, _ in zip(stream(whole), range(12), strict=False)]
    begin = loader()
    for _, _ in zip(range(stop), stream(begin), strict=False):
        pass
    again = loader()
    again.load_state_dict(begin.state_dict())
    rest = [batch for batch, _ in zip(stream(again), range(12 - stop), strict=False)]
    assert items(rest) == items(expected[stop:])


def test_processes_share_a_batch(toy: Any) -> None:
    shards = toy.ToyShards({"train": 8}, n_looks=1, size=12)
    own = normalisations_of(shards, "s1")
    whole = items(list(loader_of(shards, own, LookPlan(), 4)))
    parts = [list(loader_of(shards, own, LookPlan(), 2, ranks=Ranks(rank, 2))) for rank in range(2)]
    together = [item for step in range(2) for rank in range(2) for item in items([parts[rank][step]])]
    assert together == whole


def test_batches_of_places_far_apart(toy: Any) -> None:
    shards = toy.ToyShards({"train": 64}, n_looks=1, size=12)
    own = normalisations_of(shards, "s1")
    nearest = {}
    for spread_over in (0, 8):
        loader = loader_of(shards, own, LookPlan(), 8, spread_over=spread_over)
        steps = [np.sort(batch.lonlat[:, 0].numpy()) for batch in loader]
        assert sum(map(len, steps)) == 64
        nearest[spread_over] = min(float(np.diff(lon).min()) for lon in steps)
    assert nearest[8] >= 1.0 > nearest[0]


def test_looks_that_lack_a_sensor_are_left_out(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    shards = toy.ToyShards({"train": 3}, n_looks=1, size=12, lacking=((1, 0, "s1"),))
    assert batches.looks(shards, ["s1"]) == [(0, 0), (2, 0)]
    assert "1 of 3 looks lack a sensor" in caplog.text
    assert len(batches.looks(shards, ["s2"])) == 3


def test_looks_are_read_in_the_order_given(toy: Any) -> None:
    shards = toy.ToyShards({"train": 5}, n_looks=2, size=12)
    order = [(4, 1), (0, 0), (2, 1)]
    seen = list(batches.read_looks(shards, order, normalisations_of(shards, "s1", "s2"), 2, device=CPU))
    assert sorted(len(batch) for batch in seen) == [1, 2]
    assert items(seen) == order


def test_some_samples_alone(toy: Any) -> None:
    shards = toy.ToyShards({"test": 2, "train": 9}, n_looks=2, size=12)
    own = normalisations_of(shards, "s1")
    few = batches.items_of(shards, own, LookPlan(), samples=3)
    loader = Loader(shards, own, few, 2, device=CPU)
    assert {index for index, _ in items(list(loader))} == {2, 3, 4}
    assert len(few) == 6
    assert len(batches.items_of(shards, own, LookPlan("season", 2))) == 9


def test_a_device_is_chosen_by_name() -> None:
    assert batches.chosen_device("cpu").type == "cpu"
    assert batches.chosen_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(TrainingError, match="'tpu' is not one of"):
        batches.chosen_device("tpu")


def test_a_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert batches.chosen_device("auto", Ranks(3, 4, 1)) == torch.device("cuda", 1)
    with pytest.raises(TrainingError, match="process 2 of this machine has no GPU of its own, there are 2"):
        batches.chosen_device("cuda", Ranks(2, 4, 2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(TrainingError, match="torch sees no GPU"):
        batches.chosen_device("cuda")
