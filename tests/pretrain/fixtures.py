"""Fixtures of all tests that train: one thread, tiny encoders, the toy planet."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pretrain import toy_shards
from pretrain.tiny import tiny_encoders


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, which only get into the way of other test processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def all_tiny_encoders() -> Iterator[None]:
    """`tiny` and `tiny-vit` can be built."""
    with tiny_encoders():
        yield


@pytest.fixture(scope="session")
def toy() -> Any:
    """The module `toy_shards`."""
    return toy_shards
