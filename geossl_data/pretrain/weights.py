"""Tensors in a safetensors file, read with torch alone and without trusting the file.

The format (github.com/huggingface/safetensors): the length of the header in 8 bytes, little-endian; the header, JSON:
tensor name → dtype, shape and where its bytes begin and end after the header, and under `__metadata__` texts by name;
then the bytes, without gap or overlap.
"""

import json
import math
import os
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geossl_data.errors import TrainingError

MAX_HEADER_NBYTES = 2**24
"""A hundred times that of the largest encoder; more is damage."""
MAX_AXES = 8

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}
"""The format's names of dtypes that weights and counters have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor of a file: what it is, and which of the file's bytes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    first: int
    """Position of its first byte in the file."""
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says of itself."""

    metadata: dict[str, str]
    tensors: dict[str, StoredTensor]


def read_header(file: BufferedReader, path: Path) -> Header:
    """The checked header of an open file: the tensors fill the file exactly, and are as long as their shapes say.

    Raises TrainingError in one line for anything else; path: named in it.
    """
    nbytes = os.fstat(file.fileno()).st_size
    n_header = int.from_bytes(file.read(8), "little")
    if nbytes < 8 or not 2 <= n_header <= min(MAX_HEADER_NBYTES, nbytes - 8):
        raise _unreadable(path, f"{nbytes} bytes cannot hold the header they announce")
    try:
        content = json.loads(file.read(n_header).decode(), object_pairs_hook=_unique)
        metadata = _metadata(content.pop("__metadata__", {}))
        tensors = {name: _stored(entry, 8 + n_header, nbytes) for name, entry in content.items()}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise _unreadable(path, "its header does not describe tensors of known dtypes") from None
    end = 8 + n_header
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.first, tensor.nbytes)):
        if tensor.first != end:
            raise _unreadable(path, "its tensors overlap or leave gaps")
        end += tensor.nbytes
    if end != nbytes:
        raise _unreadable(path, f"its tensors end after {end} bytes, the file after {nbytes}")
    return Header(metadata=metadata, tensors=tensors)


def read_tensor(file: BufferedReader, path: Path, stored: StoredTensor) -> Tensor:
    """A tensor of the file, on the CPU; TrainingError where the file has become shorter meanwhile."""
    if not stored.nbytes:
        return torch.empty(stored.shape, dtype=stored.dtype)
    data = bytearray(stored.nbytes)
    file.seek(stored.first)
    if file.readinto(data) != stored.nbytes:
        raise _unreadable(path, "it ends within a tensor")
    return torch.frombuffer(data, dtype=stored.dtype).reshape(stored.shape)


def _unreadable(path: Path, why: str) -> TrainingError:
    return TrainingError(f"{path}: not a readable safetensors file: {why}; export the encoder again")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _metadata(texts: Any) -> dict[str, str]:
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError("metadata that are no texts")
    return dict(texts)


def _stored(entry: dict[str, Any], first: int, limit: int) -> StoredTensor:
    """One entry of the header; any of the usual errors where it makes no sense. first: where the tensors begin."""
    shape = tuple(_number(length, limit) for length in entry["shape"])
    begin, end = (_number(offset, limit) for offset in entry["data_offsets"])
    dtype = DTYPES[entry["dtype"]]
    if len(entry) != 3 or len(shape) > MAX_AXES or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError("bytes and shape differ")
    return StoredTensor(dtype=dtype, shape=shape, first=first + begin, nbytes=end - begin)


def _number(value: Any, limit: int) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError("no length or position in this file")
    return value
