"""The collector is out of the way for as long as it was asked to be, and no longer."""

import gc

import pytest

from geossl_data.memory import gc_paused


def test_it_comes_back_when_the_outermost_has_ended() -> None:
    with gc_paused():
        with gc_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_function_that_fails_gives_it_back() -> None:
    @gc_paused()
    def failing() -> None:
        assert not gc.isenabled()
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failing()
        assert gc.isenabled()


def test_one_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
