"""Cells: the product of grid and arms, names that stay, datasets that are shared."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep.small import spec_of

from geossl_data.errors import RecipeError
from geossl_data.sweep.cells import _slug, sweep_of


def test_cells_are_the_product_in_the_order_of_the_spec(tmp_path: Path) -> None:
    path = spec_of(
        tmp_path / "spec.yaml",
        base={"pretrain": {"epochs": 3}, "sample": {"size": 60}},
        grid={"pretrain.objective": ["infonce", "moco"], "seed": [0, 1]},
        arms={"plain": None, "colour": {"pretrain.gain": 0.2}},
    )
    sweep = sweep_of(path)
    assert [cell.id for cell in sweep.cells] == [
        f"{arm}_objective-{objective}_seed-{seed}"
        for arm in ("plain", "colour")
        for objective in ("infonce", "moco")
        for seed in (0, 1)
    ]
    assert sweep.keys == ("pretrain.objective", "seed", "pretrain.gain")
    last = sweep.cells[-1]
    assert (last.pretrain.epochs, last.pretrain.gain, last.pretrain.objective) == (3, 0.2, "moco")
    assert (last.pretrain.seed, last.evaluate.seed) == (1, 1)
    assert last.sample is not None
    assert (last.sample.size, last.sample.seed) == (60, 0)
    assert last.group == ("colour", "moco")
    assert [last.value(key) for key in sweep.keys] == ["moco", 1, 0.2]
    assert sweep.cells[0].value("pretrain.gain") == 0.0


def test_cells_with_the_same_places_share_a_dataset(tmp_path: Path) -> None:
    grid = {"sample.count": [10, 20], "pretrain.objective": ["infonce", "moco"], "seed": [0, 1]}
    sweep = sweep_of(spec_of(tmp_path / "spec.yaml", grid=grid))
    assert [len(cells) for cells in sweep.datasets.values()] == [4, 4]
    (tmp_path / "pool" / "pairs.parquet").write_bytes(b"others")
    assert not set(sweep_of(tmp_path / "spec.yaml").datasets) & set(sweep.datasets)


def test_a_seed_draws_other_places_where_the_splits_have_a_seed_of_their_own(tmp_path: Path) -> None:
    path = spec_of(tmp_path / "spec.yaml", base={"sample": {"split_seed": 0}}, grid={"seed": [0, 1]})
    sweep = sweep_of(path)
    assert [(cell.sample.seed, cell.sample.split_seed, cell.pretrain.seed) for cell in sweep.cells if cell.sample] == [
        (0, 0, 0),
        (1, 0, 1),
    ]
    assert len(sweep.datasets) == 2


def test_names_of_cells_stay_when_values_are_added(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    few = sweep_of(spec_of(path, grid={"pretrain.views": ["season,augment"], "seed": [0]}))
    more = sweep_of(spec_of(path, grid={"pretrain.views": ["augment", "season,augment"], "seed": [0, 1]}))
    assert {cell.id for cell in few.cells} < {cell.id for cell in more.cells}
    assert few.cells[0].id == "views-season-augment~a651_seed-0"


def test_options_of_one_name_are_told_apart_by_their_section(tmp_path: Path) -> None:
    path = spec_of(tmp_path / "spec.yaml", grid={"sample.seed": [0], "seed": [1]})
    assert [cell.id for cell in sweep_of(path).cells] == ["sample.seed-0_seed-1"]


def test_two_cells_of_one_name_are_refused(tmp_path: Path) -> None:
    path = spec_of(tmp_path / "spec.yaml", grid={"pretrain.tensorboard": [True, "true"]})
    with pytest.raises(RecipeError, match="true twice"):
        sweep_of(path)


@settings(max_examples=30)
@given(st.lists(st.text(max_size=60), unique=True, max_size=20))
def test_names_of_values_are_safe_to_write(texts: list[str]) -> None:
    for text in texts:
        name = _slug(text)
        assert 0 < len(name) <= 40 or text == ""
        assert not set(name) & set("/\\_,: \n\0")


def test_paths_of_a_spec_are_looked_up_beside_it(tmp_path: Path) -> None:
    (tmp_path / "area.geojson").write_text("{}")
    sweep = sweep_of(spec_of(tmp_path / "spec.yaml", base={"sample": {"area": "area.geojson"}}, grid={"seed": [0]}))
    assert sweep.cells[0].sample is not None
    assert sweep.cells[0].sample.area == str(tmp_path / "area.geojson")
