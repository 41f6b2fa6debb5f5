"""The stage that trains an encoder."""

from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from geossl_data.errors import DatasetError
from geossl_data.pipeline._folder import MANIFEST, RUNS, SHARDS, Report, need, recipe_of, working_on
from geossl_data.progress import Progress, silent
from geossl_data.recipe import RECIPE_NAME, PretrainOptions, write_recipe

if TYPE_CHECKING:
    from geossl_data.pretrain.options import TrainingOptions


def pretrain(
    folder: Path,
    options: PretrainOptions | None = None,
    *,
    fresh: bool = False,
    resume: bool = False,
    progress: Progress = silent,
) -> Report:
    """Train an encoder on the train split; goes on with an interrupted run. Writes runs/<run>/.

    resume: refuse to begin a new run. Started by torchrun, every process calls this; the first one writes.
    """
    from geossl_data.pretrain.checkpoint import CHECKPOINT_NAME
    from geossl_data.pretrain.distributed import ranks_of_environment
    from geossl_data.pretrain.loop import train
    from geossl_data.shards.reading.shards import open_shards

    need(folder, MANIFEST, SHARDS, stage="shard")
    options = options or recipe_of(folder).pretrain or PretrainOptions()
    run = folder / RUNS / options.run
    if resume and not (run / CHECKPOINT_NAME).is_file():
        raise DatasetError(f"{run}: no checkpoint to go on from; leave --resume out to begin")
    first = ranks_of_environment().first
    with working_on(folder, options) if first else nullcontext():
        result = train(
            open_shards(folder, "train"), run, training_options(options), resume=not fresh, progress=progress
        )
        if first:
            write_recipe(run / RECIPE_NAME, recipe_of(folder).with_section(options))
    facts = {"run": options.run, **result.facts()}
    name = "" if options.run == "default" else f" --run {options.run}"
    return Report(stage="pretrain", fresh=result.trained, facts=facts, hints=(f"geossl evaluate{name}",))


def plan_pretrain(folder: Path, options: PretrainOptions) -> Report:
    """What a run would cost: parameters, memory, steps, the data rate needed. Trains nothing and writes nothing."""
    from geossl_data.pretrain.rehearsal import rehearse
    from geossl_data.shards.reading.shards import open_shards

    need(folder, MANIFEST, SHARDS, stage="shard")
    return Report(
        stage="pretrain --dry-run",
        fresh=True,
        facts=rehearse(open_shards(folder, "train"), training_options(options)),
        hints=("geossl pretrain",),
    )


def overfit(folder: Path, options: PretrainOptions, *, progress: Progress = silent) -> Report:
    """Whether the method learns 64 samples by heart, a check of method and data; writes nothing."""
    from geossl_data.pretrain.rehearsal import overfit as learn_by_heart
    from geossl_data.shards.reading.shards import open_shards

    need(folder, MANIFEST, SHARDS, stage="shard")
    facts = learn_by_heart(open_shards(folder, "train"), training_options(options), progress=progress)
    return Report(stage="pretrain --overfit", fresh=True, facts=facts, hints=("geossl pretrain",))


def training_options(options: PretrainOptions) -> "TrainingOptions":
    """The recipe's section as the training half takes it."""
    from geossl_data.pretrain.options import TrainingOptions

    return TrainingOptions(**{field.name: getattr(options, field.name) for field in fields(TrainingOptions)})
