"""What is asked about looks, and what everybody answers: probes on features, and encoders trained with the labels."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import TrainingError
from geossl_data.evaluation.bench import Bench, Found, Kind, Shown
from geossl_data.evaluation.classifiers import knn_votes, ridge_responses, swept_responses, unit
from geossl_data.evaluation.decoders import ImageHead
from geossl_data.evaluation.features import features
from geossl_data.evaluation.learning import Settings, learn, predict
from geossl_data.evaluation.metrics import Metric, groups_of
from geossl_data.evaluation.rows import Rows, looks_of, share_of, sides_of

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Features = NDArray[np.floating[Any]]

Probe = Literal["knn", "ridge", "linear"]
EXACT: tuple[Probe, ...] = ("knn", "ridge")
"""Probes that answer the same for every seed, given the same features and labels."""


def looks(bench: Bench) -> Rows:
    """Every look that has all the sensors that are shown, so that one sensor and both are judged by the same looks.

    Raises TrainingError where there is none.
    """
    members = bench.members(bench.shown[-1])
    rows = looks_of(bench.shards, members)
    if not len(rows):
        raise TrainingError(f"no look has all of {', '.join(members)}; evaluate an encoder of one sensor")
    return rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sided:
    """Rows that teach, then rows that judge; all places that judge are numbered from 0 on."""

    rows: Rows
    n_teach: int
    group: IntArray
    """The place of each row that judges, (m,)."""
    groups: int

    @property
    def train(self) -> IntArray:
        """Positions of the rows that teach."""
        return np.arange(self.n_teach)

    @property
    def test(self) -> IntArray:
        """Positions of the rows that judge."""
        return np.arange(self.n_teach, len(self.rows))

    def sums(self, values: NDArray[Any]) -> FloatArray:
        """Sum over the judging rows of each place, (groups,), of their values, (m,)."""
        return np.bincount(self.group, weights=values, minlength=self.groups).astype(np.float64)

    def places(self, positions: IntArray) -> int:
        """How many places these rows see."""
        return len(np.unique(self.rows.place[positions]))


def sided(bench: Bench, rows: Rows) -> tuple[Sided, IntArray]:
    """The rows on both sides, and where among `rows` they are; TrainingError as `rows.sides_of`."""
    sides = sides_of(bench.shards, rows)
    group, groups = groups_of(rows.place[sides.test])
    both = np.concatenate([sides.train, sides.test])
    return Sided(rows=rows.taken(both), n_teach=len(sides.train), group=group, groups=groups), both


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """What has to be told of looks."""

    kind: Literal["class", "multi", "vector"]
    sides: Sided
    targets: NDArray[Any]
    """Of every row: class: positions (n,), none below 0; multi: (n, C) bool; vector: unit vectors (n, C)."""
    outputs: int
    """C, the numbers of an answer."""
    measure: Callable[[FloatArray], Mapping[str, NDArray[Any]]] | None = None
    """What else is to be known of an encoder trained with the labels: made of its features (n, D), `side_by_side`."""

    @property
    def responses_wanted(self) -> FloatArray:
        """The targets as numbers, (n, C)."""
        return np.eye(self.outputs)[self.targets] if self.kind == "class" else self.targets.astype(np.float64)

    def share(self, fraction: float, seed: int) -> IntArray:
        """Positions of the rows that teach at a share of the train places; every class keeps one."""
        labels = None if self.kind == "vector" else self.targets
        return share_of(self.sides.rows, self.sides.train, fraction, seed=seed, labels=labels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What one of them says about the rows that judge."""

    question: Question
    shown: Shown
    encoder: Kind
    probe: str
    fraction: float
    seed: int
    taught: IntArray
    """Positions of the rows that taught it."""
    responses: FloatArray
    """(m, C)"""

    def found(self, metric: Metric) -> Found:
        """How it did by a metric."""
        sides = self.question.sides
        return Found(
            features="+".join(self.shown),
            encoder=self.encoder,
            probe=self.probe,
            metric=metric,
            fraction=self.fraction,
            seed=self.seed,
            n_train=sides.places(self.taught),
            n_test=sides.groups,
        )


def answers(bench: Bench, question: Question, probes: tuple[Probe, ...]) -> Iterator[Answer]:
    """The answers of the probes on trained and random encoders and, if wanted, of encoders trained end-to-end.

    For each of what is shown, each share of the labels and each seed, which moves the share, the random encoder and
    what is trained. An exact probe on the trained encoder with all labels is the same for every seed, and comes once.
    """
    for shown in bench.shown:
        for fraction in bench.options.fractions:
            for seed in bench.seeds():
                taught = question.share(fraction, seed)
                kinds: tuple[Kind, ...] = ("trained", "random")
                for kind in kinds:
                    again = kind == "trained" and fraction >= 1 and seed != bench.options.seed
                    wanted = [probe for probe in probes if not (again and probe in EXACT)]
                    if not wanted:
                        continue
                    x = bench.features(kind, shown, seed, question.sides.rows)[:, 0]
                    parts = bench.sight(kind, shown, seed).embedding_dims
                    for probe in wanted:
                        yield Answer(
                            question=question,
                            shown=shown,
                            encoder=kind,
                            probe=probe,
                            fraction=fraction,
                            seed=seed,
                            taught=taught,
                            responses=probed(bench, question, probe, x, parts, taught, seed),
                        )
                if bench.options.supervised:
                    yield Answer(
                        question=question,
                        shown=shown,
                        encoder="supervised",
                        probe="end-to-end",
                        fraction=fraction,
                        seed=seed,
                        taught=taught,
                        responses=end_to_end(bench, question, shown, taught, seed)["responses"].astype(np.float64),
                    )


def probed(
    bench: Bench, question: Question, probe: Probe, x: Features, parts: tuple[int, ...], taught: IntArray, seed: int
) -> FloatArray:
    """What a probe answers about the rows that judge, (m, C), having seen the features and targets of `taught`.

    x: features of all rows, (n, D). parts: how many of them are of each encoder.
    """
    options, test = bench.options, question.sides.test
    if probe == "knn":
        x = side_by_side(x, parts)
        return knn_votes(
            x[taught],
            question.targets[taught],
            x[test],
            question.outputs,
            k=options.k,
            temperature=options.temperature,
        )
    if probe == "ridge":
        return ridge_responses(x[taught], question.responses_wanted[taught], x[test], alpha=options.ridge)
    return swept_responses(
        x[taught],
        question.targets[taught],
        x[test],
        question.outputs,
        group=question.sides.rows.place[taught],
        seed=seed,
        device=bench.device,
    ).responses


def side_by_side(x: Features, parts: tuple[int, ...]) -> FloatArray:
    """Features (n, D) with those of each encoder brought to unit length, so that the cosine weighs encoders alike."""
    ends = np.cumsum(parts)
    return np.concatenate([unit(x[:, end - width : end]) for end, width in zip(ends, parts, strict=True)], axis=1)


def end_to_end(bench: Bench, question: Question, shown: Shown, taught: IntArray, seed: int) -> dict[str, NDArray[Any]]:
    """What a fresh encoder with a linear layer answers once both were trained with the labels, and what is measured.

    `responses`, (m, C), and whatever `question.measure` makes of its features. Kept by the bench.
    """
    sides, options = question.sides, bench.options
    settings = Settings(
        frozen=False, seed=seed, epochs=options.epochs, batch_size=max(1, options.batch_size // 2)
    )  # whole looks: a crop need not show what the look is labelled with

    def make() -> Mapping[str, NDArray[Any]]:
        sight = bench.fresh(shown, seed)
        head = ImageHead(sight, question.outputs)
        learn(
            sight,
            head,
            bench.shards,
            sides.rows,
            taught,
            question.targets,
            question.kind,
            settings,
            device=bench.device,
            progress=bench.progress,
        )
        found: dict[str, NDArray[Any]] = {
            "responses": predict(
                sight,
                head,
                bench.shards,
                sides.rows,
                sides.test,
                question.kind,
                batch_size=options.batch_size,
                device=bench.device,
            )
        }
        if question.measure is not None:
            seen = features(
                {"supervised": sight},
                bench.shards,
                sides.rows.order,
                batch_size=options.batch_size,
                device=bench.device,
                progress=bench.progress,
            )["supervised"]
            found |= question.measure(side_by_side(seen, sight.embedding_dims))
        return found

    told = hashlib.sha256()
    for part in (sides.rows.index, sides.rows.look, sides.test, taught, np.ascontiguousarray(question.targets)):
        told.update(repr((part.dtype, part.shape)).encode() + part.tobytes())
    what = {
        "made": "end-to-end",
        "kind": question.kind,
        "outputs": question.outputs,
        "encoder": bench.sight("random", shown, seed).digest,
        "settings": asdict(settings),
        "labels": told.hexdigest(),
        "device": bench.device.type,
    }
    return bench.kept(what, make)
