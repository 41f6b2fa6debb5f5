"""What a spec may say, and the one line for what it may not."""

from pathlib import Path
from typing import Any

import pytest
from sweep.small import spec_of

from geossl_data.errors import DatasetError, RecipeError
from geossl_data.sweep.cells import sweep_of
from geossl_data.sweep.spec import read_spec


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"grid": {}}, "nothing varies; give a grid, or arms"),
        ({"grid": {"seed": []}}, "grid: seed has no values"),
        ({"grid": {"seed": 3}}, "grid.seed: Input should be a valid list, got 3"),
        ({"grid": {"seed": [0, 0]}}, "grid: seed has 0 twice"),
        ({"grid": {"pretrain.objectve": ["moco"]}}, "no option 'pretrain.objectve'; did you mean pretrain.objective?"),
        ({"grid": {"objective": ["moco"]}}, "grid: no option 'objective'"),
        ({"grid": {"fetch.max_cloud": [10]}}, "grid: no option 'fetch.max_cloud'"),
        ({"grid": {"pretrain.run": ["a"]}}, "pretrain.run is chosen by the sweep itself"),
        ({"grid": {"pretrain.gain": [{"a": 1}]}}, "grid: pretrain.gain has a mapping among its values"),
        ({"grid": {"seed": [0], "pretrain.seed": [1]}}, "seed sets pretrain.seed and evaluate.seed; give one of them"),
        ({"grid": {"seed": [0]}, "arms": {"a": {"evaluate.seed": 1}}}, "seed sets pretrain.seed and evaluate.seed"),
        (
            {"grid": {"pretrain.gain": [0.1]}, "arms": {"a": {"pretrain.gain": 1}}},
            "arms.a: pretrain.gain is in the grid",
        ),
        ({"grid": {"seed": [0]}, "arms": {"a/b": {}}}, "arms: 'a/b' is no name"),
        ({"grid": {"seed": [0]}, "base": {"fetch": {}}}, "base: no section 'fetch'; there are sample, shard"),
        (
            {"grid": {"seed": [0]}, "base": {"shard": {"output": "s3://x"}}},
            "base: shard.output: a sweep keeps its shards",
        ),
        (
            {"grid": {"seed": [0]}, "base": {"sample": {"cuont": 3}}},
            "no option 'sample.cuont'; did you mean sample.count",
        ),
        (
            {"grid": {"seed": [0]}, "base": {"sample": {"size": 61}}},
            "cell seed-0: sample: size 61 is not a multiple of 6",
        ),
        ({"grid": {"pretrain.objective": ["mocco"]}}, "cell objective-mocco: pretrain: objective: Input should be"),
        (
            {"grid": {"seed": [0]}, "color": 1},
            "unknown key 'color'; there are pool, shards, labelled, base, grid, arms",
        ),
        ({"grid": {"seed": [0]}, "shards": "x", "pool": "pool"}, "name a pool to draw places from, or shards"),
        ({"grid": {"sample.count": [3]}, "shards": "x"}, "sample.count is for places drawn from a pool"),
        (
            {"grid": {"seed": list(range(200)), "pretrain.epochs": list(range(1, 60))}},
            "11,800 cells; a sweep has at most",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, content: dict[str, Any], expected: str) -> None:
    path = spec_of(tmp_path / "spec.yaml", **content)
    with pytest.raises(RecipeError) as raised:
        sweep_of(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grid: [", "not YAML: "),
        ("- 1", "a sweep is a mapping"),
        ("pool: pool\ngrid:\n  seed: [0]\n  seed: [1]\n", "not YAML: seed is given twice, again in line 4"),
        ("pool: 5\ngrid: {seed: [0]}", "pool: Input should be a valid string, got 5"),
    ],
)
def test_a_file_that_is_no_spec_is_said_to_be_none(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as raised:
        read_spec(path)
    assert str(raised.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(raised.value)


def test_a_missing_spec_and_a_missing_pool_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no such sweep; examples/sweep\.yaml"):
        read_spec(tmp_path / "none.yaml")
    path = spec_of(tmp_path / "spec.yaml", pool="elsewhere", grid={"seed": [0]})
    with pytest.raises(DatasetError, match="elsewhere: no such folder"):
        sweep_of(path)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(DatasetError, match="not a geossl dataset"):
        sweep_of(path)


def test_the_example_is_a_spec() -> None:
    spec = read_spec(Path(__file__).resolve().parents[2] / "examples" / "sweep.yaml")
    assert spec.n_cells > 1
