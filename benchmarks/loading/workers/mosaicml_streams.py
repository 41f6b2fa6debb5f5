"""mosaicml-streaming: MDS shards, read through its StreamingDataset and torch's DataLoader."""

import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from types import ModuleType
from typing import Any

from passes import DATE, Ask, Batch, Job, Pixels, serve

# It imports torchvision for pictures alone, and torchvision's wheel does not load with torch of another build.
for name, contents in (
    ("torchvision", ()),
    ("torchvision.datasets", ("VisionDataset",)),
    ("torchvision.transforms", ()),
    ("torchvision.transforms.functional", ("to_tensor",)),
):
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    for content in contents:
        setattr(module, content, type(content, (), {}))
    sys.modules[name] = module

from streaming import MDSWriter, StreamingDataset  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

COLUMNS = {"s2": "ndarray:uint16:4,12,264,264", "s1": "ndarray:float32:4,2,264,264"}


def write(job: Job) -> None:
    pixels = Pixels(job.pixels)
    with MDSWriter(out=job.folder, columns=COLUMNS) as writer:
        for sample in range(job.samples):
            s2, s1 = pixels.stack(sample)
            writer.write({"s2": s2, "s1": s1})


class OneDate(StreamingDataset):
    def __getitem__(self, at: Any) -> dict[str, Any]:
        return {name: values[DATE] for name, values in super().__getitem__(at).items()}


@lru_cache
def loader(folder: str, one: bool, batch: int, workers: int) -> DataLoader[Any]:
    dataset = (OneDate if one else StreamingDataset)(local=folder, batch_size=batch)
    return DataLoader(dataset, batch_size=batch, num_workers=workers, persistent_workers=workers > 0)


def batches(job: Job, ask: Ask) -> Iterator[Batch]:
    return iter(loader(job.folder, ask.one, ask.batch, ask.extra["workers"]))


if __name__ == "__main__":
    serve(write, batches, {"mosaicml-streaming": version("mosaicml-streaming")})
