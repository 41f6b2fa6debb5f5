"""The headers of rasters, each read once: kept in memory, and in a file that later stages and other processes share.

The file is a cache and nothing more: where it cannot be read or written, headers are read from the rasters.
"""

import logging
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from geossl_data.tiles.cogs.header import BrokenTiffError, Header, pack, unpack

_LOG = logging.getLogger(__name__)

MAX_IN_MEMORY = 4096
"""Headers kept in memory: a full-size band takes about 10 kB."""
BUSY_S = 5.0
"""Longest wait for another process that writes to the file."""

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS headers "
    "(href TEXT PRIMARY KEY, nbytes INTEGER, etag TEXT, header BLOB NOT NULL) WITHOUT ROWID"
)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A header and the state of the file that it was read from."""

    header: Header
    nbytes: int | None
    """Size of the whole file, None where the server does not tell."""
    etag: str | None


class Headers:
    """Headers by unsigned href. Safe to use from several threads and processes.

    path: the file that they are kept in; None keeps them in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._memory: OrderedDict[str, Known] = OrderedDict()
        self._connection: sqlite3.Connection | None = None
        self._inherited: list[sqlite3.Connection] = []
        self._pid = os.getpid()
        self._is_broken = path is None

    def __reduce__(self) -> "tuple[Callable[..., Headers], tuple[Path | None]]":
        return Headers, (self._path,)

    def get(self, href: str) -> Known | None:
        """What is known of a raster; None where it has to be read."""
        with self._lock:
            known = self._memory.get(href)
            if known is None:
                known = self._stored(href)
                if known is not None:
                    self._keep(href, known)
            else:
                self._memory.move_to_end(href)
        return known

    def put(self, href: str, known: Known) -> None:
        """Remember a header that was read."""
        with self._lock:
            self._keep(href, known)
            row = (href, known.nbytes, known.etag, pack(known.header))
            self._ask("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?)", row)

    def forget(self, href: str) -> None:
        """Note that a header is out of date."""
        with self._lock:
            self._memory.pop(href, None)
            self._ask("DELETE FROM headers WHERE href = ?", (href,))

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _keep(self, href: str, known: Known) -> None:
        self._memory[href] = known
        while len(self._memory) > MAX_IN_MEMORY:
            self._memory.popitem(last=False)

    def _stored(self, href: str) -> Known | None:
        rows = self._ask("SELECT nbytes, etag, header FROM headers WHERE href = ?", (href,))
        if not rows:
            return None
        nbytes, etag, packed = rows[0]
        try:
            if not (isinstance(packed, bytes) and isinstance(nbytes, int | None) and isinstance(etag, str | None)):
                raise BrokenTiffError("its columns are of other types")
            return Known(unpack(packed), nbytes, etag)
        except BrokenTiffError as error:
            _LOG.info("%s: a header in it is damaged (%s); it is read again", self._path, error)
            return None

    def _ask(self, sql: str, values: tuple[object, ...]) -> list[tuple[int | None, str | None, bytes]]:
        """The rows that a statement gives; none, for good, once the file turned out to be of no use."""
        if self._is_broken:
            return []
        if self._pid != os.getpid():
            # A fork must neither use nor close what its parent opened (sqlite.org/howtocorrupt.html, 2.6).
            self._inherited += [] if self._connection is None else [self._connection]
            self._pid, self._connection = os.getpid(), None
        try:
            if self._connection is None:
                self._connection = self._opened()
            with self._connection:
                return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            _LOG.info("%s cannot be used (%s); headers are read from the rasters", self._path, error)
            self._is_broken = True
            return []

    def _opened(self) -> sqlite3.Connection:
        assert self._path is not None
        connection = sqlite3.connect(self._path, timeout=BUSY_S, check_same_thread=False)
        # A cache may lose its last entries with the machine's power.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_SCHEMA)
        return connection
