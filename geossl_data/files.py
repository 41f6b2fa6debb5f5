"""Files appear whole or not at all."""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from geossl_data.errors import DatasetError, StorageError

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to `path` when the block ends without an exception.

    The file and its folder's entry of it are on the disk by then. See `scratch_path` for the temporary one. Raises
    StorageError when the disk is full or the folder is not writable.
    """
    try:
        with scratch_path(path) as temporary:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync_entries(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


@contextmanager
def scratch_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` for the time of the block; the folder is made, the file gone afterwards.

    No two writers share one, be it in one process or on two machines; `remove_temporaries` knows its name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


def _sync_entries(folder: Path) -> None:
    """Put the names of a folder on the disk, where its file system has a way to."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 `text`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def from_json(text: str | bytes) -> Any:
    """The value of a JSON text; ValueError for anything else, be it nested deeper than anybody nests."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def storage_error(path: Path, error: OSError) -> StorageError:
    """A one-line StorageError for an OSError raised while `path` was written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(f"{path}: no space left to write it; free some and run the same command again")
    if isinstance(error, PermissionError):
        return StorageError(f"{path}: not writable; choose another folder")
    return StorageError(f"{path}: cannot be written: {error.strerror or error}")


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporaries(folder: Path) -> list[Path]:
    """What `atomic_path` has begun in a folder: of a process that is at work, or was killed."""
    return sorted(folder.glob(f".*{TEMPORARY_SUFFIX}"))


def remove_temporaries(folder: Path) -> None:
    """Delete what an interrupted `atomic_path` of a killed process left in `folder`."""
    for leftover in temporaries(folder):
        with suppress(FileNotFoundError):
            leftover.unlink()


LOCK_NAME = ".lock"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; made when absent. DatasetError when another process holds it.

    The lock goes with the process, so a killed run leaves none behind.
    """
    lock = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise storage_error(lock, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(f"{folder}: another geossl process works on this folder; wait until it ends") from None
        yield


def remove_folder(folder: Path) -> None:
    """Delete a folder and all it holds; nothing happens when it is absent."""
    if folder.is_dir():
        shutil.rmtree(folder)
