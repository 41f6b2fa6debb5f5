"""geossl's own loop, `pretrain.loop.train`, as it is: from shards, and from batches that stay on the device."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

from geossl_data.pretrain import loop
from geossl_data.pretrain.batches import Batch, Loader
from geossl_data.pretrain.options import TrainingOptions
from geossl_data.shards.reading.shards import Shards

HELD = 2
"""Batches that stay on the device."""


class Held(Loader):
    """The first batches of a loader, again and again: what training costs when nothing is loaded."""

    _held: list[Batch]

    def __iter__(self) -> Iterator[Batch]:
        if not hasattr(self, "_held"):
            self._held = list(islice(super().__iter__(), HELD))
        for step in range(len(self)):
            yield self._held[step % len(self._held)]


def windows(shards: Shards, options: TrainingOptions, *, held: bool) -> list[tuple[int, float, float]]:
    """Items, seconds and seconds of waiting of each epoch but the first, in which everything gets warm."""
    lines = _trained(shards, options, held=held)
    last = max(line["epoch"] for line in lines)
    found = []
    for epoch in range(1, last + 1):
        steps = [line for line in lines if line["epoch"] == epoch]
        seconds = [options.batch_size / line["images_per_s"] for line in steps]
        waited = sum(line["loader_wait_share"] * took for line, took in zip(steps, seconds, strict=True))
        found.append((options.batch_size * len(steps), sum(seconds), waited))
    return found


def _trained(shards: Shards, options: TrainingOptions, *, held: bool, progress: Any = None) -> list[dict[str, Any]]:
    patched = mock.patch.object(loop, "Loader", Held) if held else nullcontext()
    with tempfile.TemporaryDirectory() as folder, patched:
        more = {} if progress is None else {"progress": progress}
        loop.train(shards, Path(folder) / "run", options, **more)
        return [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]


def stepped(shards: Shards, options: TrainingOptions, at_step: Callable[[], None], *, held: bool) -> None:
    """Train, calling `at_step` after every step."""

    class Task:
        def advance(self, steps: float = 1, note: str | None = None) -> None:
            if note is not None:
                at_step()

    @contextmanager
    def progress(description: str, total: float | None = None) -> Iterator[Task]:
        yield Task()

    _trained(shards, options, held=held, progress=progress)
