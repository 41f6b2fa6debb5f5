"""What is being written at the moment, so that a process that ended without a word is missed afterwards.

One small file a shard in the journal's folder, there for as long as somebody writes the shard: a process that was
killed, or crashed, leaves it behind.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

from geossl_data.files import from_json, scratch_path, storage_error
from geossl_data.shards.writing.journal import JOURNAL_FOLDER
from geossl_data.shards.writing.plan import ShardPlan

EVERY_S = 1.0
"""How often, at most, the note of an attempt is written."""


class Attempt:
    """Somebody's try at a shard; `advance` counts its samples."""

    def __init__(self, folder: Path, plan: ShardPlan) -> None:
        self._path, self._plan = _path(folder, plan), plan.digest
        self.deaths = _read(self._path, self._plan).get("attempts", 0)
        """How many earlier ones ended without a word."""
        self._done, self._noted = 0, monotonic()

    def advance(self) -> None:
        """One more sample is done with."""
        self._done += 1
        if monotonic() - self._noted >= EVERY_S:
            self.note(self.deaths + 1)

    def note(self, attempts: int) -> None:
        """Say how many attempts there were, this one included, and how far it is; no attempts, no file."""
        self._noted = monotonic()
        if attempts == 0:
            self._path.unlink(missing_ok=True)
        else:
            write_note(self._path, {"plan": self._plan, "attempts": attempts, "done": self._done})


@contextmanager
def attempt(folder: Path, plan: ShardPlan) -> Iterator[Attempt]:
    """A try at the shard of `plan` in `folder`, noted while the block runs.

    A block that ends with an exception was no death: the count is as it was. One that ends well forgets the earlier
    deaths as well.
    """
    made = Attempt(folder, plan)
    made.note(made.deaths + 1)
    try:
        yield made
    except BaseException:
        # The disk may be full; what is told then is why.
        with suppress(OSError):
            made.note(made.deaths)
        raise
    made.note(0)


def deaths(folder: Path, plan: ShardPlan) -> int:
    """How many attempts at a shard ended without a word; ask while nobody makes one."""
    return int(_read(_path(folder, plan), plan.digest).get("attempts", 0))


def forget_attempts(folder: Path, plan: ShardPlan) -> None:
    """No attempt at a shard counts any more."""
    _path(folder, plan).unlink(missing_ok=True)


def samples_done(folder: Path, plan: ShardPlan) -> int:
    """How many samples of a shard its present attempt is done with, about a second ago."""
    return int(_read(_path(folder, plan), plan.digest).get("done", 0))


def write_note(path: Path, content: dict[str, Any]) -> None:
    """Replace a note; it outlives this process, not the machine, and so costs no wait for the disk.

    Raises StorageError when the disk is full or the folder is not writable.
    """
    try:
        with scratch_path(path) as temporary:
            temporary.write_text(json.dumps(content, sort_keys=True) + "\n", encoding="utf-8")
            temporary.replace(path)
    except OSError as error:
        raise storage_error(path, error) from error


def _path(folder: Path, plan: ShardPlan) -> Path:
    return folder / JOURNAL_FOLDER / f"{plan.name}.building"


def _read(path: Path, plan: str) -> dict[str, int]:
    """What a note of this plan says; nothing where there is none, or a damaged one."""
    try:
        content = from_json(path.read_text(encoding="utf-8"))
        return {key: int(content[key]) for key in ("attempts", "done")} if content["plan"] == plan else {}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return {}
