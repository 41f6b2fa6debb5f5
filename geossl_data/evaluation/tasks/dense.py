"""What segmentation and change detection share: maps that decoders make of rows, for every encoder, share and seed."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from geossl_data.evaluation.bench import Bench, Found, Kind, Shown
from geossl_data.evaluation.decoders import MapHead
from geossl_data.evaluation.labels import Maps
from geossl_data.evaluation.learning import Settings, learn, predict
from geossl_data.evaluation.metrics import Metric, confusions, groups_of
from geossl_data.evaluation.rows import Rows, Sides, share_of
from geossl_data.evaluation.sight import copied

DECODER, FINE_TUNE, END_TO_END = "decoder", "fine-tune", "end-to-end"
FINE_TUNE_FACTOR = 0.1
"""Learning rate of encoders that have been trained before, as a share of the decoder's."""

FloatArray = NDArray[np.float64]


def judged_maps(
    bench: Bench,
    rows: Rows,
    sides: Sides,
    maps: Maps,
    head: type[MapHead],
    metrics_of: Callable[[FloatArray], Sequence[Metric]],
    *,
    balance: float = 0.0,
) -> Iterator[Found]:
    """Every metric of every map that is made of the judged rows.

    Of each combination of sensors: the judged encoder, frozen, and random ones with a decoder on top; with
    options.finetune the judged encoder learning on; with options.supervised the same shape from scratch. Heads, label
    shares and fresh encoders change with the seed. metrics_of: confusions (places, C, C) → what is told of them.
    """
    options = bench.options
    truth = maps.values[sides.test]
    group, n_groups = groups_of(rows.place[sides.test])
    for shown in bench.shown:
        for kind, probe in _probes(bench):
            for fraction in options.fractions:
                for seed in bench.seeds():
                    train = share_of(rows, sides.train, fraction, seed=seed)
                    settings = Settings(
                        frozen=probe == DECODER,
                        seed=seed,
                        epochs=options.epochs,
                        batch_size=max(1, options.batch_size // 2),
                        crop=options.crop,
                        encoder_factor=FINE_TUNE_FACTOR if probe == FINE_TUNE else 1.0,
                        balance=balance,
                    )
                    told = _predicted(bench, kind, shown, rows, train, sides.test, maps, head, settings)
                    confusion = confusions(told, truth, group, n_groups, len(maps.names))
                    for metric in metrics_of(confusion):
                        yield Found(
                            features="+".join(shown),
                            encoder=kind,
                            probe=probe,
                            metric=metric,
                            fraction=fraction,
                            seed=seed,
                            n_train=len(np.unique(rows.place[train])),
                            n_test=n_groups,
                        )


def _probes(bench: Bench) -> list[tuple[Kind, str]]:
    """Which encoders there are, and what learns on them."""
    found: list[tuple[Kind, str]] = [("trained", DECODER), ("random", DECODER)]
    if bench.options.finetune:
        found.append(("trained", FINE_TUNE))
    if bench.options.supervised:
        found.append(("supervised", END_TO_END))
    return found


def _predicted(
    bench: Bench,
    kind: Kind,
    shown: Shown,
    rows: Rows,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    maps: Maps,
    head: type[MapHead],
    settings: Settings,
) -> NDArray[np.uint8]:
    """The maps that a taught decoder makes of the judged rows; made once where the bench keeps them."""
    sight = bench.sight("trained" if kind == "trained" else "random", shown, settings.seed)

    def made() -> dict[str, NDArray[np.uint8]]:
        seeing = sight if settings.frozen else copied(sight)
        decoder = head(seeing, len(maps.names))
        shards, device = bench.shards, bench.device
        learn(
            seeing, decoder, shards, rows, train, maps.values, "map", settings, device=device, progress=bench.progress
        )
        size = (maps.values.shape[1], maps.values.shape[2])
        batch_size = bench.options.batch_size
        told = predict(seeing, decoder, shards, rows, test, "map", size=size, batch_size=batch_size, device=device)
        return {"told": told}

    what = {
        "head": head.__name__,
        "encoder": sight.digest,
        "settings": json.dumps(asdict(settings), sort_keys=True),
        "classes": maps.names,
        "labels": _digest(maps.values[train]),
        "rows": _digest(rows.index, rows.look, train, test),
        "device": bench.device.type,
    }
    return bench.kept(what, made)["told"]


def _digest(*arrays: NDArray[np.generic]) -> str:
    """Hex digest of the numbers and shapes of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
