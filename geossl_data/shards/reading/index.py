"""Where every file of every sample lies, worked out from the manifest alone: no tar is opened, no header is read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from geossl_data.errors import ShardError
from geossl_data.shards.codec import CODECS
from geossl_data.shards.manifest import Manifest
from geossl_data.shards.tars import BLOCK, MAX_MEMBER_NBYTES, SHORT_NAME_NBYTES, header_nbytes

IntArray = NDArray[np.int64]

_POWERS_OF_TEN = 10 ** np.arange(1, 10)


@dataclass(frozen=True, slots=True)
class Index:
    """The files of n samples with l looks in all, and where each file's bytes are.

    Files are numbered sample by sample: the JSON, then look by look its members.
    """

    shard_names: tuple[str, ...]
    shard: IntArray
    """Per sample, the number of its shard, shape (n,)."""
    n_looks: IntArray
    """Per sample, shape (n,)."""
    first_look: IntArray
    """Number of the first look of each sample, shape (n,); looks are numbered sample by sample."""
    first_file: IntArray
    """Number of the JSON of each sample, shape (n,)."""
    member_file: NDArray[np.int32]
    """Number of the file of each look (row) and member (column), -1 for what a look lacks; shape (l, members)."""
    offset: IntArray
    """First byte of each file's own bytes in its tar."""
    nbytes: NDArray[np.int32]
    """Bytes of each file."""
    crc32: NDArray[np.uint32]
    """Of each file's bytes."""

    def __len__(self) -> int:
        return len(self.shard)


def index_of(manifest: Manifest) -> Index:
    """The index of a manifest's samples. Raises ShardError where the manifest contradicts itself."""
    table = manifest.table.combine_chunks()
    names = tuple(sorted(manifest.notes["shards"]))
    numbers = pc.index_in(_column(table, "shard"), pa.array(names, pa.string()))
    if numbers.null_count:
        raise ShardError("manifest: samples in a shard that its notes do not list")
    shard = np.asarray(numbers, dtype=np.int64)
    start, length = _integers(table, "offset"), _integers(table, "nbytes")
    n_looks, members = _integers(table, "n_looks"), tuple(manifest.members)

    looks = _column(table, "members")
    member_names, members_per_look = _flat(looks.flatten())
    codes = pc.index_in(member_names, pa.array(members, pa.string()))
    n_files = _integers_per_row(table, "member_nbytes")
    sizes, checksums = _flat(_column(table, "member_nbytes"))[0], _flat(_column(table, "member_crc32"))[0]
    first_look = np.cumsum(n_looks) - n_looks
    consistent = (
        not codes.null_count
        and bool((n_looks > 0).all())
        and np.array_equal(_integers_per_row(table, "members"), n_looks)
        and len(sizes) == len(checksums)
        and np.array_equal(n_files, 1 + np.add.reduceat(members_per_look, first_look) if len(shard) else n_files)
    )
    if not consistent:
        raise ShardError("manifest: its columns disagree on which files the samples have")
    look_sample = np.repeat(np.arange(len(shard)), n_looks)

    first_file = np.cumsum(n_files) - n_files
    file_sample = np.repeat(np.arange(len(shard)), n_files)
    is_json = np.zeros(len(file_sample), dtype=np.bool_)
    is_json[first_file] = True
    file_look = np.repeat(np.arange(len(look_sample)), members_per_look)
    columns = np.asarray(codes, dtype=np.int64)
    member_file = np.full((len(look_sample), len(members)), -1, dtype=np.int32)
    member_file[file_look, columns] = np.flatnonzero(~is_json)

    # A file name is {key}.json or {key}.{look}.{member}.{extension}; its length says how long its header is.
    extension = len(CODECS[manifest.notes["codec"]].extension)
    name_nbytes = np.asarray(pc.binary_length(_column(table, "key")), dtype=np.int64)[file_sample]
    look_digits = 1 + np.searchsorted(_POWERS_OF_TEN, np.arange(len(look_sample)) - first_look[look_sample], "right")
    name_nbytes[is_json] += len(".json")
    name_nbytes[~is_json] += (
        3 + look_digits[file_look] + np.array([len(name) for name in members], dtype=np.int64)[columns] + extension
    )
    headers = np.where(name_nbytes <= SHORT_NAME_NBYTES, header_nbytes(0), header_nbytes(SHORT_NAME_NBYTES + 1))
    nbytes = np.asarray(sizes, dtype=np.int64)
    if bool((nbytes < 0).any()) or bool((nbytes > MAX_MEMBER_NBYTES).any()):
        raise ShardError(f"manifest: a file in a shard of fewer than 0 or more than {MAX_MEMBER_NBYTES} bytes")
    taken = headers + -(-nbytes // BLOCK) * BLOCK
    ends = np.cumsum(taken)
    before = ends[first_file] - taken[first_file]
    offset = start[file_sample] + (ends - taken - before[file_sample]) + headers
    if not np.array_equal(np.add.reduceat(taken, first_file), length):
        raise ShardError("manifest: its samples are not as long as their files")
    limits = np.array([manifest.notes["shards"][name]["nbytes"] for name in names], dtype=np.int64)
    if bool((start < 0).any()) or bool((start + length > limits[shard]).any()):
        raise ShardError("manifest: samples run beyond the ends of their shards")
    return Index(
        shard_names=names,
        shard=shard,
        n_looks=n_looks,
        first_look=first_look,
        first_file=first_file,
        member_file=member_file,
        offset=offset,
        nbytes=nbytes.astype(np.int32),
        crc32=np.asarray(checksums, dtype=np.uint32),
    )


def _column(table: pa.Table, name: str) -> Any:
    """A column as one Arrow array without nulls."""
    chunked = table[name]
    array = chunked.combine_chunks() if chunked.num_chunks != 1 else chunked.chunk(0)
    if array.null_count:
        raise ShardError(f"manifest: column {name} has empty rows")
    return array


def _integers(table: pa.Table, name: str) -> IntArray:
    try:
        return np.asarray(_column(table, name).cast(pa.int64()), dtype=np.int64)
    except pa.ArrowInvalid:
        raise ShardError(f"manifest: column {name} does not hold whole numbers") from None


def _integers_per_row(table: pa.Table, name: str) -> IntArray:
    return np.asarray(pc.list_value_length(_column(table, name)), dtype=np.int64)


def _flat(lists: Any) -> tuple[Any, IntArray]:
    """The values of an array of lists, and how many each list has."""
    return lists.flatten(), np.asarray(pc.list_value_length(lists), dtype=np.int64)
