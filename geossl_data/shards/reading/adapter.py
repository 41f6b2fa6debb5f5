"""The same samples through the webdataset library, for pipelines that are built on it.

It reads shards one after the other and decodes what it is asked for; it needs neither the manifest's index nor threads.
Nothing is ever unpickled: members are decoded by their names, and what is no member of ours is refused.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import Member
from geossl_data.errors import ShardError
from geossl_data.records import Split
from geossl_data.shards.codec import CODECS, Codec
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Manifest, read_manifest
from geossl_data.shards.tars import MAX_JSON_NBYTES, MAX_MEMBER_NBYTES

if TYPE_CHECKING:
    from webdataset import WebDataset

Array = NDArray[Any]
Decode = Callable[[str, bytes], Any]
"""(name of a member without the key, its bytes) → array or JSON."""


def decoder(manifest: Manifest) -> Decode:
    """A function that decodes the members of these shards; usable as `webdataset.WebDataset(…).decode(function)`.

    It is given a member's name, as in `.0.s2_10m.blosc` or `.json`, and its bytes. It raises ShardError for what these
    shards do not hold, so that no other decoder, of pickles say, is ever tried.
    """
    members, codec = manifest.members, CODECS[manifest.notes["codec"]]
    size_px: int = manifest.notes["size_px"]

    def decode(name: str, data: bytes) -> Any:
        return _decoded(name.removeprefix("."), data, members, codec, size_px)

    return decode


def _decoded(name: str, data: bytes, members: Mapping[str, Member], codec: Codec, size_px: int) -> Any:
    if name == "json":
        if len(data) > MAX_JSON_NBYTES:
            raise ShardError(f"a JSON of {len(data)} bytes, more than {MAX_JSON_NBYTES}")
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise ShardError("a sample's JSON is damaged; run `geossl verify`") from None
    parts = name.split(".")
    if len(parts) != 3 or parts[1] not in members or parts[2] != codec.extension or len(data) > MAX_MEMBER_NBYTES:
        raise ShardError(f"{name[:80]!r} is no member of these shards; run `geossl verify`")
    member = members[parts[1]]
    return codec.decode(data, member.dtype, member.shape(size_px))


def web_dataset(
    folder: Path | str,
    split: Split | None = None,
    members: Sequence[str] | None = None,
    *,
    looks: Literal["each", "all"] = "each",
    shuffle: int = 1000,
    seed: int = 0,
    **options: Any,
) -> "WebDataset":
    """A `webdataset.WebDataset` over a dataset folder; its items are those of `Shards.batches`, not yet stacked.

    looks: `each`, an item is one look, {`__key__`, `look`, member name → array}; `all`, a place with the arrays of all
    its looks stacked. Looks that lack a member are left out. members: all that the manifest lists when left out; files
    of others are skipped unread.
    shuffle: how many items are mixed, with shards in any order; 0 keeps the order of the tars. options: handed on to
    WebDataset; `nodesplitter=webdataset.split_by_node` shares the shards among ranks.
    Chain `.batched(64)` and a `webdataset.WebLoader` as usual. Raises DatasetError or ShardError as `open_shards`, and
    ImportError without webdataset.
    """
    import webdataset

    root = Path(folder)
    manifest = read_manifest(root / MANIFEST_NAME)
    if "location" in manifest.notes:
        raise ShardError(f"{root}: its shards lie in an object store; read them with open_shards, or copy them here")
    names = list(manifest.members) if members is None else list(members)
    unknown = [name for name in names if name not in manifest.members]
    if unknown:
        raise ShardError(f"no member {unknown[0]!r} in these shards; they hold {', '.join(manifest.members)}")
    urls = [
        str(root / SHARDS_FOLDER / name)
        for name in sorted(manifest.notes["shards"])
        if split is None or name.startswith(f"{split}-")
    ]
    decode = decoder(manifest)
    table = manifest.table
    n_looks = dict(zip(table["key"].to_pylist(), table["n_looks"].to_pylist(), strict=True)) if looks == "all" else {}
    wanted = frozenset(names)

    def selected(name: str) -> bool:
        return name.split(".")[2:3] != [] and name.split(".")[2] in wanted

    def items(samples: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for sample in samples:
            yield from _items(sample, names, decode, n_looks.get(sample["__key__"]))

    dataset = webdataset.WebDataset(
        urls, shardshuffle=len(urls) if shuffle else False, seed=seed, select_files=selected, **options
    ).compose(items)
    return dataset.shuffle(shuffle, seed=seed) if shuffle else dataset


def _items(
    sample: Mapping[str, Any], names: Sequence[str], decode: Decode, n_looks: int | None
) -> Iterator[dict[str, Any]]:
    """The looks of a sample one by one, or stacked where it has as many as `n_looks` says."""
    files: dict[int, dict[str, str]] = {}
    for field in sample:
        if not field.startswith("__"):
            look, _, rest = field.partition(".")
            files.setdefault(int(look), {})[rest.partition(".")[0]] = field
    whole = [number for number in sorted(files) if set(names) <= set(files[number])]
    decoded = ({name: decode(files[number][name], sample[files[number][name]]) for name in names} for number in whole)
    if n_looks is None:
        for number, arrays in zip(whole, decoded, strict=True):
            yield {"__key__": sample["__key__"], "look": number, **arrays}
    elif len(whole) == n_looks:
        found = list(decoded)
        stacked = {name: np.stack([arrays[name] for arrays in found]) for name in names}
        yield {"__key__": sample["__key__"], "look": np.array(whole), **stacked}
