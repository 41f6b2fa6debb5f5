"""What an encoder's features are worth: kNN and linear probes of land class, beside a random encoder and a guess.

The probes are exact: no learning rate to tune, the same answer every time. Features come from whole places, with batch
norm as training left it; a place never lends looks to both sides of a probe.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geossl_data.errors import TrainingError
from geossl_data.files import write_text
from geossl_data.pretrain import batches
from geossl_data.pretrain.batches import Batch, Order
from geossl_data.pretrain.encoders import Encoder, build_encoder
from geossl_data.pretrain.export import EncoderInfo, load_encoder
from geossl_data.pretrain.normalisation import Normalisation
from geossl_data.progress import Progress, silent
from geossl_data.records import Split
from geossl_data.shards.reading.shards import Shards, open_shards

_LOG = logging.getLogger(__name__)

Features = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]

SCORES_NAME = "scores.json"
TEMPERATURE = 0.07
"""Of the weighted vote among neighbours (Wu et al. 2018, section 3.4)."""
CHUNK = 1024
"""Test rows compared with all train rows at a time."""


def knn_predictions(
    train_x: Features, train_y: Labels, test_x: Features, *, k: int = 20, temperature: float = TEMPERATURE
) -> Labels:
    """The class that the k most similar train rows vote for, shape (n_test,).

    train_x, test_x: features (n, d); train_y: classes (n,). Similarity is the cosine; a vote weighs
    exp(similarity / temperature) (Wu et al. 2018). All train rows vote where there are fewer than k. Equal similarity:
    the earlier row; equal votes: the smaller class.
    """
    classes, position = np.unique(train_y, return_inverse=True)
    train, test = _unit(train_x), _unit(test_x)
    k = min(k, len(train))
    found = []
    for start in range(0, len(test), CHUNK):
        similarity = test[start : start + CHUNK] @ train.T  # (chunk, n_train)
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        weight = np.exp((np.take_along_axis(similarity, nearest, axis=1) - 1.0) / temperature)
        votes = np.zeros((len(similarity), len(classes)))
        np.add.at(votes, (np.arange(len(similarity))[:, None], position[nearest]), weight)
        found.append(classes[votes.argmax(axis=1)])
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def linear_predictions(train_x: Features, train_y: Labels, test_x: Features, *, alpha: float = 1.0) -> Labels:
    """The class with the largest response of a ridge regression onto one-hot targets, shape (n_test,).

    Features are standardised by the train rows (a constant feature counts nothing) and W minimises
    mean ‖y − ȳ − x W‖² + alpha ‖W‖², so that alpha means the same for any number of rows. Closed form:
    (XᵀX / n + alpha I) W = Xᵀ(Y − Ȳ) / n.
    """
    classes, position = np.unique(train_y, return_inverse=True)
    x = np.asarray(train_x, dtype=np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0)
    # Rounding gives a constant feature a deviation that is tiny, not zero.
    scale = np.where(std > 1e-9 * (1.0 + np.abs(mean)), 1.0 / np.where(std > 0, std, 1.0), 0.0)
    x = (x - mean) * scale
    targets = np.eye(len(classes))[position]
    centre = targets.mean(axis=0)
    gram = x.T @ x / len(x) + alpha * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (targets - centre) / len(x))
    response = (np.asarray(test_x, dtype=np.float64) - mean) * scale @ weights + centre
    found: Labels = classes[response.argmax(axis=1)]
    return found


def accuracy(predicted: Labels, truth: Labels) -> float:
    """Share of right predictions, in [0, 1]."""
    return float(np.mean(predicted == truth))


def balanced_accuracy(predicted: Labels, truth: Labels) -> float:
    """Mean over the classes in `truth` of the share of their rows that were found, in [0, 1]."""
    return float(np.mean([np.mean(predicted[truth == label] == label) for label in np.unique(truth)]))


def knn_accuracy(
    train_x: Features,
    train_y: Labels,
    test_x: Features,
    test_y: Labels,
    *,
    k: int = 20,
    temperature: float = TEMPERATURE,
) -> float:
    """Share of test rows that their nearest train rows classify right, in [0, 1]; see `knn_predictions`."""
    return accuracy(knn_predictions(train_x, train_y, test_x, k=k, temperature=temperature), test_y)


def linear_probe(train_x: Features, train_y: Labels, test_x: Features, test_y: Labels, *, alpha: float = 1.0) -> float:
    """Share of test rows that a ridge regression classifies right, in [0, 1]; see `linear_predictions`."""
    return accuracy(linear_predictions(train_x, train_y, test_x, alpha=alpha), test_y)


def _unit(x: Features) -> NDArray[np.float64]:
    x64 = np.asarray(x, dtype=np.float64)
    norm = np.linalg.norm(x64, axis=1, keepdims=True)
    return x64 / np.where(norm > 0, norm, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Eye:
    """An encoder, and what it is shown of a look."""

    encoder: Encoder
    """On the device."""
    normalisations: tuple[Normalisation, ...]
    """One for each of its sensors, in the order of its bands."""
    shown: tuple[str, ...]
    """The sensors that it is shown: all of its own, or some of them."""

    def embeddings(self, batch: Batch) -> Tensor:
        """Embeddings of the only look of each place, (B, embedding_dim)."""
        seen = [batch.images[entry.sensor][:, 0] for entry in self.normalisations]
        if len(seen) == len(self.shown):
            return self.encoder(torch.cat(seen, dim=1))  # type: ignore[no-any-return]
        present = [entry.sensor in self.shown for entry in self.normalisations for _ in entry.bands]
        images = torch.cat(seen, dim=1)
        return self.encoder(images, torch.tensor(present, device=images.device))  # type: ignore[no-any-return]


@torch.inference_mode()
def features(
    eyes: Mapping[str, Eye],
    shards: Shards,
    order: Order,
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> dict[str, Features]:
    """Features of whole places: name → (looks, embedding_dim) float32, rows in the order given.

    eyes: by name; each look is read once for all of them. Several encoders of one sensor share one normalisation.
    """
    device = torch.device(device)
    expected = [entry for eye in eyes.values() for entry in eye.normalisations]
    by_sensor = {entry.sensor: entry for entry in expected}
    if any(by_sensor[entry.sensor] != entry for entry in expected):
        raise TrainingError("encoders of one sensor expect different statistics; take their features one by one")
    rows: dict[str, list[Features]] = {name: [] for name in eyes}
    for eye in eyes.values():
        eye.encoder.eval()
    with progress("computing features", total=len(order)) as task:
        for batch in batches.read_looks(shards, order, list(by_sensor.values()), batch_size, device=device):
            for name, eye in eyes.items():
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                    embedded = eye.embeddings(batch)
                rows[name].append(embedded.float().cpu().numpy())
            task.advance(len(batch))
    return {name: np.concatenate(parts) if parts else np.empty((0, 0), np.float32) for name, parts in rows.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How well the features of one encoder, or of two side by side, tell land classes apart; shares in [0, 1]."""

    features: str
    """The sensors that were looked at: s1, s2 or s1+s2. One encoder of both has seen them together in s1+s2, and is
    told that the bands of the other are missing in s1 and s2."""
    encoder: str
    """trained, or random for the same architecture with fresh weights."""
    knn: float
    knn_balanced: float
    linear: float
    linear_balanced: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What the probes found for one run."""

    scores: tuple[Score, ...]
    majority: float
    """Accuracy of always naming the most frequent class of the train looks."""
    n_train: int
    """Labelled looks that the probes learn from."""
    n_test: int
    """Labelled looks that they are judged on."""
    test_split: Split
    """test, or val where no place was kept for testing."""
    classes: dict[str, int]
    """Class name → looks in the judged split."""
    k: int
    ridge: float
    seed: int

    def facts(self) -> dict[str, Any]:
        """Name → number or short text, to show."""
        return {
            "train looks": self.n_train,
            f"{self.test_split} looks": self.n_test,
            "classes": len(self.classes),
            "majority class accuracy": round(self.majority, 3),
        }

    def table(self) -> tuple[tuple[str, ...], ...]:
        """Header and one row an encoder."""
        header = ("features", "encoder", "kNN", "kNN balanced", "linear", "linear balanced")
        rows = [
            (
                row.features,
                row.encoder,
                *(f"{value:.3f}" for value in (row.knn, row.knn_balanced, row.linear, row.linear_balanced)),
            )
            for row in self.scores
        ]
        return (header, *rows)


def evaluate(
    source: Path | Shards,
    run_dir: Path,
    *,
    k: int = 20,
    ridge: float = 1.0,
    batch_size: int = 64,
    device: str = "auto",
    seed: int = 0,
    progress: Progress = silent,
) -> Scores:
    """Probe the encoders exported in `run_dir` beside random ones of the same shape; writes run_dir/scores.json.

    source: a dataset folder, or its opened shards of all splits. The train looks teach the probes, the test looks (val
    looks where no place was kept for testing) judge them; the class of a look is its most frequent land class.
    Raises TrainingError when the run has no encoders, the shards no labels, there is no split to judge on, or a place
    or block is on both sides.
    """
    where = batches.chosen_device(device)
    trained = _exported(run_dir, where)
    shards = open_shards(source) if isinstance(source, Path) else source
    sensors = sorted({sensor for _, info in trained for sensor in info.sensors})
    train_order, test_order, test_split = _probe_orders(shards, sensors)
    order = train_order + test_order
    eyes: dict[str, Eye] = {}
    for encoder, info in trained:
        fresh = build_encoder(info.encoder, info.bands, seed=seed, patch=info.patch, embed=info.embed).to(where)
        for shown in _combinations(info.sensors):
            eyes[f"trained {'+'.join(shown)}"] = Eye(encoder=encoder, normalisations=info.normalisations, shown=shown)
            eyes[f"random {'+'.join(shown)}"] = Eye(encoder=fresh, normalisations=info.normalisations, shown=shown)
    found = features(eyes, shards, order, batch_size=batch_size, device=where, progress=progress)
    labels = np.array([shards.entries[index].labels[look] for index, look in order], dtype=np.int64)
    n_train = len(train_order)
    train_y, test_y = labels[:n_train], labels[n_train:]

    scores = []
    for combination in _combinations(sensors):
        for kind in ("trained", "random"):
            together = f"{kind} {'+'.join(combination)}"
            alone = [f"{kind} {sensor}" for sensor in combination]
            parts = [found[name] for name in ([together] if together in found else alone)]
            # Rows of unit length weigh both sensors alike in the cosine; the ridge standardises by itself.
            unit, x = np.concatenate([_unit(part) for part in parts], axis=1), np.concatenate(parts, axis=1)
            by_knn = knn_predictions(unit[:n_train], train_y, unit[n_train:], k=k)
            by_line = linear_predictions(x[:n_train], train_y, x[n_train:], alpha=ridge)
            scores.append(
                Score(
                    features="+".join(combination),
                    encoder=kind,
                    knn=accuracy(by_knn, test_y),
                    knn_balanced=balanced_accuracy(by_knn, test_y),
                    linear=accuracy(by_line, test_y),
                    linear_balanced=balanced_accuracy(by_line, test_y),
                )
            )
    names = shards.notes.get("label_names", {})
    classes, counts = np.unique(train_y, return_counts=True)
    result = Scores(
        scores=tuple(scores),
        majority=accuracy(np.full(len(test_y), classes[counts.argmax()]), test_y),
        n_train=n_train,
        n_test=len(test_y),
        test_split=test_split,
        classes={str(names.get(str(label), label)): count for label, count in sorted(Counter(test_y.tolist()).items())},
        k=k,
        ridge=ridge,
        seed=seed,
    )
    write_text(run_dir / SCORES_NAME, json.dumps(asdict(result), indent=2, sort_keys=True) + "\n")
    return result


def _exported(run_dir: Path, device: torch.device) -> list[tuple[Encoder, EncoderInfo]]:
    """The encoders of a run with their infos, by name; each sensor is seen by one of them."""
    found = [load_encoder(path, device) for path in sorted((run_dir / "exported").glob("*.safetensors"))]
    if not found:
        raise TrainingError(f"{run_dir}: no exported encoder; finish the run with `geossl pretrain`")
    seen = Counter(sensor for _, info in found for sensor in info.sensors)
    for sensor, count in seen.items():
        if count > 1:
            raise TrainingError(f"{run_dir}: holds {count} encoders of {sensor}, expected one; use --fresh")
    return found


def _combinations(sensors: Sequence[str]) -> list[tuple[str, ...]]:
    """Each sensor by name, Sentinel-1 first, and all of them together."""
    names = sorted(sensors)
    return [(name,) for name in names] + ([tuple(names)] if len(names) > 1 else [])


def _probe_orders(shards: Shards, sensors: Sequence[str]) -> tuple[Order, Order, Split]:
    """The labelled looks that teach, those that judge, and the split of the latter; checked for leakage."""
    if not any(any(entry.labels) for entry in shards.entries):
        raise TrainingError("no labels in these shards; the probes need a catalog with a land-class map")

    def labelled(split: Split) -> Order:
        order = batches.looks(shards, sensors, split)
        return [(index, look) for index, look in order if shards.entries[index].labels[look] != 0]

    train_order = labelled("train")
    judged: dict[Split, Order] = {split: labelled(split) for split in ("test", "val")}
    test_split: Split = "test" if judged["test"] else "val"
    if not train_order or not judged[test_split]:
        lacking = "train" if not train_order else "test or val"
        raise TrainingError(
            f"no labelled looks in the {lacking} split; sample again with other --test and --val shares or a smaller "
            "--block-km"
        )
    if test_split == "val":
        _LOG.warning("no labelled looks in the test split; the val split judges instead")
    _refuse_leakage(shards, train_order, judged[test_split])
    return train_order, judged[test_split], test_split


def _refuse_leakage(shards: Shards, train_order: Order, test_order: Order) -> None:
    """Raise TrainingError where a place or a spatial block is on both sides of a probe."""
    sides = [[shards.entries[index] for index in {index for index, _ in order}] for order in (train_order, test_order)]
    for what, shared in (
        ("place", set.intersection(*({(entry.lon, entry.lat) for entry in side} for side in sides))),
        ("block", set.intersection(*({entry.block for entry in side} for side in sides))),
    ):
        if shared:
            raise TrainingError(
                f"{what} {min(shared)} is in both the train split and the judged split ({len(shared)} such); the "
                "scores would be worth nothing; sample again"
            )
