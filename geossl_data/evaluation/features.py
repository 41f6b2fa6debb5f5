"""Features of looks by several encoders in one pass over the shards, kept in files named by all they depend on."""

import hashlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geossl_data.errors import StorageError, TrainingError
from geossl_data.evaluation.sight import Reading, Sight
from geossl_data.files import atomic_path
from geossl_data.pretrain.batches import Order, on_device, pinned_memory
from geossl_data.progress import Progress, silent
from geossl_data.shards.reading.buffers import plain_memory
from geossl_data.shards.reading.shards import Shards
from geossl_data.version import VERSION

_LOG = logging.getLogger(__name__)

Features = NDArray[np.float32]

_CHECK_NBYTES = hashlib.sha256().digest_size


def stored(
    shards: Shards, order: Order, members: Sequence[str], batch_size: int, *, device: torch.device | str
) -> Iterator[dict[str, Tensor]]:
    """The stored members of looks, on the device, in the order given, all of it.

    Member → (B, bands, rows, columns), (B, rows, columns) of a class map; `index` and `look`, (B,) int64.
    """
    device = torch.device(device)
    if not order:
        return
    batches = shards.batches(
        batch_size,
        members,
        items=np.asarray(order, dtype=np.int64),
        shuffle=None,
        drop_last=False,
        allocate=pinned_memory if device.type == "cuda" else plain_memory,
    )
    yield from on_device(batches, device)


def features(
    sights: Mapping[str, Sight],
    shards: Shards,
    order: Order,
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    cache: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Features]:
    """Features of whole looks: name → (looks, embedding_dim) float32, rows in the order given.

    Each look is read once for all the sights that are not in the cache. Encoders are in eval mode meanwhile; on a GPU
    they compute in bfloat16. cache: a folder; it may be deleted at any time, and what is damaged in it is computed
    again. Raises TrainingError where an encoder answers with numbers that are not finite.
    """
    device = torch.device(device)
    keys = {name: _key(sight, shards, order, batch_size, device) for name, sight in sights.items()}
    found: dict[str, Features] = {}
    if cache is not None:
        for name, sight in sights.items():
            kept = _read(_path(cache, keys[name]), keys[name], (len(order), sight.embedding_dim))
            if kept is not None:
                found[name] = kept
    lacking = {name: sight for name, sight in sights.items() if name not in found}
    if not lacking:
        return found
    computed = _computed(lacking, shards, order, batch_size, device, progress)
    for name, values in computed.items():
        if not np.isfinite(values).all():
            raise TrainingError(f"features of {name} are not finite; its weights or statistics are of no use here")
        if cache is not None:
            _write(_path(cache, keys[name]), keys[name], values)
    return {name: (found | computed)[name] for name in sights}


@torch.inference_mode()
def _computed(
    sights: Mapping[str, Sight], shards: Shards, order: Order, batch_size: int, device: torch.device, progress: Progress
) -> dict[str, Features]:
    values = {name: np.empty((len(order), sight.embedding_dim), np.float32) for name, sight in sights.items()}
    members = list(dict.fromkeys(member for sight in sights.values() for member in sight.members))
    training = {name: sight.training for name, sight in sights.items()}
    for sight in sights.values():
        sight.eval()
    try:
        done = 0
        with progress("computing features", total=len(order)) as task:
            for tensors in stored(shards, order, members, batch_size, device=device):
                rows = slice(done, done + len(tensors["index"]))
                # Encoders that read the same, as a trained one and a fresh one do, share the images.
                images: dict[Reading, Tensor] = {}
                for name, sight in sights.items():
                    for reading in sight.readings:
                        if reading not in images:
                            images[reading] = reading.images(tensors, sight.device)
                    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                        embedded = sight.embed([images[reading] for reading in sight.readings])
                    values[name][rows] = embedded.float().cpu().numpy()
                done = rows.stop
                task.advance(rows.stop - rows.start)
    finally:
        for name, sight in sights.items():
            sight.train(training[name])
    return values


# ------------------------------------------------------------------------------------------------ the cache


def _key(sight: Sight, shards: Shards, order: Order, batch_size: int, device: torch.device) -> str:
    """Hex digest of all that features depend on, to the last bit."""
    digest = hashlib.sha256()
    # Products are summed in another order by another torch or device, and in batches of another size.
    made = (VERSION, torch.__version__, device.type, batch_size, sight.digest, shards.notes.get("fingerprint"))
    digest.update(repr(made).encode())
    rows = np.asarray(order, dtype=np.int64).reshape(-1, 2)
    digest.update(np.ascontiguousarray(rows).tobytes())
    # What the bytes are that these numbers stand for: the same recipe may have been run on other files.
    columns = [list(shards.members).index(name) for name in sight.members]
    index = shards.index
    files = index.member_file[index.first_look[rows[:, 0]] + rows[:, 1]][:, columns]
    digest.update(repr(tuple(shards.members[name] for name in sight.members)).encode())
    digest.update(np.ascontiguousarray(index.crc32[files], dtype=np.uint32).tobytes())
    return digest.hexdigest()


def _path(cache: Path, key: str) -> Path:
    return cache / f"{key}.npy"


def _read(path: Path, key: str, shape: tuple[int, int]) -> Features | None:
    """What the cache holds under a key; None where it is absent, damaged or of something else."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _LOG.warning("%s: cannot be read: %s; its features are computed again", path, error.strerror)
        return None
    content, check = data[:-_CHECK_NBYTES], data[-_CHECK_NBYTES:]
    if _check(key, content) != check:
        _LOG.warning("%s: damaged; its features are computed again", path)
        return None
    try:
        values: Features = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError):
        return None
    return values if values.shape == shape and values.dtype == np.float32 else None


def _write(path: Path, key: str, values: Features) -> None:
    """Keep features; where the disk does not take them the evaluation goes on without."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    content = buffer.getvalue()
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content + _check(key, content))
    except StorageError as error:
        _LOG.warning("features are not kept for the next time: %s", error)


def _check(key: str, content: bytes) -> bytes:
    """What follows an array in its file: whose it is, and that it is whole."""
    return hashlib.sha256(key.encode() + content).digest()
