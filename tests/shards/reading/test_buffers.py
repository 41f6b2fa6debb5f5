"""Memory comes back when nobody holds it, and never before."""

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_data.shards.reading.buffers import MAX_IDLE, Buffers


class Counting:
    def __init__(self) -> None:
        self.blocks: list[int] = []

    def __call__(self, nbytes: int) -> np.ndarray:
        block = np.zeros(nbytes, np.uint8)
        self.blocks.append(nbytes)
        return block


def test_memory_is_used_again_once_the_last_view_is_gone() -> None:
    allocate = Counting()
    buffers = Buffers(allocate)
    array = buffers.lend((4, 3), "uint16")
    address = array.__array_interface__["data"][0]
    view = array[1:].reshape(-1)[2:].view(np.uint8)
    del array
    gc.collect()
    other = buffers.lend((4, 3), "uint16")
    assert other.__array_interface__["data"][0] != address, "a view still shows it"
    view[:] = 7
    assert allocate.blocks == [24, 24]
    del view
    gc.collect()
    again = buffers.lend((2, 6), "uint16")
    assert again.__array_interface__["data"][0] == address
    assert allocate.blocks == [24, 24]
    assert (again.dtype, again.shape, again.flags.c_contiguous, again.flags.writeable) == (
        np.uint16,
        (2, 6),
        True,
        True,
    )


def test_only_some_idle_memory_is_kept() -> None:
    allocate = Counting()
    buffers = Buffers(allocate)
    held = [buffers.lend((5,), "uint8") for _ in range(MAX_IDLE + 3)]
    held.clear()
    gc.collect()
    held = [buffers.lend((5,), "uint8") for _ in range(MAX_IDLE + 1)]
    assert len(allocate.blocks) == MAX_IDLE + 3 + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), max_size=40))
def test_no_two_that_are_held_share_memory(steps: list[tuple[bool, int]]) -> None:
    buffers = Buffers()
    held: list[tuple[int, np.ndarray]] = []
    for number, (take, size) in enumerate(steps):
        if take or not held:
            array = buffers.lend((size,), "int64")
            array[:] = number
            held.append((number, array))
        else:
            held.pop(size % len(held))
        for value, array in held:
            assert (array == value).all()


def test_torch_keeps_the_memory_of_its_tensors() -> None:
    torch = pytest.importorskip("torch")
    buffers = Buffers()
    tensor = torch.from_numpy(buffers.lend((8,), "float32")).view(2, 4)
    tensor[:] = 5
    others = [buffers.lend((8,), "float32") for _ in range(4)]
    for other in others:
        other[:] = 0
    assert (tensor == 5).all()
