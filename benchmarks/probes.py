"""Probes on the features of 10,000 looks: how long each takes, beside scikit-learn's.

    pip install scikit-learn && python benchmarks/probes.py
    python benchmarks/probes.py --looks 20000 --dimensions 2048 --runs 5

Features are random numbers about a centre for each of ten classes, four fifths of the looks teach. The peers answer
the same question: the cosine's nearest neighbours, brute force; a ridge of the same strength; a logistic regression for
each of the eight rates that the sweep tries, as one would sweep its C. Seconds are the medians of the runs.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from geossl_data.evaluation.classifiers import LEARNING_RATES, knn_votes, ridge_responses, swept_responses

CLASSES = 10
Array = NDArray[np.float32]
Labels = NDArray[np.int64]


def looks_of(n: int, dimensions: int) -> tuple[Array, Labels]:
    """Features (n, dimensions) and classes (n,)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, n)
    centres = rng.normal(size=(CLASSES, dimensions)) * 2 / np.sqrt(dimensions)
    return (centres[labels] + rng.normal(size=(n, dimensions))).astype(np.float32), labels


def their_neighbours(x: Array, y: Labels, test: Array) -> Labels:
    def weights(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp((1 - distance) / 0.07)

    neighbours = KNeighborsClassifier(20, metric="cosine", algorithm="brute", weights=weights)
    return np.asarray(neighbours.fit(x, y).predict(test))


def their_ridge(x: Array, y: Labels, test: Array) -> Labels:
    scaler = StandardScaler().fit(x)
    # Theirs weighs the sum of squares by the rows, ours their mean.
    ridge = Ridge(alpha=float(len(x))).fit(scaler.transform(x), np.eye(CLASSES)[y])
    return np.asarray(ridge.predict(scaler.transform(test)).argmax(axis=1))


def their_sweep(x: Array, y: Labels, test: Array) -> Labels:
    scaler = StandardScaler().fit(x)
    x, test = scaler.transform(x), scaler.transform(test)
    held = len(x) // 5
    scores = []
    strengths = np.logspace(-6, 1, len(LEARNING_RATES))
    for strength in strengths:
        tried = LogisticRegression(C=strength, max_iter=100).fit(x[held:], y[held:])
        scores.append(tried.score(x[:held], y[:held]))
    best = strengths[int(np.argmax(scores))]
    return np.asarray(LogisticRegression(C=best, max_iter=100).fit(x, y).predict(test))


def our_sweep(x: Array, y: Labels, test: Array) -> Labels:
    swept = swept_responses(x, y, test, CLASSES, group=np.arange(len(x)), seed=0)
    return np.asarray(swept.responses.argmax(axis=1))


def seconds(run: Callable[[], Labels], runs: int, truth: Labels) -> tuple[float, float]:
    """Median seconds and the accuracy."""
    took, found = [], truth
    for _ in range(runs):
        start = time.perf_counter()
        found = run()
        took.append(time.perf_counter() - start)
    return median(took), float((found == truth).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--looks", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    x, y = looks_of(options.looks, options.dimensions)
    n = options.looks * 4 // 5
    known, truth, test = (x[:n], y[:n]), y[n:], x[n:]
    probes: dict[str, tuple[Callable[..., Labels], Callable[..., Labels]]] = {
        "kNN": (lambda x, y, test: knn_votes(x, y, test, CLASSES).argmax(axis=1), their_neighbours),
        "ridge": (lambda x, y, test: ridge_responses(x, np.eye(CLASSES)[y], test).argmax(axis=1), their_ridge),
        "sweep of 8 rates": (our_sweep, their_sweep),
    }
    print(f"{n:,} looks teach {len(test):,} others, {options.dimensions} features")
    for name, (ours, theirs) in probes.items():
        mine, my_score = seconds(partial(ours, *known, test), options.runs, truth)
        peer, their_score = seconds(partial(theirs, *known, test), options.runs, truth)
        print(
            f"  {name:<18} {mine:6.2f} s, accuracy {my_score:.3f}    scikit-learn {peer:6.2f} s, {their_score:.3f}"
            f"    {peer / mine:.2f} times as long"
        )


if __name__ == "__main__":
    main()
