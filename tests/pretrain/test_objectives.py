"""Every objective with every kind of encoder, any sensors and any number of bands that make sense for it."""

from dataclasses import replace

import pytest
import torch
from pretrain.toy_shards import ToyShards
from pretrain.two_ranks import SMALL

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch, Loader, items_of
from geossl_data.pretrain.build import build
from geossl_data.pretrain.encoders import Bands
from geossl_data.pretrain.objectives.registry import OBJECTIVES
from geossl_data.pretrain.objectives.setup import Setup
from geossl_data.pretrain.views import Draws, ViewSettings, generator

CPU = torch.device("cpu")
SEASONAL = ("seco", "caco")
SENSORS = {"s2": {}, "s1": {}, "s2,s1": {"joint": True}, "s1,s2": {"sensor": True}}
"""Sensors → what they are asked to do together."""


@pytest.fixture(scope="module")
def shards() -> ToyShards:
    return ToyShards({"train": 5}, n_looks=6, size=24, every_days=130)


def loss_of(module: torch.nn.Module, batch: Batch) -> torch.Tensor:
    module.train()
    views = module.views(batch, Draws(generator(1), len(batch), slice(0, len(batch))))  # type: ignore[operator]
    loss: torch.Tensor = module(views, batch).terms["loss"]
    return loss


@pytest.mark.parametrize("encoder", ["tiny", "tiny-vit"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_objective_trains_on_whatever_makes_sense(shards: ToyShards, objective: str, encoder: str) -> None:
    for sensors, how in SENSORS.items():
        views = "auto" if objective in SEASONAL else "season,sensor" if "sensor" in how else "season"
        options = replace(
            SMALL,
            objective=objective,
            encoder=encoder,
            sensors=sensors,
            views=views,
            joint="joint" in how,
            batch_size=4,
        )
        if (objective == "mae" and encoder == "tiny") or (objective in SEASONAL and "sensor" in how):
            with pytest.raises(TrainingError, match=objective) as raised:
                build(shards, options)
            assert "\n" not in str(raised.value)
            continue
        built = build(shards, options)
        items = items_of(shards, built.normalisations, built.objective.looks)
        loss = loss_of(built.module, next(iter(Loader(shards, built.normalisations, items, 4, device=CPU))))
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [parameter for parameter in built.module.parameters() if parameter.requires_grad]
        assert torch.isfinite(loss)
        assert all(parameter.grad is not None for parameter in trained)
        assert all(torch.isfinite(parameter.grad).all() for parameter in trained if parameter.grad is not None)
        branches = ["s2+s1"] if "joint" in how or (objective == "mae" and "," in sensors) else sensors.split(",")
        assert sorted("+".join(sorted(name.split("+"))) for name in built.objective.encoders) == sorted(
            "+".join(sorted(name.split("+"))) for name in branches
        )


@pytest.mark.parametrize("n_bands", [1, 3, 13])
@pytest.mark.parametrize("objective", ["simclr", "moco", "byol", "dino", "vicreg", "mae"])
def test_any_number_of_bands_of_any_sensor_will_do(objective: str, n_bands: int) -> None:
    setup = Setup(
        encoder="tiny-vit",
        bands={"drone": Bands.plain(n_bands)},
        patch=8,
        views=ViewSettings(crop=16, local_crops=2),
        projection_dim=8,
        hidden_dim=32,
        queue=8,
    )
    n_looks = 1
    batch = Batch(
        images={"drone": torch.randn(4, n_looks, n_bands, 24, 24, generator=torch.Generator().manual_seed(0))},
        index=torch.arange(4),
        look=torch.zeros(4, n_looks, dtype=torch.int64),
        lonlat=torch.full((4, 2), torch.nan, dtype=torch.float64),
        days=torch.full((4, n_looks), torch.nan, dtype=torch.float64),
        change=torch.full((4,), torch.nan, dtype=torch.float64),
    )
    assert torch.isfinite(loss_of(OBJECTIVES[objective](setup), batch))
