"""Lists of different lengths."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geossl_data.scenes.matching.ragged import Ragged


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=6), st.data())
def test_lists_come_back(lists: list[list[int]], data: st.DataObject) -> None:
    group = np.array([i for i, values in enumerate(lists) for _ in values], dtype=np.int64)
    values = np.array([value for values in lists for value in values], dtype=np.int64)
    order = np.array(data.draw(st.permutations(range(len(values)))), dtype=np.int64)
    ragged = Ragged.grouped(group[order], values[order], len(lists))
    assert list(ragged) == [sorted(values) for values in lists]
    assert len(ragged) == len(lists)
    index = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8))
    taken = ragged.take(np.array(index, dtype=np.int64))
    assert list(taken) == [sorted(lists[i]) for i in index]
    assert list(taken.of(np.arange(10) * 2)) == [[2 * value for value in sorted(lists[i])] for i in index]
