"""webdataset: its documented pipeline over whole stacks, and over the members of geossl's own shards."""

import io
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds
from passes import DATE, Ask, Batch, Job, Pixels, serve

MEMBERS = ("s2_10m", "s2_20m", "s2_60m", "s1")
DATES = 4


def write(job: Job) -> None:
    pixels = Pixels(job.pixels)
    for first in range(0, job.samples, job.shard_samples):
        with wds.TarWriter(f"{job.folder}/{first // job.shard_samples:06d}.tar") as tar:
            for sample in range(first, min(first + job.shard_samples, job.samples)):
                s2, s1 = pixels.stack(sample)
                tar.write({"__key__": f"{sample:06d}", "s2.npy": npy(s2), "s1.npy": npy(s1)})


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def chosen(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    return tuple(array[DATE] for array in pair)


@lru_cache
def loader(folder: str, kind: str, one: bool, batch: int, workers: int) -> tuple[Any, tuple[str, ...]]:
    """A loader, made once, and the names of what its batches hold."""
    shards = sorted(map(str, Path(folder).rglob("*.tar")))
    if kind == "stack":
        names = ("s2", "s1")
        pipeline = wds.WebDataset(shards, shardshuffle=False).decode().to_tuple("s2.npy", "s1.npy")
        pipeline = (pipeline.map(chosen) if one else pipeline).batched(batch)
    else:
        wanted = [(date, name) for name in MEMBERS for date in ([DATE] if one else range(DATES))]
        files = [f"{date}.{name}.npy" for date, name in wanted]
        names = tuple(f"{name} {date}" for date, name in wanted)
        pipeline = wds.WebDataset(shards, shardshuffle=False, select_files=lambda path: path.partition(".")[2] in files)
        pipeline = pipeline.decode().to_tuple(*files).batched(batch)
    if not workers:
        return pipeline, names
    return wds.WebLoader(pipeline, batch_size=None, num_workers=workers, persistent_workers=True), names


def batches(job: Job, ask: Ask) -> Iterator[Batch]:
    found, names = loader(job.folder, ask.extra["kind"], ask.one, ask.batch, ask.extra["workers"])
    for batch in found:
        yield dict(zip(names, batch, strict=True))


if __name__ == "__main__":
    serve(write, batches, {name: version(name) for name in ("webdataset", "torch", "numpy")})
