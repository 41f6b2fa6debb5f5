"""A folder of an object store: shards are put there once, and read by range.

Credentials, endpoint and region come from the environment, by the names that obstore knows. No address with
credentials in it is accepted, so that none can reach a file or a message.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from geossl_data.errors import ShardError
from geossl_data.scenes.opening.stores import NEEDS, SCHEMES, open_bucket

RETRIES = 5


class Store:
    """The objects below a URL such as `s3://bucket/prefix`. Safe for several threads; opened again where it is sent."""

    threads = 16
    """Requests that are made at the same time."""
    max_span = 8 * 2**20
    """The most bytes that one request is made for."""
    max_encoded = max_span
    max_gap = 2**18
    """The most unwanted bytes that are read along to spare a request."""

    def __init__(self, url: str) -> None:
        """Raises ShardError for an address that is none of an object store, or that cannot be opened."""
        parts = urlsplit(url)
        plain = parts.scheme in SCHEMES and parts.netloc and not parts.query and not parts.fragment
        if not plain or ":" in parts.netloc:
            raise ShardError(
                f"not the address of an object store, such as s3://bucket/folder ({', '.join(SCHEMES)}); "
                "credentials belong into the environment"
            )
        self.url = url.rstrip("/")
        self._scheme, self._prefix = parts.scheme, unquote(parts.path).strip("/")
        self._bucket = open_bucket(parts.scheme, f"{parts.scheme}://{parts.netloc}", retries=RETRIES)
        if self._bucket is None:
            raise ShardError(f"{self.url}: cannot be opened; set {NEEDS[parts.scheme]}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Store, (self.url,))

    def below(self, name: str) -> "Store":
        """The folder of that name in this one."""
        return Store(f"{self.url}/{name}")

    def where(self, name: str) -> str:
        """The address of an object, as messages name it."""
        return f"{self.url}/{name}"

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def nbytes(self, name: str) -> int | None:
        """The size of an object; None where there is none of that name."""
        import obstore

        with self._one_line(name):
            try:
                return int(obstore.head(self._bucket, self._path(name))["size"])
            except FileNotFoundError:
                return None

    def read_all(self, name: str) -> bytes:
        """All bytes of an object; ShardError where there is none."""
        import obstore

        with self._one_line(name):
            return bytes(obstore.get(self._bucket, self._path(name)).bytes())

    def read_into(self, name: str, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill the buffers, one after the other, with the bytes at `offset`; ShardError where there are not as many."""
        import obstore

        wanted = sum(map(len, buffers))
        with self._one_line(name):
            data = memoryview(obstore.get_range(self._bucket, self._path(name), start=offset, length=wanted)).cast("B")
        if len(data) != wanted:
            raise ShardError(f"{self.where(name)}: {len(data)} bytes came at byte {offset} where {wanted} belong")
        start = 0
        for buffer in buffers:
            buffer[:] = data[start : start + len(buffer)]
            start += len(buffer)

    def put(self, name: str, data: bytes | Path) -> None:
        """Put bytes, or those of a file, over whatever object of that name there is."""
        import obstore

        with self._one_line(name, "bucket"):
            obstore.put(self._bucket, self._path(name), data)

    def put_if_absent(self, name: str, data: bytes | Path) -> bool:
        """Put bytes, or those of a file, unless there is an object of that name; whether they were put.

        One request for all of them, which are in memory meanwhile: no store makes an upload in parts conditional.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._one_line(name, "bucket"):
            try:
                obstore.put(self._bucket, self._path(name), data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens where there is none."""
        import obstore

        with self._one_line(name), suppress(FileNotFoundError):
            obstore.delete(self._bucket, self._path(name))

    def sizes(self) -> dict[str, int]:
        """Name below this folder → size, of every object there is."""
        import obstore

        start = f"{self._prefix}/" if self._prefix else ""
        with self._one_line("", "bucket"):
            found = [one for some in obstore.list(self._bucket, prefix=self._prefix or None) for one in some]
        return {one["path"].removeprefix(start): int(one["size"]) for one in found if one["path"].startswith(start)}

    def sha256(self, name: str) -> str | None:
        """Hex digest of an object's bytes, which are all read; None where there is none of that name."""
        nbytes = self.nbytes(name)
        if nbytes is None:
            return None
        digest, buffer = hashlib.sha256(), memoryview(bytearray(min(nbytes, self.max_span)))
        for start in range(0, nbytes, self.max_span):
            part = buffer[: min(self.max_span, nbytes - start)]
            self.read_into(name, start, [part])
            digest.update(part)
        return digest.hexdigest()

    def close(self) -> None:
        """Nothing is kept open."""

    @contextmanager
    def _one_line(self, name: str, absent: str = "object") -> Iterator[None]:
        """Turns what obstore raises, whose text may hold a signed address, into one line.

        absent: what it is that is not there, where something is not.
        """
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except FileNotFoundError:
            raise ShardError(f"{self.where(name)}: there is no such {absent}") from None
        except (PermissionDeniedError, UnauthenticatedError):
            raise ShardError(f"{self.where(name)}: the store refuses; set {NEEDS[self._scheme]}") from None
        except (BaseError, OSError, ValueError) as error:
            raise ShardError(
                f"{self.where(name)}: the store failed ({type(error).__name__}); see that bucket, region and endpoint "
                "are right, and try again"
            ) from None
