"""GeoRank: reference values, soft ranks against pool-adjacent-violators row by row, limits worked by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.objectives import georank
from geossl_data.pretrain.objectives.georank import (
    GeoRank,
    geo_rank,
    isotonic,
    soft_rank,
    soft_ranks_and_blocks,
    tied_ranks,
)

CITIES = torch.tensor(  # Berlin, Paris, Madrid, Rome, Stockholm, Lisbon
    [[13.40, 52.52], [2.35, 48.85], [-3.70, 40.42], [12.50, 41.90], [18.07, 59.33], [-9.14, 38.72]],
    dtype=torch.float64,
)
PUBLISHED = {"temperature": 0.04, "eps": 0.001, "margin": 1.0}


def embeddings() -> Tensor:
    i, j = torch.arange(1, 7, dtype=torch.float64), torch.arange(1, 9, dtype=torch.float64)
    return torch.sin(0.37 * i[:, None] * j[None, :] + 0.11)


def anywhere(seed: int, n: int, d: int = 5) -> tuple[Tensor, Tensor]:
    """Random embeddings and places within some hundred km of each other."""
    rng = np.random.default_rng(seed)
    lonlat = rng.uniform([-10, 30], [10, 50], (n, 2))
    return torch.from_numpy(rng.standard_normal((n, d))), torch.from_numpy(lonlat)


def batch_of(lonlat: Tensor) -> Batch:
    n = len(lonlat)
    return Batch(
        images={},
        index=torch.arange(n),
        look=torch.zeros(n, 1, dtype=torch.int64),
        lonlat=lonlat,
        days=torch.zeros(n, 1, dtype=torch.float64),
        change=torch.zeros(n, dtype=torch.float64),
    )


@pytest.mark.parametrize(
    ("temperature", "eps", "margin", "value"),
    # From the formulae, transcribed in float64 by an independent program. 13 of the 30 pairs of the first have an error
    # of exactly the margin; there the value is the one with a tolerance.
    [
        (0.04, 0.001, 1, 0.337099931231621),
        (0.04, 0.001, 0, 0.39553058597843527),
        (0.04, 1.0, 1, 0.2512503100564749),
        (0.04, 1.0, 0, 0.27263252988702896),
        (1.0, 0.1, 1, 0.25670458505499105),
        (1.0, 0.1, 0, 0.2726784442557879),
    ],
)
def test_golden_values(temperature: float, eps: float, margin: float, value: float) -> None:
    loss, _ = geo_rank(embeddings(), CITIES, temperature=temperature, eps=eps, margin=margin)
    assert loss.item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("eps", "ranks"), [(1.0, [67 / 30, 1, 118 / 30, 85 / 30]), (0.1, [2, 1, 4, 3])])
def test_golden_soft_ranks(eps: float, ranks: list[float]) -> None:
    values = torch.tensor([[0.3, -1.2, 2.0, 0.9]], dtype=torch.float64)
    np.testing.assert_allclose(soft_rank(values, eps).numpy(), [ranks], atol=1e-12)


def soft_rank_by_pooling(values: list[float], eps: float) -> list[float]:
    """One row, as in a textbook: sort downwards, pool neighbours that violate the order, undo the sort."""
    n = len(values)
    order = sorted(range(n), key=lambda i: -values[i])
    blocks: list[list[float]] = []
    for position, i in enumerate(order):
        blocks.append([values[i] / eps - (n - position), 1])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (a, n_a), (b, n_b) = blocks[-2:]
            blocks[-2:] = [[(a * n_a + b * n_b) / (n_a + n_b), n_a + n_b]]
    pooled = [value for value, count in blocks for _ in range(int(count))]
    ranks = [0.0] * n
    for i, v in zip(order, pooled, strict=True):
        ranks[i] = values[i] / eps - v
    return ranks


def test_soft_ranks_equal_pooling_row_by_row() -> None:
    rng = np.random.default_rng(7)
    worst = 0.0
    for _ in range(200):
        shape = (int(rng.integers(1, 4)), int(rng.integers(1, 40)))
        eps = float(10 ** rng.uniform(-2, 1))
        values = rng.standard_normal(shape)
        if rng.random() < 0.3:
            values = np.round(values, 1)  # ties
        expected = [soft_rank_by_pooling(row, eps) for row in values.tolist()]
        worst = max(worst, float(np.abs(soft_rank(torch.from_numpy(values), eps).numpy() - expected).max()))
    assert worst < 1e-10


def test_long_rows_equal_pooling_at_the_published_softness() -> None:
    values = np.random.default_rng(3).standard_normal((2, 700)) * 0.1 / 0.04
    expected = [soft_rank_by_pooling(row, 0.001) for row in values.tolist()]
    np.testing.assert_allclose(soft_rank(torch.from_numpy(values), 0.001).numpy(), expected, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), m=st.integers(1, 20), eps=st.floats(0.01, 10), scale=st.floats(0.1, 10))
def test_properties_of_soft_ranks(seed: int, m: int, eps: float, scale: float) -> None:
    values = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, m)))
    ranks = soft_rank(values, eps)
    np.testing.assert_allclose(ranks.sum(dim=1).numpy(), m * (m + 1) / 2)
    np.testing.assert_allclose(soft_rank(values + 3.7, eps).numpy(), ranks.numpy(), atol=1e-8)
    np.testing.assert_allclose(soft_rank(scale * values, scale * eps).numpy(), ranks.numpy(), atol=1e-8)
    assert (ranks.gather(1, values.argsort(dim=1)).diff(dim=1) > -1e-8).all()  # order is kept
    assert 1 - 1e-8 <= ranks.min() <= ranks.max() <= m + 1e-8


def test_softness_goes_from_plain_ranks_to_none() -> None:
    values = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 9)))
    hard = values.argsort(dim=1).argsort(dim=1) + 1.0
    assert torch.equal(soft_rank(values, 1e-9), hard.double())
    np.testing.assert_allclose(soft_rank(values, 1e9).numpy(), 5.0, atol=1e-6)


def test_gradient_is_that_of_the_blocks() -> None:
    # θ = 0, 0.5, 0.75 are pooled; 9 stands alone.
    values = torch.tensor([[0.25, 4.5, 0.0, 0.375]], dtype=torch.float64, requires_grad=True)
    ranks, block = soft_ranks_and_blocks(values, 0.5)
    assert block.tolist() == [[3, 1, 3, 3]]
    ranks.backward(torch.tensor([[1.0, 5.0, 0.0, 0.0]], dtype=torch.float64))
    assert values.grad is not None
    np.testing.assert_allclose(values.grad.numpy(), [[4 / 3, 0, -2 / 3, -2 / 3]], atol=1e-12)
    assert values.grad[0, 1] == 0  # exactly


@pytest.mark.parametrize("eps", [0.05, 0.4, 3.0])
def test_gradients_of_soft_ranks(eps: float) -> None:
    values = torch.from_numpy(np.random.default_rng(5).standard_normal((3, 7))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: soft_rank(x, eps), (values,))


@pytest.mark.parametrize("kind", ["squared", "absolute"])
def test_gradients_of_the_loss(kind: str) -> None:
    z = embeddings().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: geo_rank(x, CITIES, temperature=0.04, eps=1.0, margin=0.3, kind=kind)[0], (z,)
    )


def test_isotonic_rows_do_not_mix() -> None:
    y = torch.tensor([[3.0, 1, 2, 7, 5], [1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], dtype=torch.float64)
    expected = [[2, 2, 2, 6, 6], [1, 2, 3, 4, 5], [3, 3, 3, 3, 3]]
    np.testing.assert_allclose(isotonic(y).numpy(), expected, atol=1e-12)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    values = torch.tensor([[5.0, 1, 5, 7, 5], [2, 2, 1, 1, 0]])
    assert tied_ranks(values).tolist() == [[3, 1, 3, 5, 3], [4.5, 4.5, 2.5, 2.5, 1]]


def along_a_meridian(n: int) -> Tensor:
    """Places at distances from each other that are all different and grow by doubling."""
    return torch.stack([torch.zeros(n), 0.1 * 2.0 ** torch.arange(n)], dim=1).double()


def test_perfect_order_costs_nothing() -> None:
    lonlat = along_a_meridian(7)
    # On an arc of a circle the angle between embeddings is that between the places.
    angle = torch.deg2rad(lonlat[:, 1])
    z = torch.stack([angle.cos(), angle.sin()], dim=1)
    loss, _ = geo_rank(z, lonlat, temperature=1.0, eps=1e-9, margin=0.0)
    assert loss.item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(("kind", "value"), [("squared", 1 / math.sqrt(5)), ("absolute", 1.0)])
def test_reversed_order_by_hand(kind: str, value: float) -> None:
    # Three places on a line at 0, 1 and 3. The first has the second nearest and the third most similar, and so on for
    # all three: ranks 2, 1 instead of 1, 2, so an error of 1 / √5 in each of the 6 pairs, times √5.
    lonlat = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    cosines = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.2], [0.5, 0.2, 1.0]], dtype=torch.float64)
    z = torch.linalg.cholesky(cosines)

    def loss(margin: float) -> float:
        return geo_rank(z, lonlat, temperature=1.0, eps=1e-6, margin=margin, kind=kind)[0].item()

    assert loss(0.0) == pytest.approx(value)
    assert loss(0.99) == pytest.approx(value)
    assert loss(1.0) == 0  # an error of the margin is free


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 9), turn=st.floats(-720, 720))
def test_order_of_the_batch_and_turns_of_the_globe_do_not_matter(seed: int, n: int, turn: float) -> None:
    z, lonlat = anywhere(seed, n)
    chosen = {"temperature": 0.5, "eps": 0.1, "margin": 0.5}
    loss, active = geo_rank(z, lonlat, **chosen)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    moved = lonlat + torch.tensor([turn, 0.0], dtype=torch.float64)
    for other, places in ((z[order], lonlat[order]), (z, moved), (3 * z, lonlat)):
        again, active_again = geo_rank(other, places, **chosen)
        assert again.item() == pytest.approx(loss.item(), abs=1e-9)
        assert active_again.item() == pytest.approx(active.item())


def test_published_softness_leaves_most_pairs_without_a_gradient() -> None:
    torch_rng = torch.Generator().manual_seed(0)
    z = torch.randn(64, 128, generator=torch_rng, dtype=torch.float64)
    _, lonlat = anywhere(0, 64)
    assert geo_rank(z, lonlat, **PUBLISHED)[1].item() == pytest.approx(0.013, abs=0.006)
    assert geo_rank(z, lonlat, temperature=0.04, eps=1.0, margin=1.0)[1].item() > 0.99


def test_blocks_of_two_and_more_are_what_has_a_gradient() -> None:
    values, _ = anywhere(2, 12)
    _, block = soft_ranks_and_blocks(values, 0.02)
    weights = torch.from_numpy(np.random.default_rng(1).standard_normal(values.shape))
    values.requires_grad_()
    (soft_rank(values, 0.02) * weights).sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad != 0, block > 1)
    assert 0 < (block > 1).sum() < block.numel()


def test_longitude_comes_first() -> None:
    # 15 degrees from the first to the third along the equator, 20 to the second along a meridian, more between these.
    # The other way round the second would be on the polar side of the first, 3.5 degrees away.
    lonlat = torch.tensor([[100.0, 0.0], [100.0, 20.0], [115.0, 0.0]], dtype=torch.float64)
    angle = torch.tensor([0.0, -0.6, 0.5], dtype=torch.float64)
    z = torch.stack([angle.cos(), angle.sin()], dim=1)
    chosen = {"temperature": 1.0, "eps": 1e-6, "margin": 0.0}
    assert geo_rank(z, lonlat, **chosen)[0].item() == pytest.approx(0, abs=1e-12)
    assert geo_rank(z, lonlat.flip(1), **chosen)[0].item() > 0.1


def test_neighbours_across_the_antimeridian_are_near() -> None:
    lonlat = torch.tensor([[179.9, 0.0], [-179.9, 0.0], [170.0, 0.0]], dtype=torch.float64)
    chosen = {"temperature": 1.0, "eps": 1e-6, "margin": 0.0}
    as_on_the_ground = torch.tensor([0.1, 0.0, 1.2], dtype=torch.float64)
    as_on_a_flat_map = torch.tensor([0.1, 2.0, 0.0], dtype=torch.float64)
    right, wrong = (
        geo_rank(torch.stack([angle.cos(), angle.sin()], dim=1), lonlat, **chosen, max_km=30.0)[0].item()
        for angle in (as_on_the_ground, as_on_a_flat_map)
    )
    assert right == pytest.approx(0, abs=1e-12)
    assert wrong > 0


def test_places_at_one_distance_share_a_rank() -> None:
    # Two looks of one place, written with and without a turn, and a third place: either look may come first.
    lonlat = torch.tensor([[10.0, 50.0], [370.0, 50.0], [11.0, 50.0], [12.5, 50.0]], dtype=torch.float64)
    z, _ = anywhere(4, 4)
    chosen = {"temperature": 1.0, "eps": 1e-6, "margin": 0.0}
    first = geo_rank(z, lonlat, **chosen)[0]
    swapped = geo_rank(z[[1, 0, 2, 3]], lonlat, **chosen)[0]
    assert first.item() == pytest.approx(swapped.item(), abs=1e-12)


def test_all_at_one_place_want_the_mean_rank() -> None:
    z, _ = anywhere(1, 5)
    lonlat = torch.full((5, 2), 7.0, dtype=torch.float64)
    loss, _ = geo_rank(z, lonlat, temperature=1.0, eps=1e-6, margin=0.0)
    # Ranks 1 … 4 against 2.5 four times, as unit vectors, times √30: mean of 2 (1 − cos) / 4.
    cosine = (1 + 2 + 3 + 4) * 2.5 / (math.sqrt(30) * 5)
    assert loss.item() == pytest.approx(math.sqrt(30) * 2 * (1 - cosine) / 4)
    assert geo_rank(z, lonlat, temperature=1.0, eps=1e9, margin=0.0)[0].item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "lonlat",
    [
        torch.tensor([[0.0, 0.0], [90.0, 0.0], [180.0, 0.0], [0.0, 90.0]]),  # none within 3000 km
        torch.tensor([[5.0, 5.0]]),  # one alone
        torch.full((3, 2), torch.nan),  # none known
        torch.tensor([[5.0, 5.0], [torch.nan, 5.0], [5.0, torch.nan]]),  # one known
    ],
    ids=["far", "alone", "unknown", "one"],
)
def test_without_a_pair_in_range_nothing_is_asked(lonlat: Tensor) -> None:
    z = torch.randn(len(lonlat), 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss, active = geo_rank(z, lonlat.double(), temperature=0.04, eps=1.0, margin=0.0)
    loss.backward()
    assert loss.item() == 0
    assert active.isfinite()
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_rows_without_a_position_take_no_part() -> None:
    z, lonlat = anywhere(6, 8)
    chosen = {"temperature": 0.5, "eps": 0.1, "margin": 0.5}
    z.requires_grad_()
    known = [0, 2, 3, 6, 7]
    expected, active = geo_rank(z[known], lonlat[known], **chosen)
    (gradient,) = torch.autograd.grad(expected, z)
    unknown = torch.ones(8, dtype=torch.bool)
    unknown[known] = False
    loss, active_again = geo_rank(z, lonlat.masked_fill(unknown[:, None], torch.nan), **chosen)
    (gradient_again,) = torch.autograd.grad(loss, z)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    assert active_again.item() == pytest.approx(active.item())
    np.testing.assert_allclose(gradient_again.numpy(), gradient.numpy(), atol=1e-10)


def test_only_pairs_in_range_are_charged() -> None:
    # 11, 22 and 33 km apart, or 44, 67 and 78: six pairs, both ways, on either side of 40.
    z, _ = anywhere(8, 4)
    lonlat = along_a_meridian(4)
    chosen = {"temperature": 1.0, "eps": 1e-6, "margin": 0.0}
    near = geo_rank(z, lonlat, max_km=40.0, **chosen)[0] * 6
    far = geo_rank(z, lonlat, min_km=40.0, **chosen)[0] * 6
    assert near.item() + far.item() == pytest.approx(12 * geo_rank(z, lonlat, **chosen)[0].item())
    assert near.item() != pytest.approx(far.item())


def test_bfloat16_embeddings_are_ranked_in_float64() -> None:
    z, lonlat = anywhere(9, 6)
    found = GeoRank(eps=0.1)(z.bfloat16(), batch_of(lonlat))
    expected, _ = geo_rank(z.bfloat16().float(), lonlat, temperature=0.04, eps=0.1, margin=1.0)
    assert found["loss"].dtype == torch.float32
    assert found["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_term_ranks_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    z, lonlat = anywhere(10, 8)
    z.requires_grad_()
    term = GeoRank(eps=0.1)
    whole = term(z, batch_of(lonlat))
    (gradient,) = torch.autograd.grad(whole["loss"], z)
    # As the second of two processes: what the first holds comes in front.
    monkeypatch.setattr(georank, "gather", lambda rows: torch.cat([z[:5].detach(), rows]))
    ground = georank.ground_of(batch_of(lonlat))
    monkeypatch.setattr(type(ground), "gathered", lambda _: ground)
    own = z[5:].detach().requires_grad_()
    found = term(own, batch_of(lonlat[5:]))
    found["loss"].backward()
    assert found["loss"].item() == whole["loss"].item()
    assert found["active"].item() == whole["active"].item()
    assert own.grad is not None
    np.testing.assert_allclose(own.grad.numpy(), gradient[5:].numpy(), atol=1e-12)


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"eps": 0.0}, {"margin": -1.0}, {"min_km": 10.0, "max_km": 5.0}, {"kind": "cubed"}]
)
def test_settings_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="georank"):
        GeoRank(**wrong)


def test_no_value_is_fetched_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    z, lonlat = anywhere(11, 9)
    z.requires_grad_()
    with monkeypatch.context() as patches:
        for name in ("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "cpu", "numpy", "nonzero"):
            patches.setattr(torch.Tensor, name, None, raising=False)
        loss, _ = geo_rank(z, lonlat, **PUBLISHED)
        loss.backward()
    assert loss.item() > 0
