"""Every planted fault is found, and a good folder has none."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geossl_data.errors import DatasetError
from geossl_data.files import sha256
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER, Entry, read_manifest, write_manifest
from geossl_data.shards.verify import nearest_splits_km, verify

TRAIN = "train-000000.tar"


def faults(folder: Path, *, deep: bool = False) -> str:
    """All findings as text, one a line."""
    return "\n".join(f"{found.severity} {found.where}: {found.what}" for found in verify(folder, deep=deep))


def rewrite(folder: Path, change: Callable[[Entry], Entry], **notes: Any) -> None:
    """Change rows and notes of the manifest."""
    manifest = read_manifest(folder / MANIFEST_NAME)
    write_manifest(folder / MANIFEST_NAME, [change(entry) for entry in manifest.entries], manifest.notes | notes)


def reseal(folder: Path) -> None:
    """Make the manifest agree with the size and hash that the first shard has now."""
    path = folder / SHARDS_FOLDER / TRAIN
    noted = read_manifest(folder / MANIFEST_NAME).notes["shards"]
    sealed = noted[TRAIN] | {"nbytes": path.stat().st_size, "sha256": sha256(path)}
    rewrite(folder, lambda entry: entry, shards=noted | {TRAIN: sealed})


def repack(folder: Path, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]) -> None:
    """Write the first shard again with other members."""
    path = folder / SHARDS_FOLDER / TRAIN
    with tarfile.open(path) as tar:
        files = [(info.name, tar.extractfile(info).read()) for info in tar.getmembers()]
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in change(files):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    reseal(folder)


def edit_json(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first sample's JSON, keeping its length, so that byte ranges stay."""

    def edit(files: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        name, data = files[0]
        content = json.loads(data)
        content["attribution"] = ""  # room for what the change adds
        change(content)
        text = json.dumps(content, sort_keys=True).encode()
        assert len(text) <= len(data)
        return [(name, text.ljust(len(data))), *files[1:]]

    repack(folder, edit)


def test_a_good_folder_has_no_faults(dataset: Path) -> None:
    assert verify(dataset) == []
    assert verify(dataset, deep=True) == []


def test_a_folder_without_a_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        verify(tmp_path)


def test_a_shard_cut_at_any_block_is_found(tmp_path: Path, sample: Any, write_dataset: Any) -> None:
    write_dataset(tmp_path, [sample(1, n_looks=1), sample(2, "val", n_looks=1)])
    path = tmp_path / SHARDS_FOLDER / TRAIN
    whole = path.read_bytes()
    assert verify(tmp_path) == []
    for length in range(0, len(whole), 512):
        path.write_bytes(whole[:length])
        assert f"error {TRAIN}: {length} bytes where {len(whole)}" in faults(tmp_path)


def test_a_flipped_bit_anywhere_is_found(dataset: Path) -> None:
    path = dataset / SHARDS_FOLDER / TRAIN
    whole = path.read_bytes()
    for position in (3, 700, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert "SHA-256" in faults(dataset)


def test_missing_and_foreign_shards_are_found(dataset: Path) -> None:
    (dataset / SHARDS_FOLDER / TRAIN).rename(dataset / SHARDS_FOLDER / "train-000009.tar")
    found = faults(dataset)
    assert f"error {TRAIN}: no such file; 7 samples are gone" in found
    assert "warning train-000009.tar: a shard that the manifest does not list" in found


def test_members_that_differ_from_the_manifest_are_found(dataset: Path) -> None:
    repack(dataset, lambda files: [files[0], files[2], files[1], *files[3:]])
    assert "members differ from the manifest: their order" in faults(dataset)
    repack(dataset, lambda files: [files[0], *files[2:]])
    assert "members differ" in faults(dataset)


def test_members_that_come_twice_or_belong_to_nobody_are_found(dataset: Path) -> None:
    repack(dataset, lambda files: [*files, files[1], ("stray.json", b"{}")])
    found = faults(dataset)
    assert "more than once" in found
    assert "2 members that no sample of the manifest owns" in found


def test_a_damaged_header_with_a_matching_hash_is_found(dataset: Path) -> None:
    path = dataset / SHARDS_FOLDER / TRAIN
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    reseal(dataset)
    assert "checksum does not fit" in faults(dataset)


def test_only_a_deep_look_decodes_arrays(dataset: Path) -> None:
    path = dataset / SHARDS_FOLDER / TRAIN
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(4, 12, 12)", b"(4, 24, 6) ", 1))
    reseal(dataset)
    assert faults(dataset) == ""
    assert ".0.s2_10m.npy: array of dtype <u2 and shape (4, 24, 6)" in faults(dataset, deep=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda meta: meta.update({"geossl:key": "x"}), "geossl:key 'x'"),
        (lambda meta: meta.update({"geossl:split": "val"}), "geossl:split 'val'"),
        (lambda meta: meta["looks"].pop(), "1 looks"),
        (lambda meta: meta["looks"].reverse(), "look 0 is"),
        (lambda meta: meta["looks"][0]["pair"].update({"geossl:gap_hours": 6.0}), "a gap of 6.0 h"),
        (lambda meta: meta["looks"][1]["s1"].update(datetime="2021-03-04T00:00:00Z"), "h apart"),
        (lambda meta: meta["looks"][0]["s2"].pop("geossl:offset_applied"), "offset"),
        (lambda meta: meta["looks"][0]["s2"]["assets"].update(B02="x?sig=SECRET"), "signed address"),
        (lambda meta: meta["looks"][0].pop("s1"), "damaged: KeyError"),
    ],
)
def test_provenance_that_disagrees_is_found(
    dataset: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit_json(dataset, change)
    found = faults(dataset)
    assert message in found
    assert "SECRET" not in found


def test_rows_that_disagree_are_found(dataset: Path) -> None:
    first = read_manifest(dataset / MANIFEST_NAME).entries[0].key
    rewrite(dataset, lambda entry: replace(entry, gap_hours=(5.0, -4.0)) if entry.key == first else entry)
    assert f"error {first}: look 0: a gap of 5.0 h is recorded" in faults(dataset)
    rewrite(dataset, lambda entry: replace(entry, gap_hours=(-5.0, -4.0), acquired=entry.acquired[::-1]))
    assert "looks are not in time order" in faults(dataset)


def test_leaks_between_splits_are_found(dataset: Path) -> None:
    def leak(entry: Entry) -> Entry:
        if entry.split == "val":
            return replace(entry, block="block-0", x=500_060.0)
        return entry

    rewrite(dataset, leak)
    found = faults(dataset)
    assert "block block-0 lies in train and val" in found
    assert "overlaps" in found
    rewrite(dataset, lambda entry: replace(entry, x=500_120.0) if entry.split == "val" else entry)
    assert "overlaps" not in faults(dataset)


def test_overlaps_are_seen_across_zones_and_the_antimeridian(dataset: Path) -> None:
    from geossl_data.grid import from_lonlat

    for (epsg_a, lon_a), (epsg_b, lon_b) in (((32632, 12.0), (32633, 12.0)), ((32660, 180.0), (32601, -180.0))):
        x_a, y_a = map(float, from_lonlat(epsg_a, lon_a, 50.0))
        x_b, y_b = map(float, from_lonlat(epsg_b, lon_b, 50.0))

        def move(entry: Entry, a: tuple[int, float, float], b: tuple[int, float, float]) -> Entry:
            if entry.split == "train":
                return entry
            epsg, x, y = a if entry.split == "val" else b
            return replace(entry, epsg=epsg, x=x, y=y)

        rewrite(dataset, lambda entry, a=(epsg_a, x_a, y_a), b=(epsg_b, x_b, y_b): move(entry, a, b))
        assert "error place-009: test: overlaps place-008" in faults(dataset).replace(
            "error place-008: val: overlaps place-009, which is test",
            "error place-009: test: overlaps place-008, which is val",
        )


def test_a_folder_with_mosaics_has_no_faults(mosaics: Path) -> None:
    assert verify(mosaics, deep=True) == []


def test_mosaics_that_differ_from_the_manifest_are_found(mosaics: Path) -> None:
    rewrite(mosaics, lambda entry: replace(entry, s1_more=()) if entry.key == "place-001" else entry)
    found = faults(mosaics)
    assert "place-001: look 1: Sentinel-1 pixels are of ('S1_1_1', 'S1_1_1b', 'S1_1_1c') in its JSON" in found
    assert found.count("error") == 1


@pytest.mark.parametrize(
    ("sensor", "change", "message"),
    [
        ("s2", {"geossl:mosaic": []}, "its JSON describes 0 further Sentinel-2 scenes, there are 1"),
        ("s1", {"geossl:mosaic": None}, "is damaged"),
        ("s2", {"geossl:mosaic_item_ids": ["S2_1_1"]}, "Sentinel-2 pixels are of ('S2_1_1',) in its JSON"),
        ("s2", {"part": {"geossl:offset_native": None}}, "nothing is said about the offset of S2_1_1b"),
        ("s1", {"part": {"datetime": "2021-01-01T00:00:00Z"}}, "is part of a mosaic and was acquired"),
    ],
)
def test_a_mosaic_that_its_json_does_not_tell_right_is_found(
    mosaics: Path, sensor: str, change: dict[str, Any], message: str
) -> None:
    def edit(content: dict[str, Any]) -> None:
        scene = content["looks"][1][sensor]
        for name, value in change.get("part", {}).items():
            if value is None:
                del scene["geossl:mosaic"][0][name]
            else:
                scene["geossl:mosaic"][0][name] = value
        scene |= {name: value for name, value in change.items() if name != "part"}

    edit_json(mosaics, edit)
    found = faults(mosaics)
    assert "error place-001: " in found
    assert message in found


def test_splits_nearer_than_the_buffer_are_found(tmp_path: Path, sample: Any, write_dataset: Any) -> None:
    # Samples number 1 and 2 lie 1020 m apart.
    write_dataset(tmp_path, [sample(1), sample(2, "val")])
    rewrite(tmp_path, lambda entry: entry, buffer_km=1.0)
    assert faults(tmp_path) == ""
    rewrite(tmp_path, lambda entry: entry, buffer_km=5.0)
    assert "train and val are 1.018 km apart, the buffer is 5 km" in faults(tmp_path)
    rewrite(tmp_path, lambda entry: entry, buffer_km="far")
    assert "buffer between splits is 'far'" in faults(tmp_path)
    assert nearest_splits_km(read_manifest(tmp_path / MANIFEST_NAME)) == {
        ("train", "val"): pytest.approx(1.02, abs=0.01)
    }
