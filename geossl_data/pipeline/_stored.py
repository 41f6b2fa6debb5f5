"""What all ways of making shards share: whether they stand, how they are deleted, and what is said of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geossl_data import tables
from geossl_data.errors import DatasetError, EmptyResultError, ShardError
from geossl_data.files import exclusive, remove_folder, sha256
from geossl_data.pipeline._folder import MANIFEST, SHARDS, fingerprint_of, write_skipped
from geossl_data.recipe import ShardOptions
from geossl_data.records import Skipped

if TYPE_CHECKING:
    from geossl_data.shards.manifest import Entry
    from geossl_data.shards.store import Store
    from geossl_data.shards.writing.report import ShardReport


def output_of(options: ShardOptions) -> "Store | None":
    """The object store that the shards go to; None for the dataset folder. ShardError where it cannot be opened."""
    from geossl_data.shards.store import Store

    return Store(options.output) if options.output else None


def shards_below(store: "Store | None") -> "Store | None":
    """Where in the store the shards themselves lie."""
    return None if store is None else store.below(SHARDS)


def stand(folder: Path, fingerprint: str) -> bool:
    """Whether the shards of these options stand, every one in the size in which it was written.

    Cards that are missing beside them are written again. Raises DatasetError where others stand in the folder.
    """
    written = fingerprint_of(folder / MANIFEST)
    if written not in (None, fingerprint):
        raise DatasetError(
            f"{folder}: the shards there were cut from other samples or with other options; "
            "`geossl shard --fresh` deletes them and starts over"
        )
    if written is None or not _whole(folder):
        return False
    if not all((folder / name).is_file() for name in _cards()):
        _write_cards_again(folder)
    return True


def _whole(folder: Path) -> bool:
    from geossl_data.shards.store import Store

    notes = tables.read_metadata(folder / MANIFEST)
    wanted = {f"{SHARDS}/{name}": shard["nbytes"] for name, shard in notes["shards"].items()}
    location = notes.get("location")
    if location is None:
        paths = {folder / name: nbytes for name, nbytes in wanted.items()}
        return all(path.is_file() and path.stat().st_size == nbytes for path, nbytes in paths.items())
    sizes = Store(location).sizes()
    wanted |= {name: (folder / name).stat().st_size for name in (*_cards(), MANIFEST) if (folder / name).is_file()}
    return all(sizes.get(name) == nbytes for name, nbytes in wanted.items())


def _cards() -> tuple[str, ...]:
    from geossl_data.shards.cards import COLLECTION_NAME, CROISSANT_NAME, LICENCE_NAME

    return (LICENCE_NAME, COLLECTION_NAME, CROISSANT_NAME)


def _write_cards_again(folder: Path) -> None:
    from geossl_data.shards.cards import write_cards
    from geossl_data.shards.manifest import read_manifest
    from geossl_data.shards.store import Store

    with exclusive(folder):
        manifest = read_manifest(folder / MANIFEST)
        write_cards(folder, manifest.entries, manifest.notes)
        if "location" in manifest.notes:
            store = Store(manifest.notes["location"])
            for name in _cards():
                store.put(name, folder / name)


def entries_of(
    folder: Path, reports: "Sequence[ShardReport]", skipped: Sequence[Skipped] = (), *, none_left: str
) -> "list[Entry]":
    """What was written, once what was skipped is noted in `skipped.parquet`: `skipped` before, the rest by the reports.

    Raises EmptyResultError with the most frequent reason where nothing was written; none_left: how its line begins.
    """
    entries = [entry for report in reports for entry in report.entries]
    rows = [*skipped, *(row for report in reports for row in report.skipped)]
    counts = write_skipped(folder, "shard", rows)
    if not entries:
        common = max(counts, key=lambda reason: counts[reason])
        detail = next(row.detail for row in rows if row.reason == common)
        raise EmptyResultError(f"{none_left}, most for {common}: {detail}")
    return entries


def publish(folder: Path, entries: "Sequence[Entry]", notes: Mapping[str, Any], store: "Store | None") -> None:
    """Write manifest and cards of shards that stand, into the folder and, last, beside the shards in a store.

    Raises ShardError where the store holds the manifest of another dataset.
    """
    from geossl_data.shards.cards import write_cards
    from geossl_data.shards.stac_table import write_manifest

    for name in _cards():
        (folder / name).unlink(missing_ok=True)
    located = {**notes, **({} if store is None else {"location": store.url})}
    write_manifest(folder / MANIFEST, entries, located)
    write_cards(folder, entries, located)
    if store is not None:
        require_own(store, str(notes["fingerprint"]))
        for name in (*_cards(), MANIFEST):
            store.put(name, folder / name)


def require_own(store: "Store", fingerprint: str) -> None:
    """Raises ShardError where the manifest in a store is one of other shards than those of this fingerprint."""
    import pyarrow as pa

    from geossl_data.shards.manifest import parse_manifest

    if store.nbytes(MANIFEST) is None:
        return
    there = parse_manifest(pa.BufferReader(store.read_all(MANIFEST)), store.where(MANIFEST), key="")
    if there.notes.get("fingerprint") != fingerprint:
        raise ShardError(
            f"{store.url}: the shards of another dataset, or of other options, are there, and they stay; "
            "choose another --output, or delete them"
        )


def start_over(folder: Path) -> None:
    """Delete the shards, with manifest and cards; of an object store, only what this folder says was put there.

    An object that is not as long as it was put is somebody else's by now, and stays, as does the manifest of others.
    """
    from geossl_data.shards.store import Store
    from geossl_data.shards.writing.journal import JOURNAL_FOLDER, located

    with exclusive(folder):
        put = {url.removesuffix(f"/{SHARDS}"): dict(shards) for url, shards in located(folder / SHARDS).items()}
        notes = tables.read_metadata(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
        location = notes.get("location")
        if location is not None:
            listed = {name: shard["nbytes"] for name, shard in notes["shards"].items()}
            put[location] = {**put.get(location, {}), **listed}
        for url, shards in put.items():
            store = Store(url)
            sizes = store.sizes()
            for name in (MANIFEST, *_cards()):
                if name in sizes and (folder / name).is_file() and store.sha256(name) == sha256(folder / name):
                    store.delete(name)
            for name, nbytes in shards.items():
                store.delete(f"{SHARDS}/{JOURNAL_FOLDER}/{name.removesuffix('.tar')}.json")
                if sizes.get(f"{SHARDS}/{name}") == nbytes:
                    store.delete(f"{SHARDS}/{name}")
        for name in (MANIFEST, *_cards()):
            (folder / name).unlink(missing_ok=True)
        remove_folder(folder / SHARDS)
