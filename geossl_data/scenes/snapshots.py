"""Catalogs as stac-geoparquet: a file, a folder of files, or one on the network, of which only what may match is read.

Row groups and rows are left out by bounding box and time before they become items. A file on http is read by ranges
through our own client, one in an object store through obstore.
"""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geossl_data.errors import CatalogError, first_line
from geossl_data.grid import Bounds
from geossl_data.progress import Progress, silent
from geossl_data.scenes.area import query_boxes
from geossl_data.scenes.hrefs import redact, split
from geossl_data.scenes.http import Http, HttpError
from geossl_data.scenes.items import Item, items_of
from geossl_data.scenes.providers import PARQUET_ENDINGS, SENSOR_OF, Provider
from geossl_data.scenes.query import Query

MAX_NBYTES = 64 * 2**30
"""A remote file that claims to be larger than this is refused."""
_BLOCK_NBYTES = 2**20
_HALF_TURN = 180.0
"""Boxes wider than this may stand for ground across the antimeridian."""
_BOX = ("xmin", "ymin", "xmax", "ymax")
_CLOUD = "eo:cloud_cover"
_LOOKED_AT = ("bbox", "datetime", "collection", _CLOUD)
"""What decides about rows before the rest of them is read."""


def snapshot_base(catalog: str) -> str:
    """Absolute folder or URL that the items' relative hrefs are relative to."""
    if "://" in catalog:
        return catalog.rsplit("/", 1)[0] + "/"
    path = Path(catalog).resolve()
    return str(path if path.is_dir() else path.parent)


def read_snapshot(
    catalog: str,
    provider: Provider,
    query: Query,
    outside: Counter[str] | None = None,
    *,
    progress: Progress = silent,
) -> Iterator[list[Item]]:
    """The items that may match a query, a row group at a time; `select` decides about each.

    catalog: a .parquet file, a folder of them, an http(s) URL of a file, or a file or folder in an object store.
    outside: counts, before each row group is given, those that are too cloudy, which are most of an archive and would
    take most of the time.
    Raises CatalogError in one line when there is none, or it is not stac-geoparquet.
    """
    boxes = None if query.area is None else _Boxes(query_boxes(query.area))
    n_files = n_kept = 0
    with ExitStack() as stack, progress("reading the catalog", total=_n_rows(catalog)) as task:
        for name, file in _files(catalog, stack):
            n_files += 1
            try:
                groups = _items(file, name, provider, query, boxes, Counter() if outside is None else outside)
                for items, n_rows in groups:
                    n_kept += len(items)
                    yield items
                    task.advance(n_rows, note=f"{n_kept:,} that may match")
            # Beside Arrow's own: a column that comes twice, times that no year has.
            except (pa.ArrowException, OSError, HttpError, LookupError, ValueError, OverflowError) as error:
                raise CatalogError(f"{name}: not a readable Parquet table: {first_line(error)}") from None
    if not n_files:
        raise CatalogError(f"{catalog}: holds no stac-geoparquet file; expected {' or '.join(PARQUET_ENDINGS)}")


def _local_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in PARQUET_ENDINGS)


def _n_rows(catalog: str) -> int | None:
    """Items in the files of a catalog; None where they are not local, or not all can be read."""
    if "://" in catalog:
        return None
    try:
        return sum(int(pq.read_metadata(path).num_rows) for path in _local_files(Path(catalog)))
    except (pa.ArrowException, OSError):
        return None


def _files(catalog: str, stack: ExitStack) -> Iterator[tuple[str, Any]]:
    """Name and content of each file of a catalog, in order of name."""
    if "://" not in catalog:
        path = Path(catalog)
        if not path.exists():
            raise CatalogError(f"{catalog}: no such catalog file")
        for each in _local_files(path):
            yield str(each), stack.enter_context(each.open("rb"))
    elif catalog.startswith(("http://", "https://")):
        yield catalog, io.BufferedReader(stack.enter_context(_remote(catalog)), _BLOCK_NBYTES)
    else:
        yield from _objects(catalog)


def _items(
    file: BinaryIO, name: str, provider: Provider, query: Query, boxes: "_Boxes | None", outside: Counter[str]
) -> Iterator[tuple[list[Item], int]]:
    """The items of each row group that may match, and how many rows were looked at for them."""
    parquet = pq.ParquetFile(file)
    n_rows = 0
    known = [column for column in _LOOKED_AT if column in parquet.schema_arrow.names]
    for group in range(parquet.metadata.num_row_groups):
        n_rows += parquet.metadata.row_group(group).num_rows
        if not _group_may_match(parquet.metadata.row_group(group), provider, query, boxes):
            continue
        keep = np.ones(parquet.metadata.row_group(group).num_rows, dtype=bool)
        if known:
            table = parquet.read_row_group(group, columns=known)
            keep = _rows_that_may_match(table, provider, query, boxes)
            cloudy = keep & _too_cloudy(table, provider, query)
            if cloudy.any():
                outside["too cloudy"] += int(cloudy.sum())
                keep &= ~cloudy
        table = parquet.read_row_group(group) if keep.any() else parquet.schema_arrow.empty_table()
        yield items_of(table if keep.all() or not keep.any() else table.filter(pa.array(keep)), name), n_rows
        n_rows = 0


def _too_cloudy(table: pa.Table, provider: Provider, query: Query) -> NDArray[np.bool_]:
    """True for each row of Sentinel-2 that states more cloud than is wanted."""
    cloudy = np.zeros(table.num_rows, dtype=bool)
    if not {"collection", _CLOUD} <= set(table.column_names) or not pa.types.is_floating(
        table.schema.field(_CLOUD).type
    ):
        return cloudy
    beyond = pc.and_(pc.greater(table[_CLOUD], query.max_cloud), pc.less_equal(table[_CLOUD], 100.0))
    over = pc.fill_null(beyond, False).to_numpy(zero_copy_only=False)
    for collection in pc.unique(table["collection"]).to_pylist() if over.any() else ():
        if collection is not None and provider.collections.get(collection) == query.s2:
            cloudy |= over & _is(table["collection"], collection)
    return cloudy


def _is(column: pa.ChunkedArray, value: str) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(pc.equal(column, value), False).to_numpy(zero_copy_only=False))


class _Boxes:
    """Many boxes, of which those near another are found without looking at all of them."""

    def __init__(self, boxes: Sequence[Bounds]) -> None:
        import shapely

        self._tree = shapely.STRtree(shapely.box(*np.array(boxes, dtype=np.float64).reshape(-1, 4).T))

    def met_by(self, limits: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which boxes west, south, east, north, shape (n, 4), touch one of these."""
        import shapely

        met = np.zeros(len(limits), dtype=bool)
        usable = np.flatnonzero(np.isfinite(limits).all(axis=1))
        met[usable[np.unique(self._tree.query(shapely.box(*limits[usable].T))[0])]] = True
        return met


def _group_may_match(group: Any, provider: Provider, query: Query, boxes: _Boxes | None) -> bool:
    """Can a row group hold a match, by its smallest and largest values? True where it has none stored."""
    limits: dict[str, tuple[Any, Any]] = {}
    for column in map(group.column, range(group.num_columns)):
        if column.is_stats_set and column.statistics.has_min_max:
            limits[column.path_in_schema] = (column.statistics.min, column.statistics.max)
    edges = [limits.get(f"bbox.{edge}") for edge in _BOX]
    if boxes is not None and None not in edges:
        (west, _), (south, _), (_, east), (_, north) = cast(list[tuple[float, float]], edges)
        if 0 <= east - west <= _HALF_TURN and not boxes.met_by(np.array([[west, south, east, north]], float)).any():
            return False
    first, last = limits.get("datetime", (None, None))
    collections = limits.get("collection")
    if collections is None or collections[0] != collections[1] or not isinstance(first, datetime):
        return True
    period = _period_of(str(collections[0]), provider, query)
    return period is None or _within(first, last, period)


def _period_of(collection: str, provider: Provider, query: Query) -> tuple[datetime | None, datetime | None] | None:
    """The period in which scenes of a collection are wanted; None where any time will do."""
    product = provider.collections.get(collection)
    return None if product is None or SENSOR_OF[product] == "label" else query.period(product)


def _within(first: datetime, last: datetime, period: tuple[datetime | None, datetime | None]) -> bool:
    start, end = period
    return (start is None or last >= start) and (end is None or first < end)


def _rows_that_may_match(table: pa.Table, provider: Provider, query: Query, boxes: _Boxes | None) -> NDArray[np.bool_]:
    """True for each row that box and time do not rule out; a row without a box or a time is not ruled out."""
    schema = table.schema
    keep = np.ones(table.num_rows, dtype=bool)
    if boxes is not None and "bbox" in schema.names and pa.types.is_struct(schema.field("bbox").type):
        keep &= _meets_a_box(table["bbox"], boxes)
    if {"datetime", "collection"} <= set(schema.names) and pa.types.is_timestamp(schema.field("datetime").type):
        moments = pc.cast(table["datetime"], pa.timestamp("us", tz="UTC"))
        for collection in pc.unique(table["collection"]).to_pylist():
            period = None if collection is None else _period_of(collection, provider, query)
            if period is not None:
                of_it = pc.equal(table["collection"], collection).to_numpy(zero_copy_only=False)
                keep &= ~(of_it & _outside(moments, period))
    return keep


def _meets_a_box(given: pa.ChunkedArray, boxes: _Boxes) -> NDArray[np.bool_]:
    if not set(_BOX) <= {field.name for field in given.type}:
        return np.ones(len(given), dtype=bool)
    west, south, east, north = (
        pc.struct_field(given, edge).to_numpy(zero_copy_only=False).astype(float) for edge in _BOX
    )
    meets: NDArray[np.bool_] = (
        np.isnan(west + south + east + north)
        | (west > east)
        | (east - west > _HALF_TURN)
        | (west < -180)
        | (east > 180)
    )
    return meets | boxes.met_by(np.column_stack([west, south, east, north]))


def _outside(moments: pa.ChunkedArray, period: tuple[datetime | None, datetime | None]) -> NDArray[np.bool_]:
    outside = np.zeros(len(moments), dtype=bool)
    for limit, is_beyond in zip(period, (pc.less, pc.greater_equal), strict=True):
        if limit is not None:
            beyond = is_beyond(moments, pa.scalar(limit, pa.timestamp("us", tz="UTC")))
            outside |= pc.fill_null(beyond, False).to_numpy(zero_copy_only=False)
    return outside


class _Ranges(io.RawIOBase):
    """A file elsewhere, of which a callable gives (start, length) as bytes."""

    def __init__(self, name: str, size: int, read_range: Callable[[int, int], bytes]) -> None:
        super().__init__()
        if not 0 < size <= MAX_NBYTES:
            raise CatalogError(f"{name}: does not tell its size; download it and give its path")
        self._name, self._size, self._read_range = name, size, read_range
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        content = self._read_range(self._position, wanted)
        if len(content) != wanted:
            raise OSError(f"{self._name}: {len(content)} bytes where {wanted} were asked for")
        buffer[:wanted] = content
        self._position += wanted
        return wanted


@contextmanager
def _remote(url: str) -> Iterator[_Ranges]:
    """A file on a web server."""
    with Http(url) as http:

        def read_range(start: int, length: int) -> bytes:
            answer = http.request("GET", url, headers={"Range": f"bytes={start}-{start + length - 1}"})
            return answer.content if answer.status == 206 else answer.content[start : start + length]

        try:
            size = int(http.request("HEAD", url, headers={"Accept-Encoding": "identity"}).headers["Content-Length"])
        except HttpError as error:
            raise CatalogError(str(error)) from None
        except (KeyError, ValueError):
            size = 0
        yield _Ranges(redact(url), size, read_range)


def _objects(url: str) -> Iterator[tuple[str, BinaryIO]]:
    """The Parquet files below a URL of an object store; credentials and endpoint come from the environment."""
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    parts = split(url)
    assert parts is not None
    prefix = parts.path.strip("/")
    try:
        store: Any = from_url(f"{parts.scheme}://{parts.netloc}")
        if prefix.endswith(PARQUET_ENDINGS):
            entries = [obstore.head(store, prefix)]
        else:
            entries = [entry for chunk in obstore.list(store, prefix=prefix) for entry in chunk]
        for entry in sorted(entries, key=lambda entry: str(entry["path"])):
            path = entry["path"]
            if path.endswith(PARQUET_ENDINGS):
                raw = _Ranges(path, entry["size"], partial(_object_range, store, path))
                yield f"{parts.scheme}://{parts.netloc}/{path}", cast(BinaryIO, io.BufferedReader(raw, _BLOCK_NBYTES))
    except (BaseError, OSError) as error:
        what = type(error).__name__
        raise CatalogError(f"{url}: cannot be read: {what}; check the address and the credentials") from None


def _object_range(store: Any, path: str, start: int, length: int) -> bytes:
    import obstore

    return bytes(obstore.get_range(store, path, start=start, length=length))
