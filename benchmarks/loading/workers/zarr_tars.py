"""Zarr in tar, as TerraMesh ships its samples: a zipped Zarr group for each sensor, read by webdataset."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds
import zarr
from passes import DATE, Ask, Batch, Job, Pixels, serve
from zarr.core.buffer import cpu
from zarr.storage import MemoryStore


def zipped(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A Zarr group of arrays, all bands of a date in a chunk, in Zarr's own default compression, as a zip file."""
    kept: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(kept), zarr_format=2)
    for name, array in arrays.items():
        group.create_array(name, data=np.ascontiguousarray(array), chunks=(1, *array.shape[1:]))
    zarr.consolidate_metadata(group.store)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(kept.items()):
            archive.writestr(name, content.to_bytes())
    return buffer.getvalue()


def unzipped(data: bytes) -> zarr.Array:
    """The array `bands` of such a zip file, nothing of it decoded yet."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        kept = {name: cpu.Buffer.from_bytes(archive.read(name)) for name in archive.namelist()}
    return zarr.open_consolidated(MemoryStore(kept, read_only=True), mode="r", zarr_format=2)["bands"]


def write(job: Job) -> None:
    pixels = Pixels(job.pixels)
    for first in range(0, job.samples, job.shard_samples):
        with wds.TarWriter(f"{job.folder}/{first // job.shard_samples:06d}.tar") as tar:
            for sample in range(first, min(first + job.shard_samples, job.samples)):
                s2, s1 = pixels.stack(sample)
                tar.write(
                    {
                        "__key__": f"{sample:06d}",
                        "s2.zarr.zip": zipped({"bands": s2}),
                        "s1.zarr.zip": zipped({"bands": s1}),
                    }
                )


@lru_cache
def loader(folder: str, shards: int, one: bool, batch: int, workers: int) -> Any:
    def decode(key: str, data: bytes) -> Any:
        return unzipped(data)[DATE if one else ...] if key.endswith(".zarr.zip") else None

    paths = sorted(map(str, Path(folder).glob("*.tar")))[:shards]
    pipeline = wds.WebDataset(paths, shardshuffle=False).decode(decode).to_tuple("s2.zarr.zip", "s1.zarr.zip")
    pipeline = pipeline.batched(batch)
    if not workers:
        return pipeline
    return wds.WebLoader(pipeline, batch_size=None, num_workers=workers, persistent_workers=True)


def batches(job: Job, ask: Ask) -> Iterator[Batch]:
    shards = max(2, ask.samples // job.shard_samples)
    for s2, s1 in loader(job.folder, shards, ask.one, ask.batch, ask.extra["workers"]):
        yield {"s2": s2, "s1": s1}


if __name__ == "__main__":
    serve(write, batches, {"zarr": version("zarr"), "numcodecs": version("numcodecs")})
