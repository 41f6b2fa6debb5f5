"""The journal of a search: what finished questions were answered with, so that an interrupted search goes on.

A folder with one compressed file per finished question, written whole or not at all. It belongs to one query; another
query starts a new one.
"""

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from geossl_data.errors import SceneError
from geossl_data.files import atomic_path, from_json, remove_folder, write_text
from geossl_data.records import Scene, Skipped
from geossl_data.scenes.items import Item, Packed, unpacked
from geossl_data.scenes.selection import Findings

JOURNAL_NAME = ".search"
_QUERY_NAME = "query"
_ENDING = ".json.gz"
_DAMAGED = (
    *(OSError, EOFError, zlib.error, ValueError, TypeError, LookupError, AttributeError, OverflowError),
    SceneError,
)
"""What a damaged answer may lead to."""


def holds_answers(folder: Path) -> bool:
    """Is there anything in the journal that a later search could use?"""
    return any(folder.glob(f"*{_ENDING}"))


def is_left_over(folder: Path, ended: float) -> bool:
    """Is a journal there that is of no use to a search other than one that ended then, in seconds since 1970?

    Its marker tells when the search was begun. The folder's own time does not: it changes while the folder is being
    emptied, which is when a process is killed at the very end. Without a marker it is of no use to any.
    """
    marker = folder / _QUERY_NAME
    return folder.is_dir() and not (marker.is_file() and marker.stat().st_mtime > ended)


class Journal:
    """Findings by question name, on disk below `folder`; of no use to a query other than `query`."""

    def __init__(self, folder: Path, query: str) -> None:
        self._folder = folder
        marker = folder / _QUERY_NAME
        if not marker.is_file() or marker.read_text(encoding="utf-8", errors="replace") != query:
            remove_folder(folder)
            write_text(marker, query)

    def read(self, name: str, scene_of: Callable[[Item], Scene]) -> Findings | None:
        """What was found for a question; None where it is not finished, or what was written is damaged."""
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            content: dict[str, Any] = from_json(gzip.decompress(path.read_bytes()))
            return Findings(
                found=[(scene_of(item), Packed(item)) for item in content["items"]],
                skipped=[Skipped(**row) for row in content["skipped"]],
                outside={str(why): int(count) for why, count in content["outside"].items()},
                n_items=int(content["n_items"]),
            )
        except _DAMAGED:
            path.unlink()
            return None

    def write(self, name: str, findings: Findings) -> None:
        """Keep what was found for a question."""
        content = {
            "items": [unpacked(item) for _, item in findings.found],
            "skipped": [asdict(row) for row in findings.skipped],
            "outside": findings.outside,
            "n_items": findings.n_items,
        }
        with atomic_path(self._path(name)) as temporary:
            temporary.write_bytes(gzip.compress(json.dumps(content).encode(), compresslevel=1, mtime=0))

    def remove(self) -> None:
        """Delete the journal; its search is complete."""
        remove_folder(self._folder)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_ENDING}"
