"""Recipes and sweeps that somebody has written, or something has damaged."""

from pathlib import Path

import pytest
import yaml
from fuzz.mutations import CANARY, SIGNED, fuzzed, spoilt, told, twisted
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.errors import RecipeError
from geossl_data.recipe import Recipe, read_recipe
from geossl_data.recipe.document import to_yaml
from geossl_data.sweep.spec import SweepSpec, read_spec

RECIPE = to_yaml(Recipe.complete()).encode()
SWEEP = {
    "pool": "mydata",
    "base": {"sample": {"size": 96, "count": 400}, "pretrain": {"encoder": "resnet10", "epochs": 10}},
    "grid": {"pretrain.objective": ["infonce", "moco"], "seed": [0, 1, 2]},
    "arms": {"colour": {"pretrain.gain": 0.2}},
    "labelled": "judged",
}


def as_yaml(value: object) -> bytes:
    """A value as YAML; text that YAML cannot hold as escapes."""
    return yaml.safe_dump(value).encode(errors="surrogatepass")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("options") / "recipe.yaml"


@fuzzed(5)
@given(st.one_of(spoilt(RECIPE), twisted(yaml.safe_load(RECIPE)).map(as_yaml)))
def test_a_recipe_is_read_or_told_in_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    found = told(lambda: read_recipe(path))
    if found is not None:
        path.write_text(to_yaml(found), encoding="utf-8")
        assert read_recipe(path) == found


@fuzzed(5)
@given(st.one_of(spoilt(as_yaml(SWEEP)), twisted(SWEEP).map(as_yaml)))
def test_a_sweep_is_read_or_told_in_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    found = told(lambda: read_spec(path))
    assert found is None or isinstance(found, SweepSpec)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
"""Nine to the ninth lists in 400 bytes (billion laughs)."""


@pytest.mark.parametrize("read", [read_recipe, read_spec])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param("[" * 600, id="deep"),
        pytest.param("{a: " * 600, id="deep mappings"),
        pytest.param("fetch: {start: 2024-02-30}", id="no date"),
        pytest.param("fetch: !!int x", id="no number"),
        pytest.param("fetch: !!timestamp 2024-13-01", id="no time"),
        pytest.param("&a [*a]", id="circle"),
        pytest.param("fetch: &a {catalog: *a}", id="circle inside"),
        pytest.param(BOMB, id="bomb"),
        pytest.param(BOMB + "fetch: {max_cloud: *i}\n", id="bomb in an option"),
        pytest.param(f"fetch: {{max_cloud: '{SIGNED}'}}", id="signed"),
        pytest.param(f"fetch: {{'{SIGNED}': 1}}", id="signed key"),
        pytest.param(f"'{SIGNED}': 1", id="signed section"),
        pytest.param(f"fetch: '{SIGNED}", id="signed and not YAML"),
        pytest.param("fetch: {max_cloud: '" + "x" * 100_000 + "'}", id="long"),
        pytest.param("pool: 'a\\nb'\ngrid: {'x\\ny': [1]}", id="lines"),
        pytest.param("\0", id="zero"),
    ],
)
def test_what_is_no_recipe_is_one_line(path: Path, read: object, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError) as raised:
        read(path)  # type: ignore[operator]
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 2000
    assert CANARY not in message
