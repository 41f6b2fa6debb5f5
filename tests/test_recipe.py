"""The recipe: commented, complete, and strict about what it takes."""

from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.errors import RecipeError
from geossl_data.recipe import (
    SECTIONS,
    FetchOptions,
    Recipe,
    SampleOptions,
    make_section,
    parse_duration,
    read_recipe,
    to_yaml,
    write_recipe,
)


def test_a_complete_recipe_survives_yaml(tmp_path: Path) -> None:
    write_recipe(tmp_path / "recipe.yaml", Recipe.complete())
    assert read_recipe(tmp_path / "recipe.yaml") == Recipe.complete()


def test_every_key_has_its_help_above_it() -> None:
    lines = to_yaml(Recipe.complete()).splitlines()
    for kind in SECTIONS:
        for name, info in kind.model_fields.items():
            assert info.description
            positions = [i for i, line in enumerate(lines) if line.startswith(f"  {info.alias or name}:")]
            assert any(lines[i - 1] == f"  # {info.description}" for i in positions)


@given(
    st.builds(
        SampleOptions,
        count=st.none() | st.integers(1, 10**6),
        size=st.integers(2, 300).map(lambda steps: 6 * steps),
        seed=st.integers(0, 2**31),
        buffer_km=st.floats(0, 500),
        strategy=st.sampled_from(["uniform", "geography"]),
    )
)
def test_any_sample_section_survives_yaml(options: SampleOptions) -> None:
    text = to_yaml(Recipe().with_section(options))
    assert Recipe.model_validate(yaml.safe_load(text)).sample == options


@pytest.mark.parametrize(
    ("text", "expected"), [("3d", timedelta(days=3)), ("36h", timedelta(hours=36)), ("1.5 d", timedelta(hours=36))]
)
def test_durations(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["3", "d", "-3d", "3 weeks", ""])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(RecipeError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample:\n  sizes: 96\n", r"unknown key 'sample.sizes'"),
        ("colour: red\n", "unknown key 'colour'"),
        ("sample:\n  size: 100\n", "size 100 is not a multiple of 6; try 96"),
        ("sample:\n  strategy: city\n", "sample.strategy: Input should be 'uniform', 'grid', .* got 'city'"),
        ("sample:\n  val: 0.5\n  test: 0.5\n", "val [+] test leave nothing to train on"),
        ("fetch:\n  max_gap: soon\n", "'soon' is not a duration"),
        ("fetch:\n  bbox: [10, 50, 5, 40]\n", "not west south east north"),
        ("fetch:\n  from: 2022-05-01\n  to: 2022-04-01\n", "lies before"),
        ("fetch:\n  max_cloud: 130\n", "less than or equal to 100"),
        ("- a\n", "a recipe is a mapping"),
        ("a: [\n", "not YAML"),
    ],
)
def test_a_bad_recipe_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(tmp_path / "recipe.yaml")
    assert "\n" not in str(caught.value)


def test_an_absent_recipe_says_where_to_start(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`geossl config` prints one"):
        read_recipe(tmp_path / "recipe.yaml")


def test_sections_take_field_names_and_aliases() -> None:
    by_alias = make_section(FetchOptions, {"from": "2022-01-01"})
    by_name = make_section(FetchOptions, {"start": "2022-01-01"})
    assert by_alias == by_name


def test_fingerprints_tell_options_and_input_apart() -> None:
    first = SampleOptions()
    assert first.fingerprint("x") == SampleOptions().fingerprint("x")
    assert len({first.fingerprint("x"), first.fingerprint("y"), SampleOptions(seed=1).fingerprint("x")}) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strategy": "mixture"}, "needs shares"),
        ({"mixture": "geography=0.6,change"}, "strategy=share"),
        ({"mixture": "geography=0.6,geography=0.4"}, "each strategy once"),
        ({"mixture": "geography=-1"}, "above 0"),
        ({"mixture": "geography=nan"}, "above 0"),
        ({"mixture": "mixture=1"}, "no strategy 'mixture'"),
        ({"mixture": "geograpy=1"}, "no strategy 'geograpy'"),
        ({"allocation": "quota"}, "go together"),
        ({"quota": "q.csv"}, "go together"),
        ({"sigma_km": 0}, "sigma_km"),
        ({"dates": 1}, "dates"),
    ],
)
def test_what_does_not_fit_together_is_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as failure:
        make_section(SampleOptions, values)
    assert "\n" not in str(failure.value)


def test_shares_of_a_mixture() -> None:
    options = make_section(SampleOptions, {"strategy": "mixture", "mixture": "geography=0.6, change=.4"})
    assert isinstance(options, SampleOptions)
    assert options.shares == {"geography": 0.6, "change": 0.4}
    assert SampleOptions().shares == {}
