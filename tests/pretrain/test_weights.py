"""Safetensors files: our reader agrees with the library that writes them, and believes nothing."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save, save_file

from geossl_data.errors import TrainingError
from geossl_data.pretrain.weights import DTYPES, MAX_HEADER_NBYTES, Header, read_header, read_tensor

EXAMPLE = save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}, metadata={"geossl": "{}"})


def read(path: Path) -> tuple[Header, dict[str, torch.Tensor]]:
    with path.open("rb") as file:
        header = read_header(file, path)
        return header, {name: read_tensor(file, path, stored) for name, stored in header.tensors.items()}


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_a_file_worked_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "hand.safetensors"
    header = {"__metadata__": {"k": "v"}, "x": {"dtype": "I16", "shape": [2], "data_offsets": [0, 4]}}
    path.write_bytes(file_of(header, bytes([1, 0, 255, 255])))
    found, tensors = read(path)
    assert found.metadata == {"k": "v"}
    assert tensors["x"].dtype == torch.int16
    assert tensors["x"].tolist() == [1, -1]


@settings(max_examples=40, deadline=None)
@given(
    tensors=st.dictionaries(
        st.text(min_size=1, max_size=5).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 3), max_size=4)),
        min_size=1,
        max_size=5,
    ),
    metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    seed=st.integers(0, 99),
)
def test_every_file_is_read_as_its_library_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    tensors: dict[str, tuple[str, list[int]]],
    metadata: dict[str, str],
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    path = tmp_path_factory.mktemp("weights") / "x.safetensors"
    save_file(
        {
            name: (100 * torch.randn(shape, generator=generator)).to(DTYPES[kind])
            for name, (kind, shape) in tensors.items()
        },
        path,
        metadata=metadata,
    )
    header, found = read(path)
    with safe_open(path, framework="pt") as file:
        assert header.metadata == (file.metadata() or {})
        assert set(found) == set(file.keys())
        for name, tensor in found.items():
            expected = file.get_tensor(name)
            assert (tensor.dtype, tensor.shape) == (expected.dtype, expected.shape)
            assert torch.equal(tensor, expected)


def entry(begin: int, end: int, **others: Any) -> dict[str, Any]:
    return {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]} | others


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes cannot hold the header"),
        (b"junk", "4 bytes cannot hold"),
        (b"\xff" * 64, "64 bytes cannot hold the header they announce"),
        ((10**15).to_bytes(8, "little") + b"{}", "cannot hold"),
        ((MAX_HEADER_NBYTES + 1).to_bytes(8, "little") + bytes(64), "cannot hold"),
        (file_of(b"[]"), "does not describe tensors"),
        (file_of(b"{ "), "does not describe tensors"),
        (file_of(b"\xff\xff"), "does not describe tensors"),
        (file_of(b"[" * 200_000), "does not describe tensors"),
        (file_of(b"7" * 10_000), "does not describe tensors"),
        (file_of({"__metadata__": {"a": 1}}), "does not describe tensors"),
        (file_of({"__metadata__": []}), "does not describe tensors"),
        (file_of({"x": 1}), "does not describe tensors"),
        (file_of({"x": entry(0, 4, dtype="F4")}, bytes(4)), "of known dtypes"),
        (file_of({"x": entry(0, 4, dtype=["U8"])}, bytes(4)), "does not describe tensors"),
        (file_of({"x": entry(0, 4, shape=[5])}, bytes(4)), "does not describe tensors"),
        (file_of({"x": entry(0, 4, shape=[-2, -2])}, bytes(4)), "does not describe tensors"),
        (file_of({"x": entry(0, 4, shape=[4.0])}, bytes(4)), "does not describe tensors"),
        (file_of({"x": entry(0, 1, shape=[True])}, bytes(4)), "does not describe tensors"),
        (file_of({"x": entry(0, 4, shape=[1] * 9 + [4])}, bytes(4)), "does not describe tensors"),
        (file_of({"x": entry(0, 4, data_offsets=[0, 4, 4])}, bytes(4)), "does not describe tensors"),
        (file_of({"x": entry(0, 4, more=1)}, bytes(4)), "does not describe tensors"),
        (file_of({"x": entry(0, 10**6)}, bytes(4)), "does not describe tensors"),
        (file_of(b'{"x":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "does not describe tensors"),
        (file_of({"x": entry(0, 3), "y": entry(2, 4)}, bytes(4)), "overlap or leave gaps"),
        (file_of({"x": entry(0, 1), "y": entry(2, 4)}, bytes(4)), "overlap or leave gaps"),
        (file_of({"x": entry(1, 4)}, bytes(4)), "overlap or leave gaps"),
        (file_of({"x": entry(0, 3)}, bytes(4)), "end after .* bytes, the file after"),
        (file_of({"x": entry(0, 4)}, bytes(3)), "end after"),
        (EXAMPLE[:-1], "end after"),
        (EXAMPLE + b"x", "end after"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=rf"not a readable safetensors file: .*{message}") as raised:
        read(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_has_become_shorter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(EXAMPLE)
    with path.open("rb") as file:
        stored = read_header(file, path).tensors["a"]
        with pytest.raises(TrainingError, match="it ends within a tensor"):
            read_tensor(file, path, replace(stored, first=len(EXAMPLE) - 20))


@settings(max_examples=150, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    keep=st.integers(0, len(EXAMPLE)) | st.just(len(EXAMPLE)),
)
def test_no_bytes_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], keep: int
) -> None:
    data = bytearray(EXAMPLE)
    for position, value in changes:
        data[position] = value
    path = tmp_path_factory.mktemp("weights") / "x.safetensors"
    path.write_bytes(data[:keep])
    with suppress(TrainingError):
        _, tensors = read(path)
        assert sum(tensor.nbytes for tensor in tensors.values()) < len(EXAMPLE)
