"""Where finished shards are kept: in the folder in which they are cut, or in an object store."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from geossl_data.errors import ShardError, StorageError
from geossl_data.files import atomic_path, scratch_path, sha256, storage_error
from geossl_data.shards.store import Store
from geossl_data.shards.writing.plan import ShardPlan

SURELY = 0.75
"""Share of its estimated size that a run takes at least: pixels may be smaller when compressed than was estimated."""


@contextmanager
def kept(folder: Path, name: str, store: Store | None = None) -> Iterator[Path]:
    """A path to write a file to, kept as `name` when the block ends without an exception: whole, or not at all.

    In `folder`, or in `store`, where nothing is written over. Raises StorageError when the disk is full or the folder
    is not writable, ShardError when the store refuses or has another file of that name.
    """
    if store is None:
        with atomic_path(folder / name) as temporary:
            yield temporary
        return
    try:
        with scratch_path(folder / name) as temporary:
            yield temporary
            put_once(store, name, temporary)
    except OSError as error:
        raise storage_error(folder / name, error) from error


def put_once(store: Store, name: str, path: Path) -> None:
    """Put a file into a store in which it is not, or is already with the same bytes.

    So that a run that was cut off before it could note what it had put goes on, as does a task that runs twice.
    """
    if not store.put_if_absent(name, path) and store.sha256(name) != sha256(path):
        raise ShardError(
            f"{store.where(name)}: another run's shard is there, and it stays; choose another --output, or delete it"
        )


def require_space(folder: Path, plans: Sequence[ShardPlan]) -> None:
    """Raises StorageError when the shards that are still to be written cannot fit beside what is in `folder`."""
    needed = sum(plan.nbytes for plan in plans)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        state = os.statvfs(there)
    except OSError as error:
        raise storage_error(folder, error) from error
    free = state.f_bavail * state.f_frsize
    if free < needed * SURELY:
        raise StorageError(
            f"{folder}: {needed / 1e9:,.1f} GB are to be written, about, and {free / 1e9:,.1f} GB are free; free some, "
            "or put the shards elsewhere with --output"
        )
