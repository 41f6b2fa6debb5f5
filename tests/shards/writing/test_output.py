"""Shards are kept whole or not at all, and what cannot fit is refused before anything is read."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from geossl_data.errors import StorageError
from geossl_data.records import Sample
from geossl_data.shards.writing.output import kept, require_space
from geossl_data.shards.writing.plan import ShardPlan
from geossl_data.shards.writing.writer import write_shards
from geossl_data.tiles.build import Tile

Factory = Callable[..., Any]


def disk_of(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free // 4096, f_frsize=4096))


def test_what_cannot_fit_is_refused_before_anything_is_read(
    tmp_path: Path, plans: list[ShardPlan], factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(_: Sample) -> Tile:
        raise AssertionError("it was read")

    disk_of(monkeypatch, 10**6)
    with pytest.raises(StorageError, match=r"0\.0 GB are to be written, about, and 0\.0 GB are free"):
        write_shards(plans, tmp_path / "new", factory(build), fingerprint="f")


def test_only_what_is_still_missing_has_to_fit(
    tmp_path: Path, plans: list[ShardPlan], factory: Factory, tile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_shards(plans, tmp_path, factory(tile), fingerprint="f")
    (tmp_path / f"{plans[-1].name}.tar").unlink()
    disk_of(monkeypatch, int(plans[-1].nbytes))
    assert write_shards(plans, tmp_path, factory(tile), fingerprint="f") == whole


@pytest.mark.parametrize(("free", "fits"), [(900e9, True), (760e9, True), (740e9, False), (0, False)])
def test_the_estimate_is_no_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, fits: bool) -> None:
    disk_of(monkeypatch, int(free))
    plans = [ShardPlan(name=f"train-{n:06d}", split="train", samples=(), nbytes=250e9) for n in range(4)]
    if fits:
        require_space(tmp_path / "not" / "there", plans)
        return
    with pytest.raises(StorageError, match=r"1,000\.0 GB are to be written"):
        require_space(tmp_path / "not" / "there", plans)


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        seen.append((name.rsplit(".", 2)[0], (tmp_path / "a.tar").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with kept(tmp_path, "a.tar") as temporary:
        temporary.write_bytes(b"x")
        assert temporary.name.startswith(".a.tar.")
    assert seen == [(".a.tar", False), (tmp_path.name, True)]


def test_a_file_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with kept(tmp_path, "a.tar") as temporary:
            temporary.write_bytes(b"x")
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="no space left"):
        fail()
    assert list(tmp_path.iterdir()) == []
