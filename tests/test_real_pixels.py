"""The chain on real Sentinel pixels, typed as a user would; skipped where the data pack is absent."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import from_bounds

from geossl_data import tables
from geossl_data.bands import MEMBERS, S1_BANDS, S2_MEMBERS
from geossl_data.records import Skipped
from geossl_data.scenes.store import read_scenes
from geossl_data.shards.reading.shards import open_shards

Command = Callable[..., tuple[int, str, str]]


def compare_with_the_sources(folder: Path) -> Counter[str]:
    """Hold every stored pixel against rasterio's reading of its source; how many looks of each kind there were."""
    scenes = {scene.id: scene for scene in read_scenes(folder / "scenes.parquet")}
    shards = open_shards(folder)
    kinds: Counter[str] = Counter()
    for index, look in shards.looks:
        entry = shards.entries[index]
        meta = shards.meta(index)["looks"][look]
        pixels = shards.read(index, look, [*S2_MEMBERS, "s1"])
        side = entry.size_px * 10
        bounds = (entry.x, entry.y - side, entry.x + side, entry.y)
        offset = meta["s2"]["geossl:offset_applied"]
        kinds[f"offset {offset}"] += 1
        for name in S2_MEMBERS:
            for band, found in zip(MEMBERS[name].bands, pixels[name], strict=True):
                with rasterio.open(scenes[entry.s2_ids[look]].hrefs[band]) as raster:
                    window = from_bounds(*bounds, raster.transform).round_offsets().round_lengths()
                    stored = raster.read(1, window=window).astype(int)
                np.testing.assert_array_equal(
                    found, np.where(stored == 0, 0, np.maximum(stored + (offset or 0), 1)) if offset else stored
                )
        kinds[f"s1 {meta['s1']['geossl:resampling']}"] += 1
        if meta["s1"]["geossl:resampling"] == "none":
            for band, found in zip(S1_BANDS, shards.members["s1"].physical(pixels["s1"]), strict=True):
                with rasterio.open(scenes[entry.s1_ids[look]].hrefs[band]) as raster:
                    window = from_bounds(*bounds, raster.transform).round_offsets().round_lengths()
                    power = raster.read(1, window=window)
                np.testing.assert_allclose(found[power > 0], 10 * np.log10(power[power > 0]), atol=0.016)
    return kinds


def test_the_chain_as_a_user_types_it(tmp_path: Path, real_planet: Path, geossl: Command) -> None:
    folder = tmp_path / "real"
    assert geossl("fetch", folder, "--catalog", real_planet)[0] == 0
    code, _, err = geossl("sample", folder, "--strategy", "geography")
    assert code == 1
    assert "the largest side that fits a scene is 120 px" in err
    assert geossl("sample", folder, "--strategy", "geography", "--size", 60, "--block-km", 0.7)[0] == 0
    code, out, err = geossl("shard", folder, "--json")
    assert code == 0, err
    assert json.loads(out)["facts"]["places written"] >= 16
    assert set(compare_with_the_sources(folder)) == {"offset 0", "s1 none"}
    assert geossl("verify", folder, "--deep")[0] == 0
    code, out, err = geossl("pretrain", folder, "--encoder", "resnet10", "--epochs", 1, "--batch-size", 4, "--crop", 48)
    assert code == 0, err
    assert (folder / "runs/default/exported/s2.safetensors").is_file()


def test_every_scene_left_out_has_a_reason(tmp_path: Path, real_planet: Path, geossl: Command) -> None:
    folder = tmp_path / "real"
    assert geossl("fetch", folder, "--catalog", real_planet)[0] == 0
    reasons = Counter(row.reason for row in tables.read_table(folder / "skipped.parquet", Skipped))
    assert reasons["unknown-baseline"] > 0
    assert reasons["no-time"] > 0


def test_numbers_of_unknown_offset_are_taken_as_stored_only_when_asked(
    tmp_path: Path, real_planet: Path, geossl: Command
) -> None:
    folder = tmp_path / "real"
    brazil = ["--bbox", -49, -26, -48, -25]
    code, _, err = geossl("fetch", folder, "--catalog", real_planet, *brazil)
    assert code == 1
    assert "1 unknown-baseline" in err
    assert "--unknown-baseline as-stored" in err
    assert geossl("fetch", folder, "--catalog", real_planet, "--unknown-baseline", "as-stored")[0] == 0
    assert geossl("sample", folder, "--size", 108, "--looks", "single")[0] == 0
    code, out, _ = geossl("shard", folder, "--json")
    assert code == 0
    skipped = tables.read_table(folder / "skipped.parquet", Skipped)
    assert {row.reason for row in skipped if row.stage == "shard"} <= {"missing-asset", "off-grid", "outside"}
    kinds = compare_with_the_sources(folder)
    assert kinds["offset None"] > 0
    assert kinds["offset 0"] >= 5
    assert json.loads(out)["facts"]["looks"] == kinds["offset None"] + kinds["offset 0"]
