"""What the claims share: the planet, the sweep, and the section of docs/results.md that a claim writes for itself.

A claim is a `Study`: what is said, a sweep that asks it, and which arms to compare. `run` builds the data, runs the
sweep, compares the arms by a bootstrap over places and seeds that pairs them, and writes what came out, with the cost
and the commit. Stopped, it goes on where it was. Differences of less than a point are not called differences.
"""

import argparse
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import geossl_data as gd
from geossl_data.evaluation.bootstrap import Estimate
from geossl_data.files import write_text
from geossl_data.sandbox import build_sandbox
from geossl_data.sweep.cells import sweep_of
from geossl_data.sweep.differences import compare, estimate_of, mean_over_seeds
from geossl_data.sweep.running import run_sweep
from geossl_data.sweep.table import Finished, finished_cells

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results.md"
COMMITS = "commits.txt"
"""File of a study with the commits that have trained for it."""
POINT = 0.01
"""Less than this is no difference, whatever the interval says."""
PLACES = {"looks": "long", "dates": 3, "size": 60, "block_km": 30.0, "val": 0.1, "test": 0.25}
"""Places 600 m wide, in three seasons of two years, split by blocks of 30 km: most regions are in one as a whole."""
TRAINING = {"encoder": "resnet10", "epochs": 3, "batch_size": 64, "crop": 36, "checkpoint_every": 100}
JUDGING = {"seeds": 1, "epochs": 10, "fractions": "25", "supervised": False}
"""Decoders learn from a quarter of the labelled train places: with all of them pretraining would matter less. What an
encoder comes to that is trained with the labels alone is asked once, by `apart.py`."""

HEAD = """# Results

What the founding papers claim, asked again at the size that a small machine can train. Each section is written by the
command that it names (`examples/claims/`), which does all of it: data, training, judging, comparing.

How to read them: values are means over the seeds of training, in brackets the 95 % interval of a bootstrap over judged
places and seeds. A difference is `higher` or `lower` where it is a point (0.01) or more and its interval, paired by
places, leaves out zero; else it is `no difference`. Three seeds are few: drawn with replacement they vary less than
further seeds would, so intervals are rather too narrow.
"""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score to tell of each arm."""

    task: str
    probe: str
    metric: str
    features: str = "s2"
    fraction: float = 0.25

    @property
    def wanted(self) -> dict[str, Any]:
        """The fields that single it out."""
        return {name: getattr(self, name) for name in ("task", "probe", "metric", "features", "fraction")}

    def __str__(self) -> str:
        return f"{self.task}, {self.features}, {self.probe}: {self.metric}"


@dataclass(frozen=True, kw_only=True)
class Study:
    """One claim, and how it is asked."""

    name: str
    """Of the command and of the section."""
    title: str
    claim: str
    """What is said, and by whom."""
    setting: str
    """How it is asked here."""
    arms: Mapping[str, Mapping[str, Any]]
    """Name → options of that arm, `section.option`."""
    comparisons: Sequence[tuple[str, str]]
    """Arm, and the one it is said to be better than."""
    scores: Sequence[Score]
    base: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Sections beyond those that all studies share."""
    seeds: Sequence[int] = (0, 1, 2)
    judged_alike: bool = False
    """Whether all arms are judged by one set of places; else each by those that it draws itself."""
    shards: Callable[[Path], Path] | None = None
    """Makes the shards to train on in a folder, instead of places on the planet."""
    note: str = ""
    """What the numbers say, once they are there."""


def main(study: Study) -> None:
    """The command of a claim."""
    parser = argparse.ArgumentParser(description=f"{study.title}: writes its section of {RESULTS.name}.")
    parser.add_argument(
        "work", type=Path, help="folder for the planet, the datasets and the runs; shared by all claims"
    )
    parser.add_argument("--workers", type=int, help="processes; left out: one for each GPU, else one")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write the section into")
    parser.add_argument("--section-only", action="store_true", help="write the section again from what is there")
    given = parser.parse_args()
    print(run(study, given.work, given.results, workers=given.workers, train=not given.section_only))


def run(study: Study, work: Path, results: Path = RESULTS, *, workers: int | None = None, train: bool = True) -> str:
    """Ask a claim and write its section; the section. train: False takes what an earlier run left."""
    spec, out = spec_of(study, work), work / "studies" / study.name
    if train:
        note_commit(out)
        report = run_sweep(spec, out, workers=workers)
        if report.facts.get("failed"):
            raise SystemExit(f"{out}: cells failed, see failed.csv; the same command tries them again")
    section = section_of(study, finished_cells(sweep_of(spec), out), commits=commits(out))
    write_section(results, study.name, section)
    return section


# ---------------------------------------------------------------------------------------------------------- the data


def pool_of(work: Path) -> Path:
    """A dataset folder that knows the scenes and pairs of the sandbox's world."""
    catalog = build_sandbox(work / "planet", size="world")
    gd.pipeline.fetch(work / "pool", gd.FetchOptions(catalog=str(catalog), max_cloud=60))
    return work / "pool"


def labelled_of(work: Path) -> Path:
    """Shards of the places that all arms of a study are judged by, the same for all studies."""
    pool, folder = pool_of(work), work / "labelled"
    for name in ("scenes.parquet", "pairs.parquet", "recipe.yaml"):
        folder.mkdir(exist_ok=True)
        if not (folder / name).exists():
            os.link(pool / name, folder / name)
    gd.pipeline.sample(folder, gd.SampleOptions(**PLACES))
    gd.pipeline.shard(folder, gd.ShardOptions(shard_mb=32))
    return folder


def spec_of(study: Study, work: Path) -> Path:
    """The sweep of a study as a file, its data built."""
    source = {"pool": str(pool_of(work).resolve())} if study.shards is None else {"shards": str(study.shards(work))}
    shared: dict[str, Mapping[str, Any]] = {"pretrain": TRAINING, "evaluate": JUDGING}
    if study.shards is None:
        shared |= {"sample": PLACES, "shard": {"shard_mb": 32}}
    base = {name: {**shared.get(name, {}), **study.base.get(name, {})} for name in {**shared, **study.base}}
    content: dict[str, Any] = source | {
        "base": base,
        "arms": {name: dict(options) for name, options in study.arms.items()},
        "grid": {"seed": list(study.seeds)},
    }
    if study.judged_alike:
        content["labelled"] = str(labelled_of(work).resolve())
    path = work / "studies" / f"{study.name}.yaml"
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    return path


# ------------------------------------------------------------------------------------------------------- the section


def section_of(study: Study, finished: Sequence[Finished], *, commits: Sequence[str]) -> str:
    """What came out, as Markdown."""
    arms = {name: [one for one in finished if one.cell.arm == name] for name in study.arms}
    complete = {name: cells for name, cells in arms.items() if len(cells) == len(study.seeds)}
    minutes = sum(one.seconds for one in finished) / 60
    lines = [
        f"## {study.title}",
        "",
        _one_line(study.claim),
        "",
        f"**How it is asked.** {_one_line(study.setting)}",
        "",
        f"**Cost.** `python examples/claims/{study.name}.py WORK`: {_counted('training', finished)}, {minutes:.0f} "
        f"minutes of training on {machine()}; {_counted('seed', study.seeds)}: {', '.join(map(str, study.seeds))}; "
        f"commit {', '.join(commits)}.",
        "",
        *_table(
            ("arm", "score", "trained", "by seed", "random", "supervised"),
            [row for name, cells in complete.items() for row in _arm_rows(name, cells, study.scores)],
        ),
    ]
    differences = [
        row
        for one, other in study.comparisons
        if one in complete and other in complete
        for row in _differences(one, other, complete, study.scores)
    ]
    if study.comparisons:
        lines += ["", *_table(("difference", "score", "points", "reading"), differences)]
    return "\n".join([*lines, *(["", _one_line(study.note)] if study.note else [])]) + "\n"


def _counted(what: str, some: Sequence[object]) -> str:
    return f"{len(some)} {what}{'' if len(some) == 1 else 's'}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _arm_rows(name: str, cells: Sequence[Finished], scores: Sequence[Score]) -> list[tuple[str, ...]]:
    rows = []
    for score in scores:
        if not all(one.scores.find(encoder="trained", **score.wanted) for one in cells):
            continue  # an arm of one sensor has no score of the other
        trained = [estimate_of(one.scores, **score.wanted) for one in cells]
        beside = (_beside(cells, score, kind) for kind in ("random", "supervised"))
        values = ", ".join(f"{estimate.value:.3f}" for estimate in trained)
        rows.append((name, str(score), _shown(mean_over_seeds(trained)), values, *beside))
    return rows


def _beside(cells: Sequence[Finished], score: Score, kind: str) -> str:
    """Mean over the seeds of the encoders beside the trained ones."""
    probe = "end-to-end" if kind == "supervised" else score.probe
    found = [
        one.scores.scores[number].value
        for one in cells
        for number in one.scores.find(encoder=kind, **score.wanted | {"probe": probe})
    ]
    known = [value for value in found if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else "–"


def _differences(
    one: str, other: str, cells: Mapping[str, Sequence[Finished]], scores: Sequence[Score]
) -> list[tuple[str, ...]]:
    rows = []
    for score in scores:
        sides = [[cell.scores for cell in cells[name]] for name in (one, other)]
        if not all(found.find(encoder="trained", **score.wanted) for side in sides for found in side):
            continue
        found = compare(sides[0], sides[1], **score.wanted)
        points = f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
        rows.append((f"{one} − {other}", str(score), points, reading(found)))
    return rows


def reading(found: Estimate) -> str:
    """What a difference is called."""
    if found.value >= POINT and found.low > 0:
        return "higher"
    if found.value <= -POINT and found.high < 0:
        return "lower"
    return "no difference"


def _shown(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f}–{found.high:.3f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def machine() -> str:
    """What trained, in a few words."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"{os.cpu_count()} threads of one {platform.machine()} processor"


def commit() -> str:
    """The commit that the code is at, with a mark where it has changes on top."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def note_commit(out: Path) -> None:
    """Add the commit that trains now to those that have trained in this folder."""
    write_text(out / COMMITS, "".join(f"{one}\n" for one in dict.fromkeys([*commits(out), commit()])))


def commits(out: Path) -> list[str]:
    """The commits that have trained in this folder, in their order."""
    path = out / COMMITS
    return path.read_text(encoding="utf-8").split() if path.is_file() else []


def write_section(path: Path, name: str, section: str) -> None:
    """Put a section in its place in the file of results, the others as they are."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    text = path.read_text(encoding="utf-8") if path.is_file() else HEAD
    whole = f"{begin}\n\n{section}\n{end}"
    if begin in text:
        text = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: whole, text, flags=re.DOTALL)
    else:
        text = f"{text.rstrip()}\n\n{whole}\n"
    write_text(path, text)
