"""litdata: chunks made by `optimize`, read through its own StreamingDataset and StreamingDataLoader."""

from collections.abc import Iterator
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any

import litdata
from numpy.typing import NDArray
from passes import DATE, Ask, Batch, Job, Pixels, serve


def sample_of(number: int, folder: str) -> dict[str, NDArray[Any]]:
    s2, s1 = Pixels(folder).stack(number)
    return {"s2": s2, "s1": s1}


def write(job: Job) -> None:
    litdata.optimize(
        partial(sample_of, folder=job.pixels),
        list(range(job.samples)),
        output_dir=job.folder,
        chunk_bytes="64MB",
        num_workers=1,
        verbose=False,
    )


class OneDate(litdata.StreamingDataset):
    def __getitem__(self, index: Any) -> dict[str, Any]:
        return {name: values[DATE] for name, values in super().__getitem__(index).items()}


@lru_cache
def loader(folder: str, one: bool, batch: int, workers: int) -> litdata.StreamingDataLoader:
    dataset = (OneDate if one else litdata.StreamingDataset)(folder)
    return litdata.StreamingDataLoader(dataset, batch_size=batch, num_workers=workers, persistent_workers=workers > 0)


def batches(job: Job, ask: Ask) -> Iterator[Batch]:
    return iter(loader(job.folder, ask.one, ask.batch, ask.extra["workers"]))


if __name__ == "__main__":
    serve(write, batches, {name: version(name) for name in ("litdata",)})
