"""The samples of a dataset's shards: what they hold, and random access to any of them."""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from geossl_data.bands import Member
from geossl_data.errors import ShardError
from geossl_data.records import Split
from geossl_data.shards.codec import CODECS
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Entry, Manifest, parse_manifest, read_manifest
from geossl_data.shards.reading.batches import Batches, Items, Looks, items_of
from geossl_data.shards.reading.buffers import Allocate, plain_memory
from geossl_data.shards.reading.facts import Facts, facts_of
from geossl_data.shards.reading.files import Files
from geossl_data.shards.reading.index import Index, index_of
from geossl_data.shards.reading.order import Permutation, Shuffle
from geossl_data.shards.reading.sources import Folder, Source
from geossl_data.shards.store import Store
from geossl_data.shards.tars import MAX_JSON_NBYTES

Array = NDArray[Any]


def open_shards(where: Path | str, split: Split | None = None, *, check: bool = True) -> "Shards":
    """The samples of a dataset, or of one of its splits, in the order of shard and offset.

    where: a dataset folder, or the URL below which the shards were written, as in `s3://bucket/prefix`. A folder whose
    shards lie in an object store reads them there. Credentials come from the environment.
    check: whether each file has to have the checksum that it was written with, when it is read first.
    Raises DatasetError without a manifest, ShardError when a shard is missing or not as long as it was written.
    """
    if isinstance(where, str) and "://" in where:
        store = Store(where)
        data = store.read_all(MANIFEST_NAME)
        manifest = parse_manifest(pa.BufferReader(data), f"{where}/{MANIFEST_NAME}")
        return Shards(store.below(SHARDS_FOLDER), manifest, split, check=check)
    folder = Path(where)
    manifest = read_manifest(folder / MANIFEST_NAME)
    return Shards(source_of(folder, manifest), manifest, split, check=check)


def source_of(folder: Path, manifest: Manifest) -> Source:
    """Where the shards of a dataset folder lie: in it, or in the object store that its manifest names."""
    location = manifest.notes.get("location")
    return Store(str(location)).below(SHARDS_FOLDER) if location else Folder(folder / SHARDS_FOLDER)


class Shards:
    """Random access to the samples of a dataset. Safe to use from several threads."""

    def __init__(self, source: Source, manifest: Manifest, split: Split | None = None, *, check: bool = True) -> None:
        table = manifest.table
        self._manifest = (
            manifest if split is None else Manifest(table.filter(pc.equal(table["split"], split)), manifest.notes)
        )
        self.source = source
        self.notes: dict[str, Any] = manifest.notes
        """What the manifest says about the whole; see `manifest.Manifest`."""
        self.members: dict[str, Member] = manifest.members
        """Members that looks may have, by name, with dtype, bands and shape."""
        self.size_px: int = manifest.notes["size_px"]
        self.index: Index = index_of(self._manifest)
        """Where every file lies; also how many looks each sample has."""
        self._files = Files(
            self.index,
            source,
            CODECS[manifest.notes["codec"]],
            self.members,
            self.size_px,
            np.full(len(self.index.offset), not check),
        )
        self._check_sizes()

    def _check_sizes(self) -> None:
        for number in np.unique(self.index.shard).tolist():
            name = self.index.shard_names[number]
            expected, found = self.notes["shards"][name]["nbytes"], self.source.nbytes(name)
            if found != expected:
                what = "no such file" if found is None else f"{found} bytes where {expected} were written"
                raise ShardError(
                    f"{self.source.where(name)}: {what}; run `geossl verify`, then `geossl shard` to cut it again"
                )

    @cached_property
    def entries(self) -> list[Entry]:
        """The rows of the manifest; a sample's index is its position here. Made when first asked for."""
        return self._manifest.entries

    @cached_property
    def facts(self) -> Facts:
        """Where and when the samples are from, as arrays. Made when first asked for."""
        return facts_of(self._manifest)

    @cached_property
    def keys(self) -> list[str]:
        """The keys of the samples, in order."""
        keys: list[str] = self._manifest.table["key"].to_pylist()
        return keys

    def __len__(self) -> int:
        return len(self.index)

    def __enter__(self) -> "Shards":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        self.source.close()

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of the members that looks may have, in the order in which they are written."""
        return tuple(self.members)

    @property
    def looks(self) -> list[tuple[int, int]]:
        """Every (sample index, look) there is, in order."""
        return [(index, look) for index, count in enumerate(self.index.n_looks.tolist()) for look in range(count)]

    def shape(self, member: str) -> tuple[int, ...]:
        """Array shape of a member of one look; ShardError for a name that the manifest does not know."""
        return self.member(member).shape(self.size_px)

    def member(self, name: str) -> Member:
        """What a member is; ShardError for a name that the manifest does not know."""
        if name not in self.members:
            raise ShardError(f"no member {name!r} in these shards; they hold {', '.join(self.members)}")
        return self.members[name]

    def has(self, index: int, look: int, member: str) -> bool:
        """Whether a look of a sample has a member, from the manifest alone."""
        self._require_look(index, look)
        column = self.member_names.index(member) if member in self.members else -1
        return column >= 0 and bool(self.index.member_file[self.index.first_look[index] + look, column] >= 0)

    def _require_look(self, index: int, look: int) -> None:
        if not 0 <= look < int(self.index.n_looks[index]):
            raise ShardError(f"sample {self.keys[index]} has {int(self.index.n_looks[index])} looks, no look {look}")

    def read(self, index: int, look: int, members: Sequence[str] | None = None) -> dict[str, Array]:
        """The stored numbers of one look's members, as new arrays keyed by name; of all that it has when left out.

        `members[name].physical(array)` turns them into physical units: decibels where Sentinel-1 is stored in steps
        of 0.01 dB. Raises ShardError when the look lacks a member or the shard is damaged.
        """
        self._require_look(index, look)
        names = [name for name in self.members if self.has(index, look, name)] if members is None else list(members)
        arrays = {name: np.empty(self.shape(name), self.member(name).dtype) for name in names}
        lacking = [name for name in names if not self.has(index, look, name)]
        if lacking:
            raise ShardError(f"sample {self.keys[index]}, look {look} has no {' or '.join(lacking)}")
        self._files.read(np.array([index]), np.array([[look]]), {name: array[None] for name, array in arrays.items()})
        return arrays

    def meta(self, index: int) -> dict[str, Any]:
        """A sample's provenance: the content of its JSON member."""
        if int(self.index.nbytes[self.index.first_file[index]]) > MAX_JSON_NBYTES:
            raise ShardError(f"{self.keys[index]}.json is larger than {MAX_JSON_NBYTES} bytes")
        try:
            content = json.loads(self._files.read_json(index))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise ShardError(f"{self.keys[index]}.json is not a JSON object; run `geossl verify`")
        return content

    def batches(
        self,
        batch_size: int,
        members: Sequence[str] | None = None,
        *,
        looks: Looks = "each",
        items: Items | None = None,
        shuffle: Shuffle | Permutation | None = "global",
        window: int = 8,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = True,
        threads: int | None = None,
        ahead: int = 2,
        allocate: Allocate = plain_memory,
        log: Callable[[str], None] | None = None,
    ) -> Batches:
        """Batches of the samples' looks, epoch by epoch; see `Batches` for what they hold and how they go on.

        members: names; all that every look has when left out.
        looks: `each`, an item is one look, and an epoch holds every look; a number k, an item is a place with k of its
        looks, drawn afresh each epoch; `all`, an item is a place with all its looks, as many for every place.
        items: the items themselves, as (sample index, look) pairs or arrays, or samples with a rule that draws looks of
        them each epoch (`batches.Drawn`); `looks` is then not asked.
        Looks that lack a member are left out, as are places with too few; `log` is told how many.
        shuffle: `global`, any order; `window`, for object stores: the items of `window` shards at a time; None, as
        they are; or a function (seed, epoch) → the numbers of the items in their order.
        rank, world: this process takes its share of every step; shares are disjoint, and all ranks make as many steps.
        drop_last: see `order.Steps`.
        threads: how many read and decode; ahead: how many batches beyond the one in use.
        allocate: gives the memory of batches; pretrain's gives memory that the GPU copies from at once.
        Raises ShardError where nothing is left, or fewer items than ranks.
        """
        names = list(dict.fromkeys(self.common_members() if members is None else members))
        for name in names:
            self.member(name)
        return Batches(
            self._files,
            items_of(self.index, self.member_names, names, looks, items, log),
            names,
            batch_size,
            identity=str(self.notes.get("fingerprint", "")),
            shuffle=shuffle,
            window=window,
            seed=seed,
            rank=rank,
            world=world,
            drop_last=drop_last,
            threads=threads,
            ahead=ahead,
            allocate=allocate,
        )

    def common_members(self) -> list[str]:
        """Names of the members that every look has."""
        everywhere: NDArray[np.bool_] = np.all(self.index.member_file >= 0, axis=0)
        return [name for name, whole in zip(self.members, everywhere.tolist(), strict=True) if whole]
