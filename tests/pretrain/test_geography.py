"""Geography beside an objective: clusters on the sphere, image against location, and who is trained on what."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.encoders import Bands
from geossl_data.pretrain.looks import LookPlan
from geossl_data.pretrain.objectives import csp, geoloc
from geossl_data.pretrain.objectives.clusters import known_places, spherical_kmeans
from geossl_data.pretrain.objectives.csp import (
    CSP,
    BatchDraws,
    LocationEncoder,
    contrast,
    contrast_with,
    everywhere,
    mixed,
    sphere_features,
)
from geossl_data.pretrain.objectives.geography import Geographic, embedding_width
from geossl_data.pretrain.objectives.geoloc import GeoLoc
from geossl_data.pretrain.objectives.georank import GeoRank
from geossl_data.pretrain.objectives.negatives import Ground, distances_km, unit_vectors
from geossl_data.pretrain.objectives.setup import Outcome, Setup
from geossl_data.pretrain.views import Draws, ViewSettings, generator

CORNERS = np.array([[0.0, 0.0], [90.0, 0.0], [179.9, 0.0], [-90.0, 0.0], [0.0, 80.0], [0.0, -80.0]])


def batch_of(lonlat: Any, *, index: list[int] | None = None, look: list[int] | None = None) -> Batch:
    places = torch.as_tensor(np.asarray(lonlat, dtype=np.float64))
    n = len(places)
    return Batch(
        images={"drone": torch.zeros(n, 1, 3, 8, 8)},
        index=torch.arange(n) if index is None else torch.tensor(index),
        look=torch.zeros(n, 1, dtype=torch.int64) if look is None else torch.tensor(look)[:, None],
        lonlat=places,
        days=torch.zeros(n, 1, dtype=torch.float64),
        change=torch.zeros(n, dtype=torch.float64),
    )


def around(places: Any, n: int, seed: int = 0) -> Any:
    """`n` places within a degree of each of some."""
    rng = np.random.default_rng(seed)
    return np.concatenate([place + rng.uniform(-0.7, 0.7, (n, 2)) for place in places])


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def as_rank_of(monkeypatch: pytest.MonkeyPatch, whole: Batch, z: Tensor, rows: slice) -> tuple[Tensor, Batch]:
    """What one of several processes holds; what the others hold comes around it when it gathers."""
    own = z[rows].detach().requires_grad_()
    part = batch_of(whole.lonlat[rows].numpy(), index=whole.index[rows].tolist(), look=whole.look[rows, 0].tolist())
    for module in (csp, geoloc):
        monkeypatch.setattr(
            module, "gather", lambda mine: torch.cat([z[: rows.start].detach(), mine, z[rows.stop :].detach()])
        )
    everyone = {id(part.index): whole.index, id(part.look): whole.look}
    monkeypatch.setattr(csp, "gathered", lambda mine: everyone[id(mine)])
    ground = Ground(whole.index, whole.lonlat)
    monkeypatch.setattr(Ground, "gathered", lambda _: ground)
    return own, part


# --- places ---------------------------------------------------------------------------------------------------------


def test_known_places_have_one_way_to_write_them() -> None:
    places = np.array([[190.0, 5.0], [np.nan, 1.0], [-170.0, 5.0], [180.0, 0.0], [-180.0, 0.0], [539.5, 1.0]])
    expected = [[-170, 5], [-170, 5], [-180, 0], [-180, 0], [179.5, 1]]
    assert known_places(places).tolist() == expected


def test_a_data_set_without_positions_is_refused() -> None:
    with pytest.raises(TrainingError, match="none of the train samples says where it is"):
        GeoLoc(4, np.full((3, 2), np.nan))


def test_latitude_in_front_is_refused() -> None:
    with pytest.raises(TrainingError, match="longitude first"):
        known_places(np.array([[10.0, 120.0]]))


def test_clusters_are_found_where_the_places_are() -> None:
    places = around(CORNERS, 30)
    centres = spherical_kmeans(places, 6, seed=3)
    expected = unit_vectors(torch.from_numpy(CORNERS)).numpy()
    apart = np.linalg.norm(expected[:, None] - centres[None], axis=2)
    assert np.linalg.norm(centres, axis=1) == pytest.approx(1)
    assert apart.min(axis=1).max() < 0.02  # each has one, the cluster across the antimeridian too
    assert sorted(apart.argmin(axis=1)) == list(range(6))


def test_each_place_is_of_the_centre_nearest_by_great_circle() -> None:
    rng = np.random.default_rng(0)
    places = np.stack([rng.uniform(-180, 180, 300), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 300)))], axis=1)
    term = GeoLoc(4, places, clusters=9)
    x, y, z = term.centres.T
    centres = torch.rad2deg(torch.stack([torch.atan2(y, x), torch.asin(z)], dim=1))
    lonlat = torch.from_numpy(places)
    labels = term.cluster_of(lonlat)
    assert torch.equal(labels, distances_km(lonlat, centres).argmin(dim=1))
    assert labels.unique().numel() == 9
    # Each centre is the direction of the mean of its places: nothing is left to move.
    points = unit_vectors(lonlat)
    means = torch.stack([points[labels == k].sum(dim=0) for k in range(9)])
    np.testing.assert_allclose(nn.functional.normalize(means).numpy(), term.centres.numpy(), atol=1e-9)


def test_clusters_are_the_same_again_and_with_a_turn_more() -> None:
    places = around(CORNERS, 20, seed=5)
    first = spherical_kmeans(places, 8, seed=1)
    assert np.array_equal(spherical_kmeans(places, 8, seed=1), first)
    turned = places + np.array([360.0, 0.0]) * np.random.default_rng(0).integers(-2, 3, (len(places), 1))
    assert np.array_equal(spherical_kmeans(turned, 8, seed=1), first)
    assert not np.array_equal(spherical_kmeans(places, 8, seed=2), first)


def test_many_places_are_fitted_on_a_share_of_them() -> None:
    places = around(CORNERS, 40)
    centres = spherical_kmeans(places, 6, seed=0, fit_on=60)
    expected = unit_vectors(torch.from_numpy(CORNERS)).numpy()
    assert np.linalg.norm(expected[:, None] - centres[None], axis=2).min(axis=1).max() < 0.03


def test_places_all_round_the_globe_have_a_centre_too() -> None:
    round_the_equator = np.array([[0.0, 0.0], [90.0, 0.0], [180.0, 0.0], [-90.0, 0.0]])
    assert np.linalg.norm(spherical_kmeans(round_the_equator, 1, seed=0), axis=1) == pytest.approx(1)
    # As many clusters as places, some of which come twice: none stays empty.
    centres = spherical_kmeans(np.concatenate([round_the_equator] * 3), 4, seed=0)
    assert len(np.unique(centres.round(6), axis=0)) == 4


def test_more_clusters_than_places_are_refused() -> None:
    with pytest.raises(TrainingError, match="3 clusters of 2 distinct places"):
        spherical_kmeans(np.array([[0.0, 0.0], [360.0, 0.0], [5.0, 5.0]]), 3, seed=0)


# --- clusters told from the embedding -------------------------------------------------------------------------------


def test_nothing_known_costs_the_logarithm_of_the_number_of_clusters() -> None:
    term = GeoLoc(5, around(CORNERS, 5), clusters=6)
    for parameter in term.parameters():
        nn.init.zeros_(parameter)
    found = term(normal(0, 6, 5).float(), batch_of(CORNERS))
    assert found["loss"].item() == pytest.approx(math.log(6))


def test_a_head_that_knows_the_clusters_is_right() -> None:
    term = GeoLoc(6, around(CORNERS, 5), clusters=6)
    with torch.no_grad():
        term.head.weight.copy_(20 * torch.eye(6))
    labels = term.cluster_of(torch.from_numpy(CORNERS))
    z = torch.eye(6)[labels] - 5 * (1 - torch.eye(6)[labels])  # ReLU takes away what is below 0
    found = term(z, batch_of(CORNERS))
    assert found["top1"].item() == 1
    assert found["loss"].item() == pytest.approx(math.log1p(5 * math.exp(-20)), abs=1e-6)
    # The length of the embedding counts.
    assert term(z / 20, batch_of(CORNERS))["loss"].item() == pytest.approx(math.log1p(5 * math.exp(-1)))


def test_centres_are_saved_and_no_global_random_number_is_drawn() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    term = GeoLoc(4, around(CORNERS, 5), clusters=4, seed=2)
    csp = CSP(4, far=8)
    csp(normal(0, 6, 4).float(), batch_of(CORNERS))
    assert torch.equal(torch.get_rng_state(), before)
    other = GeoLoc(4, around(CORNERS, 5, seed=9), clusters=4, seed=5)
    other.load_state_dict(term.state_dict())
    assert torch.equal(other.centres, term.centres)
    assert torch.equal(GeoLoc(4, around(CORNERS, 5), clusters=4, seed=2).head.weight, term.head.weight)


def test_few_places_make_as_many_clusters() -> None:
    assert len(GeoLoc(4, CORNERS, clusters=100).centres) == 6
    with pytest.raises(TrainingError, match="all train samples are at one place"):
        GeoLoc(4, CORNERS[[1, 1]])
    with pytest.raises(TrainingError, match="1 clusters tell nothing apart"):
        GeoLoc(4, CORNERS, clusters=1)


TermOf = Callable[[], nn.Module]
TERMS: list[Any] = [
    pytest.param(lambda: GeoLoc(5, CORNERS, clusters=6), id="geoloc"),
    pytest.param(lambda: CSP(5, dim=4, far=16, dropout=0.0), id="csp"),
]


@pytest.mark.parametrize("make", TERMS)
def test_rows_without_a_position_take_no_part(make: TermOf) -> None:
    term = make().double()
    z = normal(1, 6, 5).requires_grad_()
    lonlat = CORNERS.copy()
    lonlat[[1, 4]] = [[np.nan, 3.0], [np.nan, np.nan]]
    known = [0, 2, 3, 5]
    found = term(z, batch_of(lonlat))
    (gradient,) = torch.autograd.grad(found["loss"], z)
    assert gradient[[1, 4]].eq(0).all()
    # Random places depend on the batch; all else is as if the rows were not there.
    name = "in_batch" if "in_batch" in found else "loss"
    expected = term(z[known], batch_of(lonlat[known], index=known))
    assert found[name].item() == pytest.approx(expected[name].item())
    assert found["top1"].item() == pytest.approx(expected["top1"].item())


@pytest.mark.parametrize("make", TERMS)
def test_where_no_position_is_known_nothing_is_asked(make: TermOf) -> None:
    term = make()
    z = normal(2, 3, 5).float().requires_grad_()
    found = term(z, batch_of(np.full((3, 2), np.nan)))
    found["loss"].backward()
    assert found["loss"].item() == 0
    assert z.grad is not None
    for gradient in (z.grad, *(parameter.grad for parameter in term.parameters())):
        assert gradient is not None
        assert gradient.eq(0).all()


@pytest.mark.parametrize("make", TERMS)
def test_no_value_is_fetched_from_the_device(make: TermOf, monkeypatch: pytest.MonkeyPatch) -> None:
    term, batch = make(), batch_of(CORNERS)
    z = normal(5, 6, 5).float().requires_grad_()
    with monkeypatch.context() as patches:
        for name in ("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "cpu", "numpy", "nonzero"):
            patches.setattr(torch.Tensor, name, None, raising=False)
        loss = term(z, batch)["loss"]
        loss.backward()
    assert loss.item() > 0


@pytest.mark.parametrize(
    "make", [*TERMS, pytest.param(lambda: CSP(5, dim=4, far=16, dropout=0.5, negatives_km=50.0), id="csp-dropout")]
)
def test_two_processes_are_one(make: TermOf, monkeypatch: pytest.MonkeyPatch) -> None:
    term = make().double()
    whole = batch_of(around(CORNERS, 2), index=[*range(10), 3, 4], look=[0, 1] * 6)
    z = normal(3, 12, 5).requires_grad_()
    found = term(z, whole)
    expected = torch.autograd.grad(found["loss"], [z, *term.parameters()])
    for rows in (slice(0, 6), slice(6, 12)):
        own, part = as_rank_of(monkeypatch, whole, z, rows)
        again = term(own, part)
        gradients = torch.autograd.grad(again["loss"], [own, *term.parameters()])
        assert {name: value.item() for name, value in again.items()} == pytest.approx(
            {name: value.item() for name, value in found.items()}
        )
        np.testing.assert_allclose(gradients[0].numpy(), expected[0][rows].numpy(), atol=1e-12)
        for mine, of_one in zip(gradients[1:], expected[1:], strict=True):
            np.testing.assert_allclose(mine.numpy(), of_one.numpy(), atol=1e-12)


# --- random numbers -------------------------------------------------------------------------------------------------


def test_scrambling_is_that_of_splitmix64() -> None:
    def by_integers(x: int) -> int:
        mask = (1 << 64) - 1
        x &= mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        x ^= x >> 31
        return x - (1 << 64) if x >> 63 else x

    numbers = [0, 1, -1, 12345678901234567, -(1 << 63), (1 << 63) - 1]
    assert mixed(torch.tensor(numbers)).tolist() == [by_integers(number) for number in numbers]
    # The first value of the generator seeded with 0, as published with it.
    step = 0x9E3779B97F4A7C15 - (1 << 64)
    assert mixed(torch.tensor(step)).item() == 0xE220A8397B1DCDAF - (1 << 64)


def test_draws_depend_on_the_batch_its_order_and_the_stream() -> None:
    batch = batch_of(CORNERS)
    draws = BatchDraws.of(batch)
    numbers = draws.uniform(0, 400, 2)
    assert torch.equal(BatchDraws.of(batch_of(CORNERS)).uniform(0, 400, 2), numbers)
    others = [
        draws.uniform(1, 400, 2),
        BatchDraws.of(batch_of(CORNERS, index=[1, 0, 2, 3, 4, 5])).uniform(0, 400, 2),
        BatchDraws.of(batch_of(CORNERS, look=[0, 0, 0, 0, 0, 1])).uniform(0, 400, 2),
    ]
    for other in others:
        assert abs(np.corrcoef(other.flatten(), numbers.flatten())[0, 1]) < 0.15
    assert numbers.min() >= 0
    assert numbers.max() < 1
    np.testing.assert_allclose(np.histogram(numbers, bins=5, range=(0, 1))[0] / 800, 0.2, atol=0.05)


def test_places_elsewhere_are_uniform_on_the_sphere() -> None:
    lonlat = everywhere(BatchDraws.of(batch_of(CORNERS)).uniform(0, 4000, 2))
    points = unit_vectors(lonlat)
    np.testing.assert_allclose(points.mean(dim=0).numpy(), 0, atol=0.04)
    np.testing.assert_allclose((points.T @ points / 4000).numpy(), np.eye(3) / 3, atol=0.03)
    # The share within 30 degrees of the equator is half of the sphere; by uniform latitudes it would be a third.
    assert (lonlat[:, 1].abs() < 30).double().mean().item() == pytest.approx(0.5, abs=0.04)
    assert lonlat[:, 0].min() < -179
    assert lonlat[:, 0].max() > 179


# --- image and location ---------------------------------------------------------------------------------------------


def test_features_know_no_date_line_and_no_pole() -> None:
    lonlat = torch.tensor([[180.0, 10.0], [-180.0, 10.0], [540.0, 10.0], [0.0, 90.0], [77.0, 90.0]])
    features = sphere_features(lonlat, 4)
    assert features.shape == (5, 27)
    np.testing.assert_allclose(features[0].numpy(), features[1].numpy(), atol=1e-12)
    np.testing.assert_allclose(features[0].numpy(), features[2].numpy(), atol=1e-12)
    np.testing.assert_allclose(features[3].numpy(), features[4].numpy(), atol=1e-12)
    # By hand at (0, 0): x = (1, 0, 0), so sin π2ˢ = 0 and cos π2ˢ = −1, 1, 1, 1 on the first axis.
    by_hand = [1, 0, 0, *[0] * 12, -1, 1, 1, *[1] * 9]
    np.testing.assert_allclose(sphere_features(torch.zeros(1, 2), 4)[0].numpy(), by_hand, atol=1e-12)


def test_dropout_leaves_the_mean_and_the_units_it_is_told_to() -> None:
    encoder = LocationEncoder(3, hidden=4, scales=2, dropout=0.5)
    lonlat = torch.from_numpy(CORNERS)
    everything = (torch.ones(6, 4), torch.ones(6, 4))
    nothing = (torch.zeros(6, 4), torch.ones(6, 4))
    with torch.no_grad():
        encoder.layers[1].bias.fill_(1.0)
    assert not torch.equal(encoder(lonlat, everything), encoder(lonlat))  # what stays is doubled
    assert torch.equal(encoder(lonlat, nothing)[0], encoder(lonlat, nothing)[1])  # the place is forgotten


def test_contrast_in_its_limits() -> None:
    same, free, all_count = torch.ones(5, 3), torch.zeros(5, 5, dtype=torch.bool), torch.ones(5, dtype=torch.bool)
    assert contrast(same, same, free, all_count, temperature=0.3).item() == pytest.approx(math.log(5))
    far = torch.ones(7, 3)
    no_far = torch.zeros(5, 7, dtype=torch.bool)
    assert contrast_with(same, same, far, no_far, all_count, temperature=0.3).item() == pytest.approx(math.log(8))
    eye = torch.eye(5)
    expected = math.log1p(4 * math.exp(-1 / 0.3))
    assert contrast(eye, eye, free, all_count, temperature=0.3).item() == pytest.approx(expected)
    # Left out: one negative less for the first row; the partner cannot be left out.
    free[0, :2] = True
    first = torch.tensor([True, False, False, False, False])
    assert contrast(same, same, free, first, temperature=0.3).item() == pytest.approx(math.log(4))
    no_far[:, :3] = True
    assert contrast_with(same, same, far, no_far, all_count, temperature=0.3).item() == pytest.approx(math.log(5))


def test_gradients_of_the_contrast() -> None:
    a, b, c = (normal(seed, n, 4).requires_grad_() for seed, n in ((1, 4), (2, 4), (3, 6)))
    left_out = torch.tensor([[0, 1, 0, 0]] * 4).bool()
    counted = torch.tensor([True, True, False, True])
    assert torch.autograd.gradcheck(lambda x, y: contrast(x, y, left_out, counted, temperature=0.3), (a, b))
    far = torch.zeros(4, 6, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x, y, z: contrast_with(x, y, z, far, counted, temperature=0.3), (a, b, c))


def test_parts_of_csp_for_a_network_that_knows_nothing() -> None:
    term = CSP(4, dim=3, far=9)
    for parameter in term.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        term.head.bias.fill_(1.0)
        term.location.layers[2].bias.fill_(1.0)
    found = term(normal(0, 6, 4).float(), batch_of(CORNERS))
    assert found["in_batch"].item() == pytest.approx(math.log(6), rel=1e-5)
    assert found["elsewhere"].item() == pytest.approx(math.log(10), rel=1e-5)
    assert found["dropout"].item() == pytest.approx(math.log(6), rel=1e-5)
    assert found["loss"].item() == pytest.approx(2 * math.log(6) + math.log(10), rel=1e-5)


def test_near_places_and_looks_of_one_sample_are_no_negatives() -> None:
    term = CSP(4, dim=3, far=9)
    for parameter in term.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        term.head.bias.fill_(1.0)
        term.location.layers[2].bias.fill_(1.0)
    z = normal(0, 4, 4).float()
    # Two of one sample; two some 111 km apart.
    batch = batch_of([[0.0, 0.0], [0.0, 0.0], [60.0, 0.0], [60.0, 1.0]], index=[5, 5, 6, 7])
    assert term(z, batch)["in_batch"].item() == pytest.approx((2 * math.log(3) + 2 * math.log(4)) / 4, rel=1e-5)
    term.negatives_km = 120.0
    assert term(z, batch)["in_batch"].item() == pytest.approx(math.log(3), rel=1e-5)
    term.negatives_km = 20100.0  # all the globe
    assert term(z, batch)["elsewhere"].item() == pytest.approx(0, abs=1e-6)


def test_a_short_fit_finds_the_places() -> None:
    """The embedding says on which continent the image was taken; location and image then agree."""
    places = CORNERS
    z = torch.eye(6)
    term = CSP(6, dim=8, far=8)
    parameters = list(term.parameters())
    before = term(z, batch_of(places))
    for step in range(60):
        order = torch.randperm(6, generator=torch.Generator().manual_seed(step))
        loss = term(z[order], batch_of(places[order.numpy()], index=order.tolist()))["loss"]
        with torch.no_grad():
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter -= 0.1 * gradient
    term.eval()
    after = term(z, batch_of(places))
    assert after["top1"].item() == 1
    assert after["in_batch"].item() < 0.2 * before["in_batch"].item()
    shuffled = term(z.roll(1, 0), batch_of(places))
    assert shuffled["in_batch"].item() > after["in_batch"].item() + 1


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"far": 0}, {"dropout": 1.0}, {"weights": (1.0, -1.0, 1.0)}])
def test_settings_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="csp"):
        CSP(4, **wrong)


# --- beside an objective --------------------------------------------------------------------------------------------


class Toy(nn.Module):
    """An objective of the user's own: the mean of the images, one linear layer, embeddings pulled to zero."""

    looks = LookPlan("halves", 2)

    def __init__(self, widths: tuple[int, ...] = (5, 5)) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"drone": nn.Linear(3, 4)})
        self.norm = nn.BatchNorm1d(4)
        self.heads = nn.ModuleList([nn.Linear(4, width) for width in widths])
        self.seen = 0

    @property
    def encoders(self) -> nn.ModuleDict:
        return self.backbone

    def views(self, batch: Batch, draws: Draws) -> Tensor:
        shift = draws.normal(3).to(batch.lonlat.device)
        return batch.images["drone"][:, -1].mean(dim=(2, 3)) + shift.float()

    def forward(self, views: Tensor, batch: Batch) -> Outcome:
        self.seen += 1
        features = self.norm(self.backbone["drone"](views))
        found = tuple(head(features) for head in self.heads)
        loss = torch.stack([z.square().mean() for z in found]).mean() if found else features.square().mean()
        return Outcome(terms={"loss": loss, "spread": loss.detach() + 1}, embeddings=found)


class Hooked(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, float]] = []

    def begin_step(self, progress: float) -> None:
        self.calls.append(("begin_step", progress))

    def adjust_gradients(self, epoch: int) -> None:
        self.calls.append(("adjust_gradients", epoch))

    def end_step(self, progress: float) -> None:
        self.calls.append(("end_step", progress))

    def end_epoch(self) -> dict[str, float]:
        return {"changed": 0.5}


class Constant(nn.Module):
    """A term that says what its embeddings sum to, times a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.factor * embeddings.sum(), "rows": torch.tensor(float(len(batch)))}


SETUP = Setup(encoder="tiny", bands={"drone": Bands.plain(3)}, views=ViewSettings(crop=8), places=CORNERS)


def draws_for(n: int) -> Draws:
    return Draws(generator(0), total=n, rows=slice(0, n))


def test_the_total_is_the_published_one() -> None:
    toy = Toy()
    wrapped = Geographic(toy, {"georank": (0.25, Constant(2.0)), "csp": (3.0, Constant(1.0))})
    batch = batch_of(CORNERS)
    views = wrapped.views(batch, draws_for(6))
    assert torch.equal(views, toy.views(batch, draws_for(6)))
    alone = toy(views, batch)
    terms = wrapped(views, batch).terms
    mean = torch.stack([z.sum() for z in alone.embeddings]).mean()
    torch.testing.assert_close(terms["loss"], 0.75 * alone.terms["loss"] + 0.25 * 2 * mean + 3 * mean)
    assert list(terms) == ["loss", "spread", "objective", "georank", "georank_rows", "csp", "csp_rows"]
    torch.testing.assert_close(terms["objective"], alone.terms["loss"])
    torch.testing.assert_close(terms["spread"], alone.terms["spread"])
    torch.testing.assert_close(terms["georank"], 2 * mean)
    assert terms["csp_rows"].item() == 6
    assert [name for name, value in terms.items() if value.requires_grad] == ["loss"]


def test_terms_and_objective_learn_together() -> None:
    toy = Toy()
    wrapped = Geographic(
        toy,
        {"georank": (0.5, GeoRank(eps=1.0)), "geoloc": (1.0, GeoLoc(5, CORNERS)), "csp": (0.1, CSP(5, far=8))},
    )
    batch = batch_of(CORNERS)
    wrapped(wrapped.views(batch, draws_for(6)), batch).terms["loss"].backward()
    for name, parameter in wrapped.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
    assert wrapped.encoders is toy.encoders
    assert wrapped.looks is toy.looks
    # Saved once each, and loaded again.
    state = wrapped.state_dict()
    assert {name.split(".")[0] for name in state} == {"objective", "terms"}
    assert "terms.geoloc.centres" in state
    copy.deepcopy(wrapped).load_state_dict(state)


def test_hooks_reach_the_objective_if_it_has_them() -> None:
    hooked = Hooked()
    for objective in (hooked, Toy()):
        wrapped = Geographic(objective, {"csp": (1.0, CSP(5))})
        wrapped.begin_step(0.25)
        wrapped.adjust_gradients(3)
        wrapped.end_step(0.5)
        assert wrapped.end_epoch() == ({"changed": 0.5} if objective is hooked else {})
    assert hooked.calls == [("begin_step", 0.25), ("adjust_gradients", 3), ("end_step", 0.5)]


@pytest.mark.parametrize(("name", "weight"), [("georank", 1.5), ("csp", -0.1), ("geoloc", math.nan), ("csp", math.inf)])
def test_weights_without_sense_are_refused(name: str, weight: float) -> None:
    with pytest.raises(TrainingError, match=f"weight .* of {name}"):
        Geographic(Toy(), {name: (weight, Constant(1.0))})


def test_an_objective_without_embeddings_is_refused() -> None:
    wrapped = Geographic(Toy(widths=()), {"csp": (1.0, Constant(1.0))})
    batch = batch_of(CORNERS)
    with pytest.raises(TrainingError, match="no embeddings for csp"):
        wrapped(torch.zeros(6, 3), batch)


def test_the_width_of_embeddings_is_found_by_trying_a_copy() -> None:
    torch.manual_seed(3)
    toy = Toy(widths=(7,))
    before, state = torch.get_rng_state(), copy.deepcopy(toy.state_dict())
    assert embedding_width(toy, SETUP) == 7
    assert toy.training
    assert toy.seen == 0
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in toy.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(("widths", "found"), [((), "none"), ((4, 6), "widths 4 and 6")])
def test_embeddings_of_no_one_width_are_refused(widths: tuple[int, ...], found: str) -> None:
    with pytest.raises(TrainingError, match=found):
        embedding_width(Toy(widths=widths), SETUP)
