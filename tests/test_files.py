"""Files appear whole or not at all, and a folder has one writer."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from geossl_data.errors import DatasetError, StorageError
from geossl_data.files import atomic_path, exclusive, remove_temporaries, storage_error


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "t"
    target.write_text("old")
    with pytest.raises(TypeError, match="data must be str"), atomic_path(target) as temporary:
        temporary.write_text(None)  # type: ignore[arg-type]
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_a_finished_write_replaces_it(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new" / "t") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "new" / "t").read_text() == "whole"


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no space left"), atomic_path(tmp_path / "t"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_other_write_errors_name_the_file(tmp_path: Path) -> None:
    assert "not writable" in str(storage_error(tmp_path, PermissionError(errno.EACCES, "x")))
    assert "Read-only" in str(storage_error(tmp_path, OSError(errno.EROFS, "Read-only file system")))


def test_leftovers_of_a_killed_writer_are_swept(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from geossl_data.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as t:\n    t.write_text('half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "t"], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from geossl_data.files import exclusive\n"
        "with exclusive(Path(sys.argv[1])): pass"
    )
    with exclusive(tmp_path):
        held = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    free = subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert "another geossl process works on this folder" in held.stderr
    assert free.returncode == 0


def test_the_same_process_is_kept_out_too(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(DatasetError, match="another geossl process"), exclusive(tmp_path):
        raise AssertionError
