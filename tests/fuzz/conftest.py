"""What holds of every parser, whatever it is given: it ends, and takes no more memory than there is."""

import resource
import signal
from collections.abc import Iterator
from types import FrameType

import pytest
from fuzz.mutations import EXAMPLES

PATIENCE_S = 120 + EXAMPLES
"""Far longer than any of these tests takes on the slowest machine; a parser that hangs is stopped then."""
MOST_KB = 2**20
"""By how much the largest size of the process may grow in one module."""


def _hangs(_signal: int, _frame: FrameType | None) -> None:
    raise AssertionError("a parser does not come back")


@pytest.fixture(autouse=True)
def _comes_back() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(PATIENCE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module", autouse=True)
def _stays_small() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MOST_KB, f"the process grew by {grown / 1024:.0f} MB"
