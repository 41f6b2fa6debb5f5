"""Files appear whole or not at all."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geossl_data.errors import StorageError

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, fsynced and renamed to `path` when the block ends without an exception.

    The temporary file carries the process id, so that two writers of the same file never share one; it is removed
    when the block fails. Raises StorageError when the disk is full or the folder is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 `text`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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


def remove_temporaries(folder: Path) -> None:
    """Delete what an interrupted `atomic_path` of a killed process left in `folder`."""
    for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        with suppress(FileNotFoundError):
            leftover.unlink()
