"""What a dataset folder holds, what of it is stale, and what comes next. Reads only, and takes no lock."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from geossl_data import tables
from geossl_data.errors import DatasetError, GeosslError, RecipeError
from geossl_data.files import LOCK_NAME, TEMPORARY_SUFFIX
from geossl_data.pipeline._drawing import by_content
from geossl_data.pipeline._fetch import FETCH_PATHS, fingerprint_for
from geossl_data.pipeline._folder import (
    HEADERS,
    MANIFEST,
    PAIRS,
    PLACES,
    REJECTED,
    RUNS,
    SAMPLES,
    SCENES,
    SHARDS,
    SKIPPED,
    YIELD,
    Report,
    fingerprint_of,
    recipe_of,
)
from geossl_data.pipeline._own import RASTERS
from geossl_data.pipeline._pool import complete
from geossl_data.pipeline._run_info import EVALUATIONS, FEATURES, RunState, judged, run_state
from geossl_data.recipe import RECIPE_NAME, Recipe

State = Literal["done", "stale", "unfinished", "missing", "unreadable"]

OTHER = "recipe.yaml says otherwise, or what it was made from changed"
_LOCKS = Path("/proc/locks")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageInfo:
    """What a folder holds of one stage."""

    stage: str
    """With the name of the run where there are several, as in `pretrain default`."""
    state: State
    """stale: it stands, but would come out differently today. unfinished: a run of it was interrupted, or goes on."""
    holds: Mapping[str, int] = field(default_factory=dict)
    """What → how many."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Reason → how many items were given up for it."""
    nbytes: int = 0
    """Of its files."""
    remark: str = ""
    """Why it is not done, or what else is to be known."""
    command: str = ""
    """What makes it as it should be, without the folder; empty where it is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What a folder holds, by the order of the stages."""

    folder: Path
    """The one that was asked about."""
    version: str | None
    """Of geossl, that wrote the recipe last; None where there is no recipe."""
    stages: tuple[StageInfo, ...]
    """Those that a dataset goes through, then one for each run."""
    nbytes: int
    """Of all files."""
    cache_nbytes: int
    """Of those that can be deleted, and are made again where they are needed."""
    busy: int | None
    """The process that works on the folder at the moment, as far as the system tells."""
    remarks: tuple[str, ...]
    """What else is to be known of the folder as a whole."""
    next: tuple[str, ...]
    """Commands without the folder; none while another process works on it."""

    def report(self) -> Report:
        """The same for people."""
        facts: dict[str, Any] = {"written by": f"geossl {self.version}"} if self.version else {}
        facts["MB"] = f"{self.nbytes / 1e6:,.1f}"
        if self.cache_nbytes:
            facts["MB"] += f", {self.cache_nbytes / 1e6:,.1f} of it caches that can be deleted"
        if self.busy is not None:
            facts["at work"] = f"process {self.busy}"
        if self.remarks:
            facts["remarks"] = "; ".join(self.remarks)
        table: list[tuple[str, ...]] = [("stage", "state", "holds", "MB", "remark")]
        table += [
            (stage.stage, stage.state, _counted(stage), f"{stage.nbytes / 1e6:,.1f}", stage.remark)
            for stage in self.stages
        ]
        if not any(stage.remark for stage in self.stages):
            table = [row[:-1] for row in table]
        return Report(stage="info", fresh=True, facts=facts, table=tuple(table), hints=self.next)

    def content(self) -> dict[str, Any]:
        """The same for scripts."""
        return {
            "stage": "info",
            "folder": str(self.folder),
            "version": self.version,
            "bytes": self.nbytes,
            "cache_bytes": self.cache_nbytes,
            "busy": self.busy,
            "stages": [
                {"bytes" if name == "nbytes" else name: value for name, value in asdict(stage).items()}
                for stage in self.stages
            ],
            "remarks": list(self.remarks),
            "next": list(self.next),
        }


def info(folder: Path) -> Info:
    """What `folder` holds, what of it is stale or unfinished, and what comes next; also while it is worked on.

    A stage is stale where its options in the recipe, or what it was made from, are not those that its files carry the
    fingerprint of. Raises DatasetError for a folder that no stage has written anything into.
    """
    from geossl_data.scenes.journal import JOURNAL_NAME

    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    if not any((folder / name).exists() for name in (RECIPE_NAME, PLACES, SCENES, SAMPLES, MANIFEST, JOURNAL_NAME)):
        raise DatasetError(f"{folder}: not a geossl dataset (no {RECIPE_NAME}); start with `geossl fetch`")
    busy, remarks = holder(folder / LOCK_NAME), []
    try:
        recipe: Recipe | None = recipe_of(folder)
    except (RecipeError, OSError) as error:
        recipe = None
        remarks.append(f"{error}; nothing is known to be stale")
    left = 0 if busy is not None else sum(1 for _ in folder.glob(f".*{TEMPORARY_SUFFIX}"))
    if left:
        remarks.append(f"{left} files were left by a process that did not end; the next stage deletes them")
    stages = _stages(folder, recipe)
    caches = (FEATURES, HEADERS, RASTERS)
    return Info(
        folder=folder,
        version=recipe.geossl if recipe is not None and (folder / RECIPE_NAME).is_file() else None,
        stages=tuple(stages),
        nbytes=nbytes_of([folder]),
        cache_nbytes=nbytes_of(folder / name for name in caches),
        busy=busy,
        remarks=tuple(remarks),
        next=() if busy is not None else _next(stages),
    )


def holder(lock: Path) -> int | None:
    """The process that holds a lock file, as Linux tells it without asking for the lock; None where nobody does."""
    try:
        state, text = lock.stat(), _LOCKS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    wanted = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}:{state.st_ino}"
    for line in text.splitlines():
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == wanted and words[4].isdigit():
            return int(words[4])
    return None


def nbytes_of(paths: Iterable[Path]) -> int:
    """Bytes of files and of all below folders; what vanishes meanwhile counts nothing."""
    total = 0
    for path in paths:
        inside = [Path(root, name) for root, _, names in os.walk(path) for name in names] if path.is_dir() else [path]
        for file in inside:
            try:
                total += file.lstat().st_size
            except OSError:
                continue
    return total


# ------------------------------------------------------------------------------------------------ stages


def _stages(folder: Path, recipe: Recipe | None) -> list[StageInfo]:
    of_own = recipe is not None and recipe.shard is not None and bool(recipe.shard.from_table)
    looks: list[tuple[str, str, Callable[[Path, Recipe | None], StageInfo]]] = [("shard", "shard", _shard)]
    if not of_own:
        looks = [("fetch", "fetch", _fetch), ("sample", "sample", _sample), *looks]
    if (folder / PLACES).exists() or (recipe is not None and recipe.places is not None):
        looks = [("places", "sample --anywhere", _places), *looks]
    stages: list[StageInfo] = []
    for stage, command, look in looks:
        stages.append(_after(stages, _looked_at(stage, command, partial(look, folder, recipe))))
    # Where shards stand, as in a folder from elsewhere, nobody misses what they were made from.
    standing = [stage.state != "missing" for stage in stages]
    stages = [stage for number, stage in enumerate(stages) if standing[number] or not any(standing[number:])]
    stages = [replace(stage, skipped=counts) for stage, counts in zip(stages, _skipped(folder, stages), strict=True)]
    upstream = stages[-1]
    for path in sorted(path for path in (folder / RUNS).glob("*") if path.is_dir()):
        run, named = path.name, _run_option(path.name)
        look = partial(_pretrain, folder, recipe, run)
        trained = _after([upstream], _looked_at(f"pretrain {run}", f"pretrain{named}", look))
        stages.append(trained)
        if (path / "scores.json").exists():
            stages.append(_after([trained], _judged(f"evaluate {run}", folder, path, f"evaluate{named}")))
    for path in sorted((folder / EVALUATIONS).glob("*/scores.json")):
        name = path.parent.name
        stages.append(_after([upstream], _judged(f"evaluate {name}", folder, path.parent, "evaluate --encoder …")))
    return stages


def _looked_at(stage: str, command: str, look: Callable[[], StageInfo]) -> StageInfo:
    """What a look at a stage finds, damage included."""
    try:
        return look()
    except (GeosslError, OSError) as error:
        remark = str(error)
    except (KeyError, TypeError, ValueError, AttributeError):
        remark = "its files hold something else than geossl writes"
    return StageInfo(stage=stage, state="unreadable", remark=remark, command=f"{command} --fresh")


def _after(before: Sequence[StageInfo], stage: StageInfo) -> StageInfo:
    """A stage that is stale where the one before it is, since it would be made from something else."""
    if stage.state != "done" or not before or before[-1].state in ("done", "missing"):
        return stage
    return replace(stage, state="stale", remark=f"{before[-1].stage} is {before[-1].state}", command=_anew(stage.stage))


def _anew(stage: str) -> str:
    """What to type to make a stage of what changed before it."""
    kind, _, run = stage.partition(" ")
    named = _run_option(run) if run else ""
    return f"{kind}{named} --fresh" if kind in ("shard", "pretrain") else f"{kind}{named}"


def _run_option(run: str) -> str:
    return "" if run == "default" else f" --run {run}"


def _state(made: str | None, wanted: str | None) -> State:
    """wanted: None where nobody can tell."""
    return "done" if wanted is None or made == wanted else "stale"


def _compared(stage: StageInfo, *, command: str) -> StageInfo:
    """The stage with what makes it and a remark where it is stale."""
    return stage if stage.state == "done" else replace(stage, remark=stage.remark or OTHER, command=command)


def _places(folder: Path, recipe: Recipe | None) -> StageInfo:
    path = folder / PLACES
    if not path.exists():
        return StageInfo(stage="places", state="missing", command="sample --anywhere")
    options = recipe.places if recipe is not None else None
    found = StageInfo(
        stage="places",
        state=_state(fingerprint_of(path), None if options is None else by_content(options).fingerprint()),
        holds=_splits(path, "split"),
        nbytes=nbytes_of([path]),
    )
    return _compared(found, command="sample --anywhere")


def _fetch(folder: Path, recipe: Recipe | None) -> StageInfo:
    from geossl_data.scenes.journal import JOURNAL_NAME

    options = recipe.fetch if recipe is not None else None
    answers = sum(1 for _ in (folder / JOURNAL_NAME).glob("*.json.gz"))
    command = "fetch" if options is not None or not (folder / PLACES).exists() else "fetch --places … --from … --to …"
    unfinished = f"a search was interrupted after {answers:,} answers"
    if not (folder / PAIRS).exists() or not (folder / SCENES).exists():
        if answers:
            return StageInfo(stage="fetch", state="unfinished", remark=unfinished, command=command)
        return StageInfo(stage="fetch", state="missing", command=command)
    gone = [] if options is None else _gone(getattr(options, name) for name in FETCH_PATHS)
    known = options is not None and not gone
    wanted = fingerprint_for(folder, options) if options is not None and known else None
    made, notes = fingerprint_of(folder / PAIRS), tables.read_metadata(folder / PAIRS)
    state = _state(made if made == fingerprint_of(folder / SCENES) else None, wanted)
    found = StageInfo(
        stage="fetch",
        state="unfinished" if answers else state,
        holds={
            "Sentinel-2 scenes": int(notes["n_s2"]),
            "Sentinel-1 scenes": int(notes["n_s1"]),
            "pairs": len(_column(folder / PAIRS, "rank")),
        },
        nbytes=nbytes_of(folder / name for name in (SCENES, PAIRS, YIELD)),
        remark=unfinished if answers else f"{gone[0]} is not there any more" if gone else "",
    )
    return _compared(found, command="fetch")


def _gone(paths: Iterable[str | None]) -> list[str]:
    return [path for path in paths if path is not None and Path(path).is_absolute() and not Path(path).exists()]


def _sample(folder: Path, recipe: Recipe | None) -> StageInfo:
    path = folder / SAMPLES
    if not path.exists():
        return StageInfo(stage="sample", state="missing", command="sample")
    wanted = None
    if recipe is not None and recipe.sample is not None and (folder / PAIRS).exists():
        wanted = by_content(complete(folder, recipe.sample)).fingerprint(fingerprint_of(folder / PAIRS) or "")
    made = fingerprint_of(path)
    found = StageInfo(
        stage="sample",
        state=_state(made if made == fingerprint_of(folder / REJECTED) else None, wanted),
        holds=_splits(path, "split"),
        nbytes=nbytes_of(folder / name for name in (SAMPLES, REJECTED, "measures.parquet", "change", "pictures")),
    )
    return _compared(found, command="sample")


def _shard(folder: Path, recipe: Recipe | None) -> StageInfo:
    from geossl_data.shards.manifest import PREFIX
    from geossl_data.shards.writing.journal import JOURNAL_FOLDER

    options, path = recipe.shard if recipe is not None else None, folder / MANIFEST
    nbytes = nbytes_of([path, folder / SHARDS])
    if not path.exists():
        finished = sum(1 for _ in (folder / SHARDS / JOURNAL_FOLDER).glob("*.json"))
        if finished:
            holds = {"shards": finished}
            return StageInfo(stage="shard", state="unfinished", holds=holds, nbytes=nbytes, command="shard")
        return StageInfo(stage="shard", state="missing", command="shard")
    notes = tables.read_metadata(path)
    wanted, remark = None, ""
    if options is not None and options.from_table:
        remark = "whether the table changed is found out by `geossl shard`"
    elif options is not None and (folder / SAMPLES).exists():
        wanted = options.fingerprint(fingerprint_of(folder / SAMPLES) or "")
    looks = _column(path, f"{PREFIX}n_looks")
    holds = {"places": len(looks), "looks": sum(looks), "shards": len(notes["shards"])}
    state = _state(fingerprint_of(path), wanted)
    location = notes.get("location")
    if location is not None:
        remark = f"in {location}"
        nbytes += sum(int(shard["nbytes"]) for shard in notes["shards"].values())
    elif state == "done":
        broken = [name for name, shard in notes["shards"].items() if not _has_size(folder / SHARDS / name, shard)]
        if broken:
            remark = f"{len(broken)} shards are missing or cut short, {broken[0]} first"
            return StageInfo(
                stage="shard", state="unfinished", holds=holds, nbytes=nbytes, remark=remark, command="shard"
            )
    found = StageInfo(stage="shard", state=state, holds=holds, nbytes=nbytes, remark="" if state == "stale" else remark)
    return _compared(found, command="shard --fresh")


def _has_size(path: Path, shard: Mapping[str, Any]) -> bool:
    try:
        return bool(path.stat().st_size == shard["nbytes"])
    except OSError:
        return False


def _pretrain(folder: Path, recipe: Recipe | None, run: str) -> StageInfo:
    path, name = folder / RUNS / run, f"pretrain {run}"
    found: RunState = run_state(path)
    holds = {"steps": found.steps, "epochs": found.epochs, "encoders": found.n_encoders}
    nbytes, named = nbytes_of([path]), _run_option(run)
    if not found.is_finished:
        remark = "interrupted, or under way" + (
            f", in epoch {found.epochs} of {found.of_epochs}" if found.epochs else ""
        )
        command = f"pretrain{named}"
        return StageInfo(stage=name, state="unfinished", holds=holds, nbytes=nbytes, remark=remark, command=command)
    shards = fingerprint_of(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
    remark = ""
    if shards is not None and found.shards not in (None, shards):
        remark = "trained on other shards than those here"
    elif recipe is not None and recipe.pretrain is not None and recipe.pretrain.run == run:
        changed = found.changed(recipe.pretrain)
        remark = f"recipe.yaml has another {', '.join(changed[:3])}" if changed else ""
    state: State = "stale" if remark else "done"
    command = f"pretrain{named} --fresh" if remark else ""
    return StageInfo(stage=name, state=state, holds=holds, nbytes=nbytes, remark=remark, command=command)


def _judged(stage: str, folder: Path, path: Path, command: str) -> StageInfo:
    """What is known of the scores in a folder."""

    def look() -> StageInfo:
        n_scores, by = judged(path / "scores.json")
        here = fingerprint_of(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
        other = here is not None and by not in (None, here)
        return StageInfo(
            stage=stage,
            state="stale" if other else "done",
            holds={"scores": n_scores},
            nbytes=nbytes_of(path / name for name in ("scores.json", "bootstrap.npz", "scores.png")),
            remark="judged by other shards than those here" if other else "",
            command=command if other else "",
        )

    found = _looked_at(stage, command, look)
    return replace(found, command=command) if found.state == "unreadable" else found


# ------------------------------------------------------------------------------------------------ tables


def _column(path: Path, name: str) -> list[Any]:
    table = tables.open_parquet(path, [name])
    if name not in table.column_names:
        raise DatasetError(f"{path}: has no {name}; another version wrote it")
    return list(table[name].to_pylist())


def _splits(path: Path, column: str) -> dict[str, int]:
    from geossl_data.records import SPLITS

    splits = Counter(_column(path, column))
    return {"places": sum(splits.values()), **{split: splits[split] for split in SPLITS}}


def _skipped(folder: Path, stages: Sequence[StageInfo]) -> list[dict[str, int]]:
    """For each stage, reasons and their counts; none where the table cannot be read."""
    path = folder / SKIPPED
    try:
        rows = list(zip(_column(path, "stage"), _column(path, "reason"), strict=True)) if path.is_file() else []
    except (DatasetError, OSError):
        rows = []
    return [dict(sorted(Counter(reason for of, reason in rows if of == stage.stage).items())) for stage in stages]


def _counted(stage: StageInfo) -> str:
    counts = [f"{count:,} {name.removesuffix('s') if count == 1 else name}" for name, count in stage.holds.items()]
    n_skipped = sum(stage.skipped.values())
    return ", ".join([*counts, *([f"{n_skipped:,} skipped"] if n_skipped else [])])


def _next(stages: Sequence[StageInfo]) -> tuple[str, ...]:
    """What to type: what mends the first stage that is not done, else what nobody has done yet."""
    for stage in stages:
        if stage.command:
            return (f"geossl {stage.command}",)
    runs = [stage.stage.partition(" ")[2] for stage in stages if stage.stage.startswith("pretrain ")]
    if not runs:
        return ("geossl verify", "geossl pretrain")
    scored = {stage.stage.partition(" ")[2] for stage in stages if stage.stage.startswith("evaluate ")}
    missing = [f"geossl evaluate{_run_option(run)}" for run in runs if run not in scored]
    return tuple(missing[:3]) or ("geossl verify --deep", "geossl report")
