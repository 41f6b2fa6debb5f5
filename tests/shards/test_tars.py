"""Tar headers, read without tarfile, as tarfile writes them."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geossl_data.errors import ShardError
from geossl_data.shards.tars import members


def write(path: Path, files: list[tuple[str, bytes]], tar_format: int = tarfile.GNU_FORMAT) -> None:
    with tarfile.open(path, "w", format=tar_format) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def read(path: Path) -> list[tuple[str, bytes]]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [
            (member.name, os.pread(descriptor, member.nbytes, member.offset))
            for member in members(descriptor, 0, path.stat().st_size)
        ]
    finally:
        os.close(descriptor)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.from_regex(r"[A-Za-z0-9_.-]{1,150}", fullmatch=True), st.binary(max_size=1300)), max_size=6),
)
def test_members_are_those_that_were_written(tmp_path: Path, files: list[tuple[str, bytes]]) -> None:
    write(tmp_path / "a.tar", files)
    assert read(tmp_path / "a.tar") == files


def test_names_and_sizes_that_lie_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write(path, [("a.json", b"{}"), ("a.0.s1.npy", bytes(700))])
    good = path.read_bytes()
    cases = {
        "checksum": good[:3] + b"x" + good[4:],
        "damaged": good[:124] + b"99999999999\0" + good[136:],
        "ends at byte": good[:1300],
        "runs beyond": good[:2048],
    }
    for message, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(ShardError, match=message):
            read(path)


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("a.json")
        info.type, info.linkname = tarfile.SYMTYPE, "../../secret"
        tar.addfile(info)
    with pytest.raises(ShardError, match="regular file"):
        read(tmp_path / "a.tar")
