"""Files of samples → arrays: read in few spans, checked, and decoded straight into the rows they belong to."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import Member
from geossl_data.errors import ShardError
from geossl_data.shards.codec import MAX_HEADER_NBYTES, Codec, crc32, payload_nbytes
from geossl_data.shards.reading.index import Index, IntArray
from geossl_data.shards.reading.sources import Source

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Files:
    """Reads the files that an index lists. Safe for several threads."""

    index: Index
    source: Source
    codec: Codec
    members: Mapping[str, Member]
    size_px: int
    checked: NDArray[np.bool_]
    """Of each file, whether its bytes were found to be those that were written.

    They are compared when a file is read first: what comes later is read from the same disk or its cache."""

    def shape(self, member: str) -> tuple[int, ...]:
        """Array shape of a member of one look."""
        return self.members[member].shape(self.size_px)

    def read_json(self, sample: int) -> bytes:
        """The bytes of a sample's JSON."""
        number = int(self.index.first_file[sample])
        data = bytearray(int(self.index.nbytes[number]))
        self.source.read_into(self._shard(sample), int(self.index.offset[number]), [memoryview(data)])
        if not self.checked[number]:
            self._check(sample, number, crc32(data))
        return bytes(data)

    def read(self, samples: IntArray, looks: IntArray, arrays: Mapping[str, Array]) -> None:
        """Fill the arrays with members of some looks.

        samples: shape (n,); looks: (n, k), read in fewest parts where ascending; arrays: member name → C-contiguous
        array (n × k, *shape) of the member's dtype. Raises ShardError for a look that lacks a member and for bytes that
        are not those written.
        """
        columns = list(self.members)
        # In the order in which a look's members are written, so that what is read next lies after what was read.
        wanted = [(column, name) for column, name in enumerate(columns) if name in arrays]
        numbers = self.index.member_file[self.index.first_look[samples][:, None] + looks]
        numbers = numbers[..., [column for column, _ in wanted]].reshape(len(samples), -1)
        if numbers.min(initial=0) < 0:
            row = int(np.argmax((numbers < 0).any(axis=1)))
            raise ShardError(f"sample {int(samples[row])} lacks one of {', '.join(arrays)}")
        specifications = [(self.members[name].dtype, self.shape(name)) for _, name in wanted] * looks.shape[1]
        nbytes, offsets = self.index.nbytes[numbers], self.index.offset[numbers]
        if self.codec.numbers_at is not None:
            heads = nbytes - np.array([payload_nbytes(*specification) for specification in specifications])
            if heads.min(initial=1) < 1 or heads.max(initial=0) > MAX_HEADER_NBYTES:
                raise ShardError("manifest: members are not as long as their arrays")
        flat = [arrays[name].reshape(-1).view(np.uint8).data for _, name in wanted]
        sizes = [payload_nbytes(self.members[name].dtype, self.shape(name)) for _, name in wanted]
        is_encoded = self.codec.numbers_at is None
        read = self._decode if is_encoded else self._scatter
        longest = self.source.max_encoded if is_encoded else self.source.max_span
        lists = zip(samples.tolist(), numbers.tolist(), offsets.tolist(), nbytes.tolist(), strict=True)
        for row, (sample, files, starts, lengths) in enumerate(lists):
            targets = [
                memory[position * size : (position + 1) * size]
                for position in range(row * looks.shape[1], (row + 1) * looks.shape[1])
                for memory, size in zip(flat, sizes, strict=True)
            ]
            first = 0
            for last in self._ends_of_spans(starts, lengths, longest):
                part = slice(first, last)
                read(sample, files[part], starts[part], lengths[part], targets[part], specifications[part])
                first = last

    def _ends_of_spans(self, starts: Sequence[int], lengths: Sequence[int], longest: int) -> list[int]:
        """Where to cut a run of files so that each part is worth reading at once."""
        ends, begin = [], starts[0]
        for position in range(1, len(starts)):
            end = starts[position - 1] + lengths[position - 1]
            gap, span = starts[position] - end, starts[position] + lengths[position] - begin
            if not 0 <= gap <= self.source.max_gap or span > longest:
                ends.append(position)
                begin = starts[position]
        return [*ends, len(starts)]

    def _decode(
        self,
        sample: int,
        files: Sequence[int],
        starts: Sequence[int],
        lengths: Sequence[int],
        targets: Sequence[memoryview],
        specifications: Sequence[tuple[str, tuple[int, ...]]],
    ) -> None:
        """Read into memory of this thread, then decode from there."""
        begin = starts[0]
        scratch = _scratch(starts[-1] + lengths[-1] - begin)
        self.source.read_into(self._shard(sample), begin, [scratch])
        for number, start, length, target, (dtype, shape) in zip(
            files, starts, lengths, targets, specifications, strict=True
        ):
            data = scratch[start - begin : start - begin + length]
            if not self.checked[number]:
                self._check(sample, number, crc32(data))
            try:
                self.codec.decode_into(data, np.frombuffer(target, dtype).reshape(shape))
            except ShardError as error:
                raise self._damaged(sample, str(error)) from None

    def _scatter(
        self,
        sample: int,
        files: Sequence[int],
        starts: Sequence[int],
        lengths: Sequence[int],
        targets: Sequence[memoryview],
        specifications: Sequence[tuple[str, tuple[int, ...]]],
    ) -> None:
        """Read the numbers straight into their arrays, and what lies between into memory of this thread."""
        scratch = _scratch(starts[-1] + lengths[-1] - starts[0] - sum(map(len, targets)))
        buffers: list[memoryview] = []
        position, used = starts[0], 0
        for start, length, target in zip(starts, lengths, targets, strict=True):
            before = start + length - len(target) - position
            buffers += (scratch[used : used + before], target)
            position, used = start + length, used + before
        self.source.read_into(self._shard(sample), starts[0], buffers)
        if self.checked[files].all():
            return
        for number, length, between, target, specification in zip(
            files, lengths, buffers[::2], targets, specifications, strict=True
        ):
            head = between[len(between) - (length - len(target)) :]
            self._check(sample, number, crc32(target, crc32(head)), head, specification)

    def _check(
        self,
        sample: int,
        number: int,
        found: int,
        head: memoryview | None = None,
        specification: tuple[str, tuple[int, ...]] | None = None,
    ) -> None:
        """ShardError unless a file has the checksum noted for it, and its header, where there is one, is right."""
        if found != int(self.index.crc32[number]):
            raise self._damaged(sample, "its bytes are not those that were written (CRC-32)")
        if head is not None and specification is not None and self.codec.numbers_at is not None:
            try:
                begins = self.codec.numbers_at(head, specification)
            except ShardError as error:
                raise self._damaged(sample, str(error)) from None
            if begins != len(head):
                raise self._damaged(sample, f"header of {begins} bytes where {len(head)} belong")
        self.checked[number] = True

    def _shard(self, sample: int) -> str:
        return self.index.shard_names[int(self.index.shard[sample])]

    def _damaged(self, sample: int, what: str) -> ShardError:
        return ShardError(f"{self._shard(sample)}, sample {sample}: {what}; run `geossl verify`")


_LOCAL = threading.local()


def _scratch(nbytes: int) -> memoryview:
    """Memory of this thread, overwritten at its next call."""
    memory = getattr(_LOCAL, "memory", None)
    if memory is None or len(memory) < nbytes:
        memory = _LOCAL.memory = memoryview(bytearray(nbytes))
    return memory[:nbytes]
