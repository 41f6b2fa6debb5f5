"""The other files of a dataset folder: secrets in them, and what should not lie there."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from geossl_data.files import TEMPORARY_SUFFIX
from geossl_data.shards.checking.findings import Finding, error, warning
from geossl_data.shards.manifest import LICENCE_NAME, SHARDS_FOLDER
from geossl_data.shards.secrets import SECRET_PATTERN
from geossl_data.shards.writing.journal import JOURNAL_FOLDER

SUFFIXES = (".yaml", ".yml", ".json", ".jsonl", ".geojson", ".txt", ".csv", ".html", ".md", ".log", ".xml")
MAX_TEXT_NBYTES = 256 * 2**20
"""What of a text is looked through."""
CHUNK_NBYTES = 2**20
OVERLAP = 1024
"""Characters that are looked at twice, so that what lies across the end of a chunk is seen: more than a key has."""

_KEYS = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----|\bAccountKey=[A-Za-z0-9+/]{20}"
    r"|\bBearer [A-Za-z0-9._~+/-]{20}"
)
"""What keys look like that stand outside of addresses."""


def holds_secret(text: str) -> bool:
    """Whether a text holds a signed address, one with a password, or a key."""
    return SECRET_PATTERN.search(text) is not None or _KEYS.search(text) is not None


def text_findings(folder: Path) -> Iterator[Finding]:
    """Secrets in the texts of a dataset folder and of the journal of its shards, and texts that cannot be read."""
    journal = folder / SHARDS_FOLDER / JOURNAL_FOLDER
    for path in (*sorted(folder.iterdir()), *(sorted(journal.iterdir()) if journal.is_dir() else ())):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink():
            name = path.relative_to(folder).as_posix()
            try:
                if _file_holds_secret(path):
                    yield error(name, "holds a signed address, a password or a key")
                if path.stat().st_size > MAX_TEXT_NBYTES:
                    yield warning(name, f"is larger than {MAX_TEXT_NBYTES} bytes and was not looked through to its end")
            except OSError as problem:
                yield error(name, f"cannot be read: {problem.strerror}")


def _file_holds_secret(path: Path) -> bool:
    left, tail = MAX_TEXT_NBYTES, ""
    with path.open(encoding="latin-1", newline="") as file:
        while left > 0 and (chunk := file.read(CHUNK_NBYTES)):
            if holds_secret(tail + chunk):
                return True
            left, tail = left - len(chunk), chunk[-OVERLAP:]
    return False


def leftover_findings(folder: Path, listed: Collection[str]) -> Iterator[Finding]:
    """Tars that the manifest does not list, and what a process left that did not end."""
    shards = folder / SHARDS_FOLDER
    for path in sorted(shards.glob("*.tar")):
        if path.name not in listed:
            yield warning(path.name, "a shard that the manifest does not list")
    for place in (folder, shards, shards / JOURNAL_FOLDER):
        for path in sorted(place.glob(f"*{TEMPORARY_SUFFIX}")):
            name = path.relative_to(folder).as_posix()
            yield warning(name, "left by a process that did not end, or being written now")


def licence_findings(folder: Path, years: Collection[int]) -> Iterator[Finding]:
    """Years in which the scenes were acquired and that the licence does not name."""
    path = folder / LICENCE_NAME
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    unnamed = [str(year) for year in sorted(years) if str(year) not in text]
    if unnamed:
        yield error(LICENCE_NAME, f"does not name {', '.join(unnamed)}, in which scenes of the dataset were acquired")
