"""geossl: shards by its own writer, read through `open_shards(...).batches(...)` in a global shuffle."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from passes import DATE, Ask, Batch, Job, Pixels, serve
from places import content_of, sample_of

import geossl_data as gd
from geossl_data.records import Sample
from geossl_data.shards.manifest import MANIFEST_NAME, SHARDS_FOLDER
from geossl_data.shards.stac_table import write_manifest
from geossl_data.shards.writing.content import Content
from geossl_data.shards.writing.plan import plan_shards
from geossl_data.shards.writing.report import manifest_notes
from geossl_data.shards.writing.writer import Build, write_shards
from geossl_data.version import VERSION

KEPT = ("s2_10m", "s2_20m", "s2_60m", "s1")
SIZE_PX, DATES = 264, 4


def write(job: Job) -> None:
    pixels = Pixels(job.pixels)

    def build(sample: Sample) -> Content:
        number = int(sample.key.removeprefix("place-"))
        return content_of(sample, [pixels.members(number, date) for date in range(DATES)])

    def open_build(_: Sequence[Any]) -> AbstractContextManager[Build]:
        return nullcontext(build)

    samples = [sample_of(number, size_px=SIZE_PX, dates=DATES) for number in range(job.samples)]
    # A megabyte each, so that shards hold as many samples as those of the others.
    plans = plan_shards(samples, shard_mb=job.shard_samples, seed=0, nbytes=lambda _: 1e6)
    folder, codec = Path(job.folder), job.extra["codec"]
    reports = write_shards(plans, folder / SHARDS_FOLDER, open_build, codec=codec, fingerprint="benchmark")
    skipped = [row for report in reports for row in report.skipped]
    assert not skipped, skipped[0]
    entries = [entry for report in reports for entry in report.entries]
    notes = manifest_notes(reports, fingerprint="benchmark", codec=codec)
    write_manifest(folder / MANIFEST_NAME, entries, notes)


@lru_cache
def loader(folder: str, one: bool, batch: int, threads: int) -> Any:
    shards = gd.open_shards(folder)
    return shards.batches(
        batch_size=batch,
        members=KEPT,
        looks="all",
        items=[(number, DATE) for number in range(len(shards))] if one else None,
        shuffle="global",
        seed=0,
        threads=threads,
        drop_last=False,
    )


def batches(job: Job, ask: Ask) -> Iterator[Batch]:
    for batch in loader(job.folder, ask.one, ask.batch, ask.extra["threads"]):
        yield {name: batch[name] for name in KEPT}


if __name__ == "__main__":
    serve(write, batches, {"geossl": VERSION, "imagecodecs": version("imagecodecs")})
