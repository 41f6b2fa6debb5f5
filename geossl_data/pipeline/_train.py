"""The stages that train an encoder and probe it."""

from pathlib import Path

from geossl_data.errors import DatasetError
from geossl_data.files import remove_folder
from geossl_data.pipeline._folder import MANIFEST, RUNS, SHARDS, Report, need, recipe_of, working_on
from geossl_data.progress import Progress, silent
from geossl_data.recipe import RECIPE_NAME, EvaluateOptions, PretrainOptions, write_recipe


def pretrain(
    folder: Path, options: PretrainOptions | None = None, *, fresh: bool = False, progress: Progress = silent
) -> Report:
    """Train the reference encoder on the train split; resumes an interrupted run. Writes runs/<run>/."""
    from geossl_data.pretrain.loop import train
    from geossl_data.shards.reading.shards import open_shards

    need(folder, MANIFEST, SHARDS, stage="shard")
    options = options or recipe_of(folder).pretrain or PretrainOptions()
    run = folder / RUNS / options.run
    with working_on(folder, options):
        if fresh:
            remove_folder(run)
        result = train(
            open_shards(folder, "train"),
            run,
            objective=options.objective,
            encoder=options.encoder,
            epochs=options.epochs,
            batch_size=options.batch_size,
            crop=options.crop,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            warmup=options.warmup,
            temperature=options.temperature,
            projection_dim=options.projection_dim,
            checkpoint_every=options.checkpoint_every,
            device=options.device,
            seed=options.seed,
            progress=progress,
        )
        write_recipe(run / RECIPE_NAME, recipe_of(folder).with_section(options))
    facts = {"run": options.run, **result.facts()}
    name = "" if options.run == "default" else f" --run {options.run}"
    return Report(stage="pretrain", fresh=result.trained, facts=facts, hints=(f"geossl evaluate{name}",))


def evaluate(folder: Path, options: EvaluateOptions | None = None, *, progress: Progress = silent) -> Report:
    """Probe a run's encoders beside random ones of the same shape. Writes runs/<run>/scores.json."""
    from geossl_data.evaluation.probes import evaluate as probe

    need(folder, MANIFEST, SHARDS, stage="shard")
    options = options or recipe_of(folder).evaluate or EvaluateOptions()
    run = folder / RUNS / options.run
    if not run.is_dir():
        raise DatasetError(
            f"{folder}: no run named {options.run!r}; train one with `geossl pretrain --run {options.run}`"
        )
    with working_on(folder, options):
        scores = probe(
            folder,
            run,
            k=options.k,
            ridge=options.ridge,
            batch_size=options.batch_size,
            device=options.device,
            seed=options.seed,
            progress=progress,
        )
    return Report(stage="evaluate", fresh=True, facts=scores.facts(), table=scores.table())
