"""Messages are fit to show by their making: one line, of bearable length, without secrets and without side effects."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.errors import LONGEST, GeosslError, ShardError, first_line, fit_to_show


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain: 5 × 3 km, `geossl shard`; did you mean moco?", "plain: 5 × 3 km, `geossl shard`; did you mean moco?"),
        ("two\nlines\tand a tab", "two lines and a tab"),
        ("https://h.example/a.tif?se=1&sig=SECRET: gone", "https://h.example/a.tif gone"),
        ("'https://h.example/a?sig=SECRET' is gone", "'https://h.example/a' is gone"),
        ("https://user:SECRET@h.example/a", "https://h.example/a"),
        ("half a character \ud800", r"half a character \ud800"),
        ("red \x1b[31mtext, turned \u202earound", r"red \x1b[31mtext, turned \u202earound"),
    ],
)
def test_what_is_shown_of_a_text(given_text: str, shown: str) -> None:
    assert fit_to_show(given_text) == shown
    assert str(GeosslError(given_text)) == shown


@given(st.text(max_size=3000))
def test_any_text_becomes_one_line_that_every_file_and_terminal_takes(text: str) -> None:
    shown = fit_to_show(text)
    assert shown.isprintable()
    assert len(shown) <= LONGEST
    shown.encode()
    assert fit_to_show(shown) == shown


def test_an_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ShardError("train-000000.tar: cut")))
    assert (type(error), str(error)) == (ShardError, "train-000000.tar: cut")


def test_the_first_line_of_somebody_elses_error() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError("")) == "ValueError"
    assert first_line(ValueError("\n")) == "ValueError"
    assert len(first_line(ValueError("x" * 999))) == 200
