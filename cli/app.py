"""The commands: each parses, calls one function of the pipeline, and shows its result."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from geossl_data.errors import RecipeError
from geossl_data.recipe import (
    MOST_REQUESTS,
    EvaluateOptions,
    FetchOptions,
    PlacesOptions,
    PretrainOptions,
    Recipe,
    SampleOptions,
    ShardOptions,
    to_yaml,
)
from geossl_data.version import VERSION

from . import console
from .options import FOLDER, QUIET, VERBOSE, App, number, stage_command, switch, text

if TYPE_CHECKING:
    from geossl_data.pipeline import Report

app = App(
    help="Self-supervised training sets of Sentinel-1 and Sentinel-2: fetch, sample, shard, pretrain.\n\n"
    "Start with: geossl demo\n\n"
    "A dataset is a folder, which every command takes first. What it holds and what comes next: geossl info DIR",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.say(f"geossl {VERSION}")
        raise typer.Exit


@app.callback()
def geossl(
    context: typer.Context,
    quiet: QUIET = False,
    verbose: VERBOSE = 0,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    console.begin(str(context.invoked_subcommand))
    console.behave(quiet=quiet, verbosity=verbose)


FRESH = switch("fresh", "Start this stage over instead of going on.")
JSON = switch("json", "Print the summary as one JSON object.")
AS_JSON = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")]
AS_JSON_LINES = Annotated[
    bool, typer.Option("--json", help="Print a JSON object for each stage, one a line, as it is done.")
]
WORKERS = number("workers", 1, "Processes of a local dask cluster; the bytes written do not depend on it.")


DRY_RUN = switch("dry_run", "Print what would be asked for and what it would cost; ask nothing and write nothing.")
MAX_REQUESTS = number("max_requests", MOST_REQUESTS, "Most requests that this run may make, repeats included.")


def _fetch(folder: Path, options: FetchOptions, *, dry_run: bool, max_requests: int, fresh: bool, json: bool) -> None:
    from geossl_data import pipeline

    if dry_run:
        report = pipeline.plan_fetch(folder, options)
    else:
        report = pipeline.fetch(folder, options, fresh=fresh, max_requests=max_requests, progress=console.progress)
    console.show(report, str(folder), as_json=json)


ANYWHERE = switch(
    "anywhere", "Draw places on land before any catalog is asked, into places.parquet for `geossl fetch --places`."
)


COMPARE = text(
    "compare",
    "NAMES",
    "Draw each of these strategies from the same candidates and tabulate what it covers, as in "
    "uniform,geography,cities; writes compare.csv and compare.png, no samples.",
)
READERS = number("workers", 2, "Threads that read overviews where change is measured; no result depends on it.")


def _sample(
    folder: Path,
    options: SampleOptions,
    *,
    anywhere: bool,
    compare: str | None,
    workers: int,
    fresh: bool,
    json: bool,
) -> None:
    from geossl_data import pipeline

    if anywhere and (options.weight_by != "none" or compare is not None):
        raise RecipeError("--anywhere knows land and strata only; --weight-by and --compare need candidates of a fetch")
    if anywhere:
        places = PlacesOptions(**{name: getattr(options, name) for name in PlacesOptions.model_fields})
        report = pipeline.draw_places(folder, places, fresh=fresh, progress=console.progress)
    elif compare is not None:
        names = [name.strip() for name in compare.split(",")]
        report = pipeline.compare(folder, names, options, workers=workers, progress=console.progress)
    else:
        report = pipeline.sample(folder, options, workers=workers, fresh=fresh, progress=console.progress)
    console.show(report, str(folder), as_json=json)


SCHEDULER = text(
    "scheduler",
    "ADDRESS",
    "Let the workers of a running dask scheduler cut the shards, as in tcp://10.0.0.1:8786; they may come and go, have "
    "to see the dataset folder under the same path, and change no byte.",
)


def _shard(
    folder: Path, options: ShardOptions, *, workers: int, scheduler: str | None, fresh: bool, json: bool
) -> None:
    from geossl_data import pipeline

    if scheduler is not None and workers > 1:
        raise RecipeError("--workers starts processes here, --scheduler has its own; give one of them")
    report = pipeline.shard(
        folder, options, workers=workers, scheduler=scheduler, fresh=fresh, progress=console.progress
    )
    console.show(report, str(folder), as_json=json)


COST = switch("dry_run", "Print parameters, memory, steps and the data rate needed; train nothing, write nothing.")
OVERFIT = switch("overfit", "Check that the method learns 64 samples by heart; writes nothing.")
RESUME = switch("resume", "Go on with the run; an error where there is none. Without it a run goes on or begins.")


def _pretrain(
    folder: Path, options: PretrainOptions, *, dry_run: bool, overfit: bool, resume: bool, fresh: bool, json: bool
) -> None:
    from geossl_data import pipeline

    if dry_run + overfit + resume + fresh > 1:
        raise RecipeError("--dry-run, --overfit, --resume and --fresh exclude each other; give one")
    if not console.speaks():
        logging.disable(logging.WARNING)  # the first process says it for all
    if dry_run:
        report = pipeline.plan_pretrain(folder, options)
    elif overfit:
        report = pipeline.overfit(folder, options, progress=console.progress)
    else:
        report = pipeline.pretrain(folder, options, fresh=fresh, resume=resume, progress=console.progress)
    console.show(report, str(folder), as_json=json)


def _evaluate(folder: Path, options: EvaluateOptions, *, json: bool) -> None:
    from geossl_data import pipeline

    report = pipeline.evaluate(folder, options, progress=console.progress)
    console.show(report, str(folder), as_json=json)


stage_command(
    app,
    FetchOptions,
    _fetch,
    short="Search a catalog and pair the two sensors.",
    extra=(DRY_RUN, MAX_REQUESTS, FRESH, JSON),
)
stage_command(
    app,
    SampleOptions,
    _sample,
    short="Draw places among the pairs.",
    extra=(ANYWHERE, COMPARE, READERS, FRESH, JSON),
)
stage_command(
    app,
    ShardOptions,
    _shard,
    short="Cut the places out and store them as shards.",
    extra=(WORKERS, SCHEDULER, FRESH, JSON),
)
stage_command(
    app,
    PretrainOptions,
    _pretrain,
    short="Train an encoder from the shards.",
    extra=(COST, OVERFIT, RESUME, FRESH, JSON),
)
stage_command(app, EvaluateOptions, _evaluate, short="Judge an encoder by labelled places.", extra=(JSON,))


@app.command(
    short_help="Tell what a folder holds and what comes next.",
    help="Tell what a dataset folder holds, what of it is stale or unfinished, and what to type next. Reads only, also "
    "while another process works on the folder.\n\nExample: geossl info mydata",
)
def info(folder: FOLDER = Path(), as_json: AS_JSON = False) -> None:
    from geossl_data import pipeline

    found = pipeline.info(folder)
    if as_json:
        console.show_json(found.content())
    else:
        console.show(found.report(), str(folder), words=True, asked=True)


@app.command(
    short_help="Check shards, manifest and provenance.",
    help="Check that shards, manifest and provenance are what they say they are; warnings alone are no failure.\n\n"
    "Example: geossl verify mydata --deep",
)
def verify(
    folder: FOLDER = Path(),
    deep: Annotated[bool, typer.Option("--deep", help="Decode every member as well, and look at its pixels.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON object.")] = False,
) -> None:
    from geossl_data import pipeline
    from geossl_data.errors import ShardError

    findings = pipeline.verify(folder, deep=deep, progress=console.progress)
    n_errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        console.show_json(
            {
                "stage": "verify",
                "errors": n_errors,
                "warnings": len(findings) - n_errors,
                "findings": [
                    {"severity": finding.severity, "where": finding.where, "what": finding.what} for finding in findings
                ],
            }
        )
    elif findings:
        console.table(
            [("severity", "where", "finding"), *((found.severity, found.where, found.what) for found in findings)],
            words=True,
        )
    if n_errors:
        raise ShardError(
            f"{folder}: {len(findings)} findings, {n_errors} of them errors; "
            "`geossl shard --fresh` writes the shards anew"
        )
    if not as_json:
        console.summarise("verify\n  " + (f"no errors, {len(findings)} warnings" if findings else "no findings"))
        for splits, km in pipeline.nearest_splits(folder).items():
            console.summarise(f"  nearest {splits}  {km:.2f} km")


@app.command(
    short_help="Write a page that shows what a folder holds.",
    help="Write report.html, one page that shows what a dataset folder holds: maps, samples, histograms, checks, runs. "
    "It opens from disk, without a network.\n\nExample: geossl report mydata",
)
def report(
    folder: FOLDER = Path(),
    places: Annotated[
        int, typer.Option("--places", min=0, metavar="N", help="Most places whose looks are shown as pictures.")
    ] = 24,
    as_json: AS_JSON = False,
) -> None:
    from geossl_data import pipeline

    written = pipeline.report(folder, places=places, progress=console.progress)
    console.show(written, str(folder), as_json=as_json, verbatim=True)


@app.command(
    short_help="Write places as GeoTIFF or plain .npy shards.",
    help="Write a place as GeoTIFFs that QGIS opens, or the samples as a dataset of plain .npy shards.\n\n"
    "Example: geossl export mydata --position 3",
)
def export(
    folder: FOLDER = Path(),
    key: Annotated[str | None, typer.Option("--key", help="Key of the sample to write.")] = None,
    position: Annotated[
        int | None,
        typer.Option("--position", min=0, metavar="N", help="Its position in the manifest instead, from 0."),
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None, typer.Option("--split", help="All samples of one split.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All samples.")] = False,
    to: Annotated[
        Literal["geotiff", "npy"],
        typer.Option(
            "--to",
            help="geotiff: a file for each look and member, the first sample unless others are named; "
            "npy: a dataset of plain NumPy files, all samples unless some are named.",
        ),
    ] = "geotiff",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; exported/ in the dataset's when left out.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace what an earlier export wrote there.")] = False,
    as_json: AS_JSON = False,
) -> None:
    from geossl_data import pipeline

    if key is not None and position is not None:
        raise RecipeError("--key and --position exclude each other; give one")
    wanted = key if key is not None else position
    report = pipeline.export(
        folder, wanted, to=to, split=split, everything=everything, out=out, fresh=fresh, progress=console.progress
    )
    console.show(report, str(folder), as_json=as_json)


@app.command(
    short_help="Replay a recipe: all of its stages.",
    help="Replay a recipe: every stage that it has a section for.\n\nExample: geossl run recipe.yaml --out mydata",
)
def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe.yaml to replay.", metavar="RECIPE")],
    out: Annotated[Path, typer.Option("--out", help="Dataset folder to write.")],
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes that cut shards.")] = 1,
    as_json: AS_JSON_LINES = False,
) -> None:
    from geossl_data import pipeline

    for report in pipeline.run(recipe, out, workers=workers, progress=console.progress):
        console.show(report, str(out), as_json=as_json, hints=False)


@app.command(
    short_help="Train and judge a grid of recipes over one pool.",
    help="Train and judge a grid of recipes over one pool, going on where it was stopped. Writes one table of all "
    "scores and a picture.\n\nExample: geossl sweep examples/sweep.yaml --out study",
)
def sweep(
    spec: Annotated[
        Path, typer.Argument(help="The YAML file that says what varies; examples/sweep.yaml is one.", metavar="SPEC")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, metavar="N", help="Processes; left out: one for each GPU, else one.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and the datasets that they share; train nothing.")
    ] = False,
    as_json: AS_JSON = False,
) -> None:
    from geossl_data.errors import TrainingError
    from geossl_data.sweep.running import plan_sweep, run_sweep

    if dry_run:
        report = plan_sweep(spec, out, workers=workers)
    else:
        report = run_sweep(spec, out, workers=workers, progress=console.progress)
    console.show(report, str(out), as_json=as_json)
    if report.facts.get("failed"):
        raise TrainingError(
            f"{out}: {report.facts['failed']} of {report.facts['cells']} cells failed, see failed.csv; the same "
            "command tries them again"
        )


@app.command(
    short_help="Print the recipe of a folder, or a complete one.",
    help="Print the recipe of a dataset folder, or a complete one with the defaults where there is none.\n\n"
    "Example: geossl config > recipe.yaml",
)
def config(
    folder: FOLDER = Path(),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the recipe as one JSON object, which can be replayed as well.")
    ] = False,
) -> None:
    from geossl_data import pipeline

    present = pipeline.recipe_of(folder)
    recipe = Recipe.complete() if present == Recipe() else present
    if as_json:
        console.show_json(recipe.model_dump(mode="json", by_alias=True))
    else:
        console.say(to_yaml(recipe).rstrip())


@app.command(
    short_help="Write the synthetic planet.",
    help="Write the synthetic planet: scenes, catalog, truth.\n\nExample: geossl sandbox planet --size small --seed 0",
)
def sandbox(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write; the catalog is catalog.parquet in it.", metavar="DIR")
    ],
    size: Annotated[
        Literal["tiny", "small", "large", "world"], typer.Option("--size", help="How much ground.")
    ] = "small",
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the planet.")] = 0,
    as_json: AS_JSON = False,
) -> None:
    from geossl_data.pipeline import Report
    from geossl_data.sandbox import build_sandbox

    start = time.monotonic()
    catalog = build_sandbox(folder, size=size, seed=seed, progress=console.progress)
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    report = Report(
        stage="sandbox",
        fresh=True,
        facts={"catalog": str(catalog), "MB": round(megabytes), "seconds": round(time.monotonic() - start)},
        hints=(f"geossl fetch mydata --catalog {catalog}",),
    )
    console.show(report, str(folder), as_json=as_json, verbatim=True)


@app.command(
    short_help="Run the whole chain on the synthetic planet.",
    help="Run the whole chain on the synthetic planet and show that the encoder learned.\n\n"
    "Example: geossl demo mydemo",
)
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to write.", metavar="DIR")] = Path("geossl-demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of planet, places and training.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes that cut shards.")] = 2,
    as_json: AS_JSON_LINES = False,
) -> None:
    from geossl_data.demo import run_demo

    def show(report: "Report") -> None:
        console.show(report, str(folder), as_json=as_json, hints=False)
        if not as_json:
            console.summarise("")

    result = run_demo(folder, seed=seed, workers=workers, progress=console.progress, show=show)
    console.show(result, str(folder), as_json=as_json, verbatim=True)


def main() -> None:
    """Entry point of the `geossl` command."""
    raise SystemExit(console.run_app(app))


if __name__ == "__main__":
    main()
