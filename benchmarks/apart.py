"""Whether a labelled planet tells methods apart: supervised training from scratch beside random features.

    python benchmarks/apart.py FOLDER                         a world planet and its datasets are made there once
    python benchmarks/apart.py FOLDER --tasks class --sensors s1 --epochs 16 --seeds 3

A task on which random features are as good as an encoder trained with all labels cannot show what pretraining is worth,
nor can one that the supervised encoder solves. So it should hold that random ≤ supervised − 0.15 and supervised ≤ 0.95.

    class    land class of a look: accuracy; random features with kNN (k 20) and ridge, or all learnt from the labels
    pixels   land class of each pixel: mIoU; a light decoder on the frozen random encoder, or all learnt
    change   pixels that changed between the first and the last look: F1; the same decoders, on differences
    floods   the same for floods alone: F1

FOLDER/seasons teaches and judges class and pixels, FOLDER/long the others. Places of 60 px; train places teach, test
places judge. Numbers are means over the seeds, in brackets the lowest and the highest.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from geossl_data import pipeline
from geossl_data.evaluation.classifiers import knn_votes, ridge_responses
from geossl_data.evaluation.decoders import ChangeHead, Head, ImageHead, MapHead
from geossl_data.evaluation.features import features
from geossl_data.evaluation.labels import change_maps_of, classes_of, maps_of
from geossl_data.evaluation.learning import Answer, Settings, learn, predict
from geossl_data.evaluation.rows import Rows, Sides, looks_of, pairs_of, sides_of
from geossl_data.evaluation.sight import Sight, fresh, sight_of
from geossl_data.pretrain.encoders import build_encoder
from geossl_data.pretrain.info import EncoderInfo
from geossl_data.pretrain.normalisation import normalisation
from geossl_data.recipe import FetchOptions, SampleOptions, ShardOptions
from geossl_data.sandbox import build_sandbox
from geossl_data.shards.manifest import MANIFEST_NAME
from geossl_data.shards.reading.shards import Shards, open_shards

LEAST_LEAD, MOST = 0.15, 0.95
RARE = 0.5
"""Balance of the losses of what few pixels are."""
Result = tuple[str, float]
Task = Callable[["Data", Sight, "Effort"], Iterator[Result]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A dataset, and the rows of a task in it."""

    shards: Shards
    rows: Rows
    sides: Sides


def made(folder: Path, looks: Literal["seasons", "long"], workers: int) -> Path:
    """The dataset `folder`/`looks`, made of a world planet in `folder`/planet where there is none."""
    dataset = folder / looks
    if not (dataset / MANIFEST_NAME).is_file():
        catalog = build_sandbox(folder / "planet", size="world")
        pipeline.fetch(dataset, FetchOptions(catalog=str(catalog), max_cloud=60))
        pipeline.sample(dataset, SampleOptions(size=60, looks=looks, dates=2, block_km=3.0, val=0.1, test=0.25))
        pipeline.shard(dataset, ShardOptions(shard_mb=32), workers=workers)
    return dataset


def eye(shards: Shards, sensor: str, seed: int) -> Sight:
    """A resnet10 with fresh weights that sees a sensor."""
    statistics = normalisation(shards.notes, shards.members, sensor)
    info = EncoderInfo(encoder="resnet10", patch=16, normalisations=(statistics,), objective="none", epochs=0)
    return fresh(sight_of([(build_encoder("resnet10", info.bands, seed=seed), info)], shards, (sensor,)), seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long decoders and encoders learn."""

    epochs: int
    crop: int
    """Side of the windows from which encoders learn dense tasks; 0: whole places."""
    seed: int

    def settings(self, *, frozen: bool, crop: int = 0, balance: float = 0.0) -> Settings:
        """Those of `learn`."""
        return Settings(
            frozen=frozen,
            seed=self.seed,
            epochs=self.epochs,
            crop=0 if frozen else crop,
            balance=balance,
            batch_size=16,
            least_steps=1,
        )


def classification(data: Data, sight: Sight, effort: Effort) -> Iterator[Result]:
    """Accuracy of the class of a look."""
    truth, names = classes_of(data.shards, data.rows)
    train, test = (side[truth[side] >= 0] for side in (data.sides.train, data.sides.test))
    found = features({"random": sight}, data.shards, data.rows.order)["random"]
    votes = knn_votes(found[train], truth[train], found[test], len(names))
    yield "random, kNN", float(np.mean(votes.argmax(axis=1) == truth[test]))
    responses = ridge_responses(found[train], np.eye(len(names))[truth[train]], found[test])
    yield "random, ridge", float(np.mean(responses.argmax(axis=1) == truth[test]))
    head = ImageHead(sight, len(names))
    learn(sight, head, data.shards, data.rows, train, truth, "class", effort.settings(frozen=False))
    answer = predict(sight, head, data.shards, data.rows, test, "class").argmax(axis=1)
    yield "supervised", float(np.mean(answer == truth[test]))


def dense(
    data: Data,
    sight: Sight,
    effort: Effort,
    head: Head,
    truth: NDArray[np.uint8],
    score: Callable[[NDArray[np.uint8], NDArray[np.uint8]], float],
    *,
    balance: float = 0.0,
) -> Iterator[Result]:
    """A decoder on the frozen random encoder, then decoder and encoder together."""
    kind: Answer = "map"
    size = truth.shape[1:]
    for name, frozen in (("random, decoder", True), ("supervised", False)):
        chosen = effort.settings(frozen=frozen, crop=effort.crop, balance=balance)
        learn(sight, head, data.shards, data.rows, data.sides.train, truth, kind, chosen)
        answer = predict(sight, head, data.shards, data.rows, data.sides.test, kind, size=size)
        yield name, score(answer, truth[data.sides.test])


def overlap(answer: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Mean over the classes of intersection over union; 255 in the truth is left out."""
    known = truth != 255
    classes = np.unique(truth[known])
    both = [((answer == klass) & (truth == klass)).sum() for klass in classes]
    either = [(((answer == klass) | (truth == klass)) & known).sum() for klass in classes]
    return float(np.mean(np.array(both) / np.array(either)))


def f1(answer: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """F1 of class 1."""
    known = truth != 255
    found, there = (answer == 1) & known, truth == 1
    return float(2 * (found & there).sum() / max(1, found.sum() + there.sum()))


def pixels(data: Data, sight: Sight, effort: Effort) -> Iterator[Result]:
    """mIoU of the land classes."""
    maps = maps_of(data.shards, data.rows, "label")
    yield from dense(data, sight, effort, MapHead(sight, len(maps.names)), maps.values, overlap)


def change(data: Data, sight: Sight, effort: Effort) -> Iterator[Result]:
    """F1 of the pixels that changed."""
    maps = change_maps_of(data.shards, data.rows, "label")
    yield from dense(data, sight, effort, ChangeHead(sight, 2), maps.values, f1, balance=RARE)


def floods(data: Data, sight: Sight, effort: Effort) -> Iterator[Result]:
    """F1 of the pixels that were flooded: of all that changed, what is water now."""
    later = Rows(index=data.rows.index, look=data.rows.look[:, 1:], place=data.rows.place, split=data.rows.split)
    changed = change_maps_of(data.shards, data.rows, "label").values
    maps = maps_of(data.shards, later, "label")
    flooded = np.where(changed == 255, 255, (changed == 1) & (maps.values == maps.names.index("water")))
    yield from dense(data, sight, effort, ChangeHead(sight, 2), flooded.astype(np.uint8), f1, balance=RARE)


TASKS: dict[str, tuple[Literal["seasons", "long"], int, Task]] = {
    "class": ("seasons", 1, classification),
    "pixels": ("seasons", 1, pixels),
    "change": ("long", 2, change),
    "floods": ("long", 2, floods),
}
"""Name → dataset, looks of a row, what is measured."""


def changed_places(planet: Path, side: int = 60, least: float = 0.05) -> tuple[float, float]:
    """Share of the places of a planet that see any planted change in the last year, and of those that see one on at
    least `least` of their ground."""
    shares = []
    for path in sorted((planet / "geossl-sandbox-labels").glob("*_2023/change.tif")):
        with rasterio.open(path) as file:
            kinds = file.read(1)
        n = kinds.shape[0] // side
        shares.append((kinds[: n * side, : n * side].reshape(n, side, n, side) > 0).mean(axis=(1, 3)).ravel())
    share = np.concatenate(shares)
    return float((share > 0).mean()), float((share >= least).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--sensors", default="s2,s1")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--crop", type=int, default=0, help="side of the windows that dense tasks learn from")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    given = parser.parse_args()
    torch.set_num_threads(given.workers)
    datasets = {name: made(given.folder, TASKS[name][0], given.workers) for name in given.tasks.split(",")}
    some, much = changed_places(given.folder / "planet")
    print(f"places that see a change: {some:.0%}, on a twentieth of their ground or more: {much:.0%}")
    table = []
    for name, dataset in datasets.items():
        _, looks, task = TASKS[name]
        with open_shards(dataset) as shards:
            for sensor in given.sensors.split(","):
                start = time.monotonic()
                members = (*normalisation(shards.notes, shards.members, sensor).member_names, "label")
                rows = looks_of(shards, members) if looks == 1 else pairs_of(shards, members)
                data = Data(shards=shards, rows=rows, sides=sides_of(shards, rows))
                found: dict[str, list[float]] = {}
                for seed in range(given.seeds):
                    effort = Effort(epochs=given.epochs, crop=given.crop, seed=seed)
                    for method, value in task(data, eye(shards, sensor, seed), effort):
                        print(f"{name} {sensor} seed {seed}: {method} {value:.3f}", flush=True)
                        found.setdefault(method, []).append(value)
                best = max(float(np.mean(values)) for method, values in found.items() if method != "supervised")
                supervised = float(np.mean(found["supervised"]))
                verdict = "apart" if best <= supervised - LEAST_LEAD and supervised <= MOST else "NOT APART"
                numbers = ", ".join(
                    f"{method} {np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
                    for method, values in found.items()
                )
                seconds = time.monotonic() - start
                n = f"{len(data.sides.train)} rows teach, {len(data.sides.test)} judge"
                print(f"{name} {sensor}: {numbers}; {verdict}; {n}; {seconds:.0f} s", flush=True)
                table.append({"task": name, "sensor": sensor, "verdict": verdict, **found})
    if given.json is not None:
        given.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
