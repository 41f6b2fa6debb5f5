"""Real bytes and values, spoilt: what a disk, a network or somebody else makes of them.

Whatever a parser is given, it answers with what is right, or with one line fit to show. `GEOSSL_FUZZ=5000 pytest
tests/fuzz` looks that many times at each parser, at other examples every time; without it a few are looked at, always
the same ones.
"""

import copy
import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from geossl_data.errors import GeosslError

T = TypeVar("T")
Test = Callable[..., None]

CANARY = "CANARY9f21"
"""Stands for a secret in what is parsed; no message may hold it."""
SIGNED = f"https://user:{CANARY}@blob.example.org/x.tif?se=2030-01-01&sig={CANARY}"
EXAMPLES = int(os.environ.get("GEOSSL_FUZZ", "0"))
LONGEST_MESSAGE = 2000
"""Characters; longer is no line that somebody reads."""


def fuzzed(examples: int) -> Callable[[Test], Test]:
    """Settings of a test: so many examples, or as many as GEOSSL_FUZZ says."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def told(call: Callable[[], T], *kinds: type[Exception]) -> T | None:
    """What a call gives, or None where it raised an error fit to show; anything else that it raises is a bug.

    kinds: the errors that may be; a GeosslError when left out.
    """
    expected = kinds or (GeosslError,)
    try:
        return call()
    except expected as error:
        text = str(error)
    assert text.strip(), "an error that says nothing"
    assert len(text.splitlines()) == 1, text
    assert len(text) <= LONGEST_MESSAGE, f"{len(text)} characters: {text[:300]}"
    assert CANARY not in text, text
    return None


# ------------------------------------------------------------------------------------------------ bytes

_EXTREMES = (0, 1, 2, 7, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS = (
    b"\0" * 16,
    b"\xff" * 16,
    b"[" * 40_000,
    b'{"a":' * 20_000,
    b"../../etc/passwd",
    b"\n",
    b"NaN",
    b"1e999",
    b"\xc3",
)


@st.composite
def spoilt(draw: st.DrawFn, content: bytes, *, times: int = 4) -> bytes:
    """The bytes after one to `times` accidents: bits flipped, bytes lost, doubled, swapped, put in, cut off."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, times))):
        at = _place(draw, len(data))
        length = draw(st.sampled_from((1, 2, 4, 8, 64, 512)))
        match draw(st.sampled_from(("flip", "set", "number", "cut", "drop", "double", "insert", "swap", "zero"))):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[at] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x30, 0x39)))
            case "number":
                width = draw(st.sampled_from((1, 2, 4, 8)))
                number = draw(st.sampled_from(_EXTREMES)) % (1 << 8 * width)
                data[at : at + width] = number.to_bytes(width, draw(st.sampled_from(("little", "big"))))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + length]
            case "double":
                data[at:at] = data[at : at + length]
            case "insert":
                data[at:at] = draw(st.one_of(st.binary(min_size=1, max_size=12), st.sampled_from(_TEXTS)))
            case "swap":
                other = _place(draw, len(data))
                first, second = bytes(data[at : at + length]), bytes(data[other : other + length])
                data[at : at + len(first)] = second
                data[other : other + len(second)] = first
            case "zero":
                data[at : at + length] = bytes(len(data[at : at + length]))
    return bytes(data)


def _place(draw: st.DrawFn, nbytes: int) -> int:
    """A position, often near the beginning or the end, where headers and footers are."""
    last = max(nbytes - 1, 0)
    near = st.integers(0, min(64, last))
    return draw(st.one_of(near, near.map(lambda back: last - back), st.integers(0, last)))


# ------------------------------------------------------------------------------------------------ values


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    "",
    "x" * 5000,
    "\ud800",
    "a\nb\0c",
    "../../etc/passwd",
    SIGNED,
    f"?sig={CANARY}",
    "NaN",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59",
    "2024-02-30",
    0,
    -1,
    1,
    3,
    2**31,
    2**53 + 1,
    2**63,
    10**30,
    10**400,
    1e308,
    -0.0,
    0.5,
    float("nan"),
    float("inf"),
    float("-inf"),
    [],
    {},
    [None],
    [[]],
    [1, "a", None],
    {"": None},
    {"a": {"a": {"a": 1}}},
    nested(60),
    [0] * 3000,
)
"""What stands where something else belongs."""


@st.composite
def twisted(draw: st.DrawFn, value: Any, *, times: int = 3) -> Any:
    """A JSON value after one to `times` changes: parts that are strange, gone, renamed, moved or doubled."""
    root = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(1, times))):
        holders = list(_holders(root))
        holder, key = holders[draw(st.integers(0, len(holders) - 1))]
        match draw(st.sampled_from(("strange", "strange", "gone", "renamed", "wrapped", "doubled", "text", "other"))):
            case "strange":
                holder[key] = copy.deepcopy(draw(st.sampled_from(STRANGE)))
            case "gone" if holder is not root:
                del holder[key]
            case "renamed" if isinstance(holder, dict):
                holder[draw(st.sampled_from(("", "x", key + "x", "\ud800", "a\nb", SIGNED)))] = holder.pop(key)
            case "wrapped":
                holder[key] = draw(st.sampled_from(([holder[key]], {"value": holder[key]})))
            case "doubled" if isinstance(holder[key], list):
                holder[key] = holder[key] * 2
            case "text":
                holder[key] = str(holder[key])[:200]
            case "other":
                other, name = holders[draw(st.integers(0, len(holders) - 1))]
                holder[key] = copy.deepcopy(other[name])
    return root[0]


def _holders(value: Any) -> Any:
    """Every (container, key) below a value, the containers themselves first."""
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, member in pairs[:50]:
        yield value, key
        yield from _holders(member)


def json_bytes(value: Any) -> bytes:
    """A value as JSON, numbers that JSON does not have included; lone surrogates as escapes."""
    return json.dumps(value).encode()


def spoilt_json(value: Any) -> st.SearchStrategy[bytes]:
    """JSON whose values are strange, or whose bytes are."""
    return st.one_of(twisted(value).map(json_bytes), spoilt(json_bytes(value)))


# ------------------------------------------------------------------------------------------------ tables


@st.composite
def changed(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    """A table with one of its columns of another type, of other values, empty, twice, or not there at all."""
    position = draw(st.integers(0, table.num_columns - 1))
    name = table.column_names[position]
    values: list[Any] = table.column(position).to_pylist()
    match draw(st.sampled_from(("strange", "nulls", "text", "gone", "twice", "years", "nested", "bytes"))):
        case "strange":
            strange = draw(st.sampled_from([value for value in STRANGE if not isinstance(value, list | dict)]))
            values = [strange] * len(values)
        case "nulls":
            values = [None] * len(values)
        case "text":
            values = [str(value) for value in values]
        case "gone":
            return table.drop_columns([name])
        case "twice":
            return table.append_column(name, table.column(position))
        case "years":
            far = pa.array([draw(st.sampled_from((-(2**62), 2**62, 0)))] * len(values), pa.int64())
            return table.set_column(position, name, far.cast(pa.timestamp("us", tz="UTC")))
        case "nested":
            values = [[{"a": [value]}] for value in values]
        case "bytes":
            values = [b"\xff\x00"] * len(values)
    try:
        return table.set_column(position, name, pa.array(values))
    except (pa.ArrowException, OverflowError, UnicodeError):
        return table


@st.composite
def reordered(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    """A table in which some values of one column are others of their type: of another row, or with parts twice."""
    position = draw(st.integers(0, table.num_columns - 1))
    column = table.column(position)
    values = draw(twisted(column.to_pylist(), times=1))
    try:
        return table.set_column(position, table.column_names[position], pa.array(values, column.type))
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError):
        return table
