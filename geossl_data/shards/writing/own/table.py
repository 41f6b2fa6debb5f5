"""A table of one's own rasters: a CSV file with a row for each, and what its columns may say.

place, sensor and path are needed, and time or look; split, label, lon, lat, bands, scale, offset and units may be there
too. Columns of the maker's own begin with an underscore. What contradicts itself is an error that names the line, not a
guess.
"""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from geossl_data.errors import DatasetError
from geossl_data.records import SPLITS, Split
from geossl_data.scenes.items import parse_time
from geossl_data.shards.manifest import MEMBER_PATTERN
from geossl_data.tiles.own import path_below

NEEDED = ("place", "sensor", "path")
KNOWN = (*NEEDED, "time", "look", "split", "label", "lon", "lat", "bands", "scale", "offset", "units")
OF_SENSOR = ("bands", "scale", "offset", "units")
"""Columns in which all rows of a sensor say the same, or nothing."""
RESERVED = ("json", "index", "look")
"""Names that a member of a sample or an array of a batch has already."""
MAX_NBYTES = 1 << 30
MAX_TEXT = 1000
"""Characters of a place or path: far above any, far below what fills a disk."""
MAX_UNITS = 60
"""Characters of units."""
MAX_NUMBER = 1e20
"""Largest scale or offset: times any whole number it is still far below what float32 holds."""
LABELS_SIGN = "|"
"""What stands between the classes of a look that has several."""

_DELIMITERS = (",", ";", "\t")
_WHOLE = re.compile(r"[+-]?\d{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One raster: what a sensor saw of a place at a time."""

    line: int
    """Of the file, counted from 1; 0 where there is no table."""
    place: str
    sensor: str
    """In lower letters: the name of a member."""
    path: str
    """Below the folder of the rasters."""
    time: datetime | None
    """UTC; a time without a zone is taken as UTC, a date as its midnight. None where none is said."""
    look: int | None
    """Rows of a place with the same number are one look, whatever their times; None: those of the same time are."""
    split: Split | None
    label: str
    """Class of the look, the first of several: a whole number from 1 on, or a name; empty where none is said."""
    lon: float | None
    """Of the place's centre, degrees east; both or none."""
    lat: float | None
    bands: tuple[str, ...]
    """Names of the bands; () where the file tells them, or nobody."""
    more_labels: tuple[str, ...] = ()
    """Further classes of a look that has several."""
    scale: float | None = None
    """What the stored numbers are multiplied with, and `offset` then added; None where the file says, or nobody."""
    offset: float | None = None
    units: str = ""
    """Of the numbers that come of it."""

    @property
    def where(self) -> str:
        """Path and line, for messages."""
        return f"{self.path} (line {self.line})" if self.line else self.path

    @property
    def labels(self) -> tuple[str, ...]:
        """All classes of the look; () where none is said."""
        return (self.label, *self.more_labels) if self.label else ()


def read_rows(path: Path, folder: Path) -> list[Row]:
    """The rows of a table, in its order. folder: where its paths are relative to and may not leave.

    UTF-8 with or without a mark at its beginning; commas, semicolons or tabs between the columns, as in the header.
    Raises DatasetError in one line that names file and line: no such file, not text, no rows, unknown or missing
    columns, a value that is not what the column says, the same raster of a look twice.
    """
    lines = csv.reader(io.StringIO(text := _text(path), newline=""), delimiter=_delimiter(path, text), strict=True)
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        _check_header(path, header)
        rows = []
        for cells in lines:
            if any(cell.strip() for cell in cells):
                rows.append(_row(path, lines.line_num, header, cells, folder))
    except csv.Error as error:
        raise DatasetError(f"{path}, line {lines.line_num}: not CSV: {error}") from None
    if not rows:
        raise DatasetError(f"{path}: no rows; expected one for each raster below the header")
    _check_rows(path, rows)
    return rows


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_NBYTES:
            raise DatasetError(f"{path}: more than {MAX_NBYTES >> 20} MB; make a dataset of each part of the table")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: not UTF-8 text; save the table as CSV with UTF-8") from None
    except OSError as error:
        raise DatasetError(f"{path}: the table cannot be read: {error.strerror or 'unknown'}") from None


def _delimiter(path: Path, text: str) -> str:
    """What stands between the columns: of the known ones that which cuts the header into most names we know."""
    first = text.partition("\n")[0]
    if "\0" in text:
        raise DatasetError(f"{path}: not UTF-8 text; save the table as CSV with UTF-8")
    known = {sign: sum(name.strip().strip('"').lower() in KNOWN for name in first.split(sign)) for sign in _DELIMITERS}
    return max(_DELIMITERS, key=lambda sign: known[sign])


def _check_header(path: Path, header: Sequence[str]) -> None:
    unknown = [name for name in header if name not in KNOWN and not name.startswith("_")]
    lacking = [name for name in NEEDED if name not in header]
    problem = None
    if lacking:
        problem = f"no column {lacking[0]!r}; expected place, time, sensor and path"
    elif "time" not in header and "look" not in header:
        problem = "neither a column 'time' nor 'look', so the order of looks is not known"
    elif len({*header}) != len(header):
        problem = "a column name comes twice"
    elif ("lon" in header) != ("lat" in header):
        problem = "lon and lat go together; give both or neither"
    elif unknown:
        problem = f"unknown column {unknown[0]!r}; known are {', '.join(KNOWN)}, and your own begin with _"
    if problem:
        raise DatasetError(f"{path}: {problem}")


def _row(path: Path, line: int, header: Sequence[str], cells: Sequence[str], folder: Path) -> Row:
    try:
        if len(cells) != len(header):
            raise ValueError(f"{len(cells)} cells where the header has {len(header)}")
        values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        label, *more_labels = _labels(values.get("label", ""))
        row = Row(
            line=line,
            place=_named(values["place"]),
            sensor=_sensor(values["sensor"]),
            path=path_below(folder, _short(values["path"], "path")),
            time=_time(values.get("time", "")),
            look=_whole(values.get("look", ""), "look"),
            split=_split(values.get("split", "")),
            label=label,
            lon=_degrees(values.get("lon", ""), "lon", 180.0),
            lat=_degrees(values.get("lat", ""), "lat", 90.0),
            bands=_bands(values.get("bands", "")),
            more_labels=tuple(more_labels),
            scale=_number(values.get("scale", ""), "scale"),
            offset=_number(values.get("offset", ""), "offset"),
            units=_units(values.get("units", "")),
        )
        if row.time is None and row.look is None:
            raise ValueError("neither a time nor a look, so its place in the order of looks is not known")
        if (row.lon is None) != (row.lat is None):
            raise ValueError("lon and lat go together; give both or neither")
    except (ValueError, DatasetError) as error:
        raise DatasetError(f"{path}, line {line}: {error}") from None
    return row


def _short(text: str, what: str) -> str:
    if len(text) > MAX_TEXT:
        raise ValueError(f"a {what} of {len(text)} characters, more than {MAX_TEXT}")
    return text


def _named(text: str) -> str:
    if not text:
        raise ValueError("no place")
    return _short(text, "place")


def _sensor(text: str) -> str:
    name = text.lower()
    if MEMBER_PATTERN.fullmatch(name) is None or name in RESERVED:
        raise ValueError(
            f"sensor {text[:60]!r} is not up to 40 letters, digits, - and _, or it is one of {', '.join(RESERVED)}"
        )
    return name


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f"time {text[:60]!r} is no date or time of ISO 8601, as in 2024-07-01 or 2024-07-01T10:20:30Z; where only "
            "the order is known, leave it empty and count a column 'look'"
        ) from None


def _whole(text: str, what: str) -> int | None:
    if text and _WHOLE.fullmatch(text) is None:
        raise ValueError(f"{what} {text[:60]!r} is no whole number")
    return int(text) if text else None


def _split(text: str) -> Split | None:
    if text and text not in SPLITS:
        raise ValueError(f"split {text[:60]!r} is not one of {', '.join(SPLITS)}")
    return text if text else None


def _labels(text: str) -> list[str]:
    """One class or several; one empty text where none is said."""
    labels = [class_of(part.strip()) for part in text.split(LABELS_SIGN)]
    if len(labels) > 1 and not all(labels):
        raise ValueError(f"label {text[:60]!r}: no class before or after a {LABELS_SIGN}")
    if len(set(labels)) != len(labels):
        raise ValueError(f"label {text[:60]!r}: a class comes twice")
    return labels


def class_of(text: str) -> str:
    """The class that a text names: a whole number in one way of writing, or a name as it is. ValueError below 1."""
    number = _whole(text, "label") if _WHOLE.fullmatch(text) else None
    if number is not None and number < 1:
        raise ValueError(f"label {number}: classes are counted from 1; an empty cell says that there is none")
    return _short(text, "label") if number is None else str(number)


def _float(text: str) -> float:
    """The number of a text; NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _number(text: str, what: str) -> float | None:
    if not text:
        return None
    value = _float(text)
    if not abs(value) <= MAX_NUMBER:
        raise ValueError(f"{what} {text[:60]!r} is no number of at most {MAX_NUMBER:g}")
    if what == "scale" and abs(value) < 1 / MAX_NUMBER:
        raise ValueError(f"scale {text[:60]!r} leaves nothing of the numbers; 1 leaves them as they are")
    return value


def _units(text: str) -> str:
    if len(text) > MAX_UNITS or not text.isprintable():
        raise ValueError(f"units {text[:60]!r} are not up to {MAX_UNITS} characters of text")
    return text


def _degrees(text: str, what: str, most: float) -> float | None:
    if not text:
        return None
    value = _float(text)
    if not abs(value) <= most:
        raise ValueError(f"{what} {text[:60]!r} is not in -{most:g} to {most:g} degrees")
    return value


def _bands(text: str) -> tuple[str, ...]:
    names = tuple(text.split())
    if len(set(names)) != len(names):
        raise ValueError(f"bands {text[:60]!r}: a name comes twice")
    return names


def _check_rows(path: Path, rows: Sequence[Row]) -> None:
    """DatasetError for rows that contradict one another."""
    rasters: dict[tuple[str, int | datetime | None, str], Row] = {}
    said: dict[tuple[object, ...], tuple[object, Row]] = {}
    for row in rows:
        look = row.time if row.look is None else row.look
        other = rasters.setdefault((row.place, look, row.sensor), row)
        if other is not row:
            raise DatasetError(
                f"{path}, line {row.line}: {row.sensor} of place {row.place[:60]!r} at that time, or of that look, "
                f"stands in line {other.line} already"
            )
        for what, key, value in (
            ("split", (row.place,), row.split),
            ("location", (row.place,), None if row.lon is None else (row.lon, row.lat)),
            ("label", (row.place, look), row.labels or None),
            ("bands", (row.sensor,), row.bands or None),
            ("scale", (row.sensor,), row.scale),
            ("offset", (row.sensor,), row.offset),
            ("units", (row.sensor,), row.units or None),
            ("use of the column look", (row.place,), row.look is None),
        ):
            if value is None:
                continue
            before, first = said.setdefault((what, *key), (value, row))
            if before != value:
                raise DatasetError(
                    f"{path}, line {row.line}: another {what} than in line {first.line} for the same "
                    f"{'sensor' if what in OF_SENSOR else 'place'}"
                )
