"""The stage that judges encoders by labelled places."""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geossl_data.errors import DatasetError
from geossl_data.files import sha256
from geossl_data.pipeline._folder import MANIFEST, RUNS, Report, need, recipe_of, working_on
from geossl_data.progress import Progress, silent
from geossl_data.recipe import EvaluateOptions, parse_fractions

if TYPE_CHECKING:
    from geossl_data.evaluation.bench import ProbeOptions

EVALUATIONS = "evaluations"
EXPORTED = "exported"


def evaluate(folder: Path, options: EvaluateOptions | None = None, *, progress: Progress = silent) -> Report:
    """Judge a run's encoders, or others, by the labels of a dataset folder.

    Writes runs/<run>/scores.json, or evaluations/<name>/scores.json for encoders from elsewhere; beside them the
    bootstrap and pictures. What takes long is kept below features/.
    """
    from geossl_data.evaluation.pictures.scores import score_bars
    from geossl_data.evaluation.probes import CACHE, exported
    from geossl_data.evaluation.probes import evaluate as judge
    from geossl_data.shards.reading.shards import open_shards

    need(folder, MANIFEST, stage="shard")
    options = options or recipe_of(folder).evaluate or EvaluateOptions()
    if options.encoder:
        encoders = _files(options.encoder)
        out = folder / EVALUATIONS / _name(encoders)
    else:
        out = folder / RUNS / options.run
        if not out.is_dir():
            raise DatasetError(
                f"{folder}: no run named {options.run!r}; train one with `geossl pretrain --run {options.run}`, or "
                "name a file with --encoder"
            )
        encoders = exported(out)
    # Encoders from elsewhere are no part of how this folder was made.
    with nullcontext() if options.encoder else working_on(folder, options):
        scores = judge(
            open_shards(folder),
            encoders,
            [name.strip() for name in options.task.split(",")],
            probe_options(options),
            out=out,
            cache=folder / CACHE,
            progress=progress,
        )
        score_bars(out / "scores.png", scores)
    facts = {
        "encoders": ", ".join(scores.facts["encoders"]),
        "architecture": ", ".join(scores.facts["architecture"]),
        **scores.facts["places"],
        "scores": str((out / "scores.json").relative_to(folder)),
    }
    return Report(stage="evaluate", fresh=True, facts=facts, table=scores.table())


def probe_options(options: EvaluateOptions) -> "ProbeOptions":
    """The recipe's section as the evaluation takes it."""
    from geossl_data.evaluation.bench import ProbeOptions

    named = {"auto", "own", "encoder"}
    return ProbeOptions(
        k=options.k,
        temperature=options.temperature,
        ridge=options.ridge,
        fractions=parse_fractions(options.fractions),
        seeds=options.seeds,
        statistics=options.statistics if options.statistics in named else _statistics(Path(options.statistics)),
        target=options.target or None,
        epochs=options.epochs,
        batch_size=options.batch_size,
        supervised=options.supervised,
        finetune=options.finetune,
        crop=options.crop,
        event_share=options.event_percent / 100,
        device=options.device,
        seed=options.seed,
    )


def _statistics(path: Path) -> dict[str, tuple[float, float]]:
    """Band → mean and standard deviation, from a JSON file; DatasetError where it holds anything else."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        found = {str(band): (float(mean), float(std)) for band, (mean, std) in content.items()}
    except OSError as error:
        raise DatasetError(
            f"{path}: statistics are auto, own, encoder or a JSON file that can be read: {error.strerror}"
        ) from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise DatasetError(f'{path}: expected JSON like {{"B04": [mean, deviation]}}') from None
    odd = [band for band, (mean, std) in found.items() if not (math.isfinite(mean) and math.isfinite(std) and std > 0)]
    if odd or not found:
        what = f"band {odd[0]} has no finite mean and deviation above 0" if odd else "no band in it"
        raise DatasetError(f"{path}: {what}")
    return found


def _files(named: str) -> list[Path]:
    """The encoders of `--encoder`: files, or folders of runs; DatasetError where there are none."""
    from geossl_data.evaluation.probes import exported

    found: list[Path] = []
    for path in [Path(name.strip()) for name in named.split(",") if name.strip()]:
        if path.is_file():
            found.append(path)
        elif (path / EXPORTED).is_dir():
            found += exported(path)
        elif path.is_dir() and list(path.glob("*.safetensors")):
            found += sorted(path.glob("*.safetensors"))
        else:
            raise DatasetError(f"{path}: neither an exported encoder nor a folder with some; see runs/<run>/exported/")
    return found


def _name(encoders: Sequence[Path]) -> str:
    """A name for what was judged: that of the run where the files lie in one, and eight digits of their content."""
    where = encoders[0].resolve()
    name = where.parent.parent.name if where.parent.name == EXPORTED else where.stem
    content = hashlib.sha256("".join(sorted(sha256(path) for path in encoders)).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', name)[:64]}-{content[:8]}"
