"""Reasons stay with their errors, also on the way from one process to another."""

import copy

from geossl_data.scenes.reasons import ItemError


def test_an_error_keeps_its_reason() -> None:
    error = copy.copy(ItemError("no-time", "S2A_a: no acquisition time"))
    assert (error.reason, str(error)) == ("no-time", "S2A_a: no acquisition time")
