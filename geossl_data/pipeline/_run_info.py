"""What the files of a run tell about it without torch, and without running anything that they hold."""

import json
import pickletools
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geossl_data.errors import DatasetError
from geossl_data.files import from_json
from geossl_data.pipeline._evaluate import EVALUATIONS, EXPORTED
from geossl_data.pipeline._train import training_options
from geossl_data.recipe import PretrainOptions

__all__ = ["EVALUATIONS", "FEATURES", "RunState", "judged", "run_state"]

FEATURES = "features"
"""Features that an evaluation computed: a cache, safe to delete."""
CHECKPOINT, METRICS = "checkpoints/last.pt", "metrics.jsonl"
MOST_NBYTES = 64 * 2**20
"""Of the part of a checkpoint that is not tensors; more than that is nothing of ours."""
TAIL_NBYTES = 2**16
"""Of a log, that surely hold its last line."""
_NO_CHECKPOINT = (
    OSError, ValueError, StopIteration, IndexError, EOFError, OverflowError, NotImplementedError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What reading something else as a zip file of a pickle raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """How far a run is, and what it was trained with."""

    steps: int
    """Logged so far."""
    epochs: int
    """Begun so far."""
    of_epochs: int | None
    n_encoders: int
    """Exported; 0 until the run is finished."""
    options: Mapping[str, Any]
    """Those of training, as the checkpoint has them; empty where there is none."""

    @property
    def is_finished(self) -> bool:
        return self.n_encoders > 0

    @property
    def shards(self) -> str | None:
        """Fingerprint of the shards that it was trained on; None where it is not known."""
        found = self.options.get("shards")
        return found if isinstance(found, str) and found else None

    def changed(self, wanted: PretrainOptions) -> list[str]:
        """Options that it was trained with others of, but for those that a run may go on with others of."""
        from geossl_data.pretrain.options import RUN_ONLY

        named = asdict(training_options(wanted)).items()
        return [
            name
            for name, value in named
            if name not in RUN_ONLY and name in self.options and self.options[name] != value
        ]


def run_state(path: Path) -> RunState:
    """How far the run in a folder is; DatasetError where its checkpoint is none."""
    options = checkpoint_options(path / CHECKPOINT) if (path / CHECKPOINT).is_file() else {}
    last = last_line(path / METRICS)
    epochs = options.get("epochs")
    return RunState(
        steps=_whole(last.get("step"), -1) + 1,
        epochs=_whole(last.get("epoch"), -1) + 1,
        of_epochs=epochs if isinstance(epochs, int) else None,
        n_encoders=sum(1 for _ in (path / EXPORTED).glob("*.safetensors")),
        options=options,
    )


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and value >= 0 else otherwise


def checkpoint_options(path: Path) -> dict[str, Any]:
    """The options in a checkpoint, read out of its pickle as text; DatasetError where there are none."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.infolist() if name.filename.endswith("/data.pkl"))
            if entry.file_size > MOST_NBYTES:
                raise ValueError("too large")
            texts = [value for _, value, _ in pickletools.genops(archive.read(entry)) if isinstance(value, str)]
        found = from_json(texts[texts.index("options") + 1])
        if not isinstance(found, dict):
            raise ValueError("no options")
    except _NO_CHECKPOINT:
        raise DatasetError(f"{path}: not a readable checkpoint; start the run over with --fresh") from None
    return found


def last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a log of JSON; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_NBYTES))
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            found = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def judged(path: Path) -> tuple[int, str | None]:
    """How many scores a file holds, and the fingerprint of the shards they were judged by; DatasetError otherwise."""
    try:
        content = from_json(path.read_bytes())
        n_scores, shards = len(content["scores"]), content["facts"].get("shards")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DatasetError(f"{path}: not the scores that `geossl evaluate` writes; run it again") from None
    return n_scores, shards if isinstance(shards, str) else None
