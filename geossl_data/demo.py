"""The whole chain on the built-in planet, in a few minutes on two cores: what geossl does, shown on itself."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from geossl_data.pipeline import Report, evaluate, fetch, pretrain, sample, shard
from geossl_data.progress import Progress, silent
from geossl_data.recipe import EvaluateOptions, FetchOptions, PretrainOptions, SampleOptions, ShardOptions

PLACES = SampleOptions(count=420, looks="seasons", size=96, block_km=3.0, test=0.25, val=0.05)
"""Where the demo looks: about a square kilometre a place, blocks small enough for a planet of small regions."""
SHARDS = ShardOptions(shard_mb=32)
"""Small shards, so that two workers share the cutting."""
TRAINING = PretrainOptions(encoder="resnet10", epochs=10, batch_size=64, crop=60, learning_rate=5e-4)
"""What the demo trains: as much as two cores do in less than two minutes."""
JUDGING = EvaluateOptions(seeds=1, supervised=False)
"""How it is judged: beside one random encoder; a supervised one would take longer than all the rest."""


def run_demo(
    folder: Path,
    *,
    size: Literal["tiny", "small"] = "small",
    places: SampleOptions = PLACES,
    training: PretrainOptions = TRAINING,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = silent,
    show: Callable[[Report], None] = lambda report: None,
) -> Report:
    """The whole chain: `folder`/planet is built, `folder`/dataset is made from it, an encoder trained and probed.

    seed: of the planet, the draw and the training. show: called with each stage's Report as it is done. Run again it
    does only what is missing. The answer's facts are the headline numbers of all stages, its table the probes.
    """
    from geossl_data.sandbox import build_sandbox

    dataset = folder / "dataset"
    seconds: dict[str, float] = {}

    def timed(name: str, act: Callable[[], Report]) -> Report:
        start = time.monotonic()
        report = act()
        seconds[name] = time.monotonic() - start
        show(report)
        return report

    def planet() -> Report:
        catalog = build_sandbox(folder / "planet", size=size, seed=seed, progress=progress)
        return Report(stage="sandbox", fresh=True, facts={"catalog": str(catalog)})

    catalog = timed("sandbox", planet).facts["catalog"]
    timed("fetch", lambda: fetch(dataset, FetchOptions(catalog=catalog, max_cloud=60), progress=progress))
    timed("sample", lambda: sample(dataset, places.model_copy(update={"seed": seed}), progress=progress))
    written = timed("shard", lambda: shard(dataset, SHARDS, workers=workers, progress=progress))
    timed("pretrain", lambda: pretrain(dataset, training.model_copy(update={"seed": seed}), progress=progress))
    probed = timed(
        "evaluate",
        lambda: evaluate(dataset, JUDGING.model_copy(update={"run": training.run, "seed": seed}), progress=progress),
    )
    headline = {name: written.facts[name] for name in ("places written", "looks", "shards", "MB")}
    return Report(
        stage="demo",
        fresh=True,
        facts=headline | {f"{name} seconds": round(taken, 1) for name, taken in seconds.items()},
        table=probed.table,
        hints=(
            f"geossl report {dataset}",
            f"geossl verify {dataset} --deep",
            f"geossl config {dataset}",
            f"geossl evaluate {dataset} --task retrieval,cross-sensor",
            f"geossl pretrain {dataset} --run simclr --objective simclr --encoder {training.encoder}",
            FetchOptions.example,
        ),
    )
