"""What is wanted of a raster and how it lies there: a place's grid → a window in pixels of the file, and back.

Pure: numbers and arrays. A window is exact, resampled by a rule that travels with the pixels, or refused with a reason;
nothing is padded or moved by part of a pixel.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geossl_data.bands import S2_NODATA
from geossl_data.errors import ReadError
from geossl_data.grid import Grid
from geossl_data.records import Place
from geossl_data.scenes.hrefs import redact
from geossl_data.tiles.radiometry import mask_power

Reason = Literal[
    "missing-scene",
    "missing-asset",
    "forbidden",
    "refused-address",
    "read-failed",
    "not-geotiff",
    "wrong-bands",
    "wrong-dtype",
    "wrong-crs",
    "wrong-resolution",
    "off-grid",
    "outside",
    "too-large",
    "few-valid-pixels",
    "cloudy",
    "uniform",
]
Kind = Literal["uint16", "uint8", "power"]
"""uint16: digital numbers; uint8: classes, never averaged; power: linear power as float32, NaN where not measured."""
EXACT = "none"
"""The rule of pixels that are as they are stored."""
ALIGNMENT_PX = 1e-3
"""Largest distance between a place's corner and a pixel corner, in pixels, that still counts as the same."""
MAX_WINDOW_NBYTES = 256 * 2**20
"""Largest window or storage block that is decoded; far above any place, far below a decompression bomb."""
MAX_FACTOR = 6
"""10 m pixels along one of 60 m: bands stored finer or coarser than they should be differ by no more."""
MARGIN_PX = 3
"""Source pixels read around a window that is warped: bilinear needs one, a curved edge the rest."""

_ITEMSIZE: dict[Kind, int] = {"uint16": 2, "uint8": 1, "power": 4}

Transform = tuple[float, float, float, float, float, float]
"""a b c d e f: x = a column + b row + c, y = d column + e row + f, metres or degrees."""
Array = NDArray[Any]


class SkipError(ReadError):
    """A sample that cannot be cut; `reason` is the short class of reason that the summary counts."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[type["SkipError"], tuple[Reason, str]]:
        return (SkipError, (self.reason, str(self)))

    def again(self) -> "SkipError":
        """The same error without the traceback of whoever raised it before."""
        return SkipError(self.reason, str(self))


@dataclass(frozen=True, slots=True)
class Want:
    """One window of one band."""

    href: str
    """Unsigned."""
    grid: Grid
    kind: Kind
    partly: bool = False
    """Ground outside the raster is 0 instead of an error; power has NaN there in any case."""

    @property
    def nbytes(self) -> int:
        """Size of its pixels."""
        return self.grid.width * self.grid.height * _ITEMSIZE[self.kind]

    def source(self, layout: "Layout") -> "Source":
        """Where in a raster of that layout it lies, see `source_of`."""
        return source_of(self, layout)


@dataclass(frozen=True, slots=True)
class Pixels:
    """A window on the grid that was wanted."""

    values: Array
    """Shape (height, width); uint16, uint8 or float32."""
    resampling: str
    """`none`, or the rule by which the stored pixels became these."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What one has to know of a raster to find a window in it."""

    width: int
    height: int
    dtype: np.dtype[Any]
    n_bands: int
    crs: int | str | None
    """EPSG code, or WKT where it has none."""
    transform: Transform
    nodata: float | None
    block_shape: tuple[int, int]
    """Rows and columns of a storage block."""
    factors: tuple[int, ...] = (1,)
    """Pixels along one of each level: 1 for the full resolution, then those of the overviews."""

    @property
    def grid(self) -> Grid | None:
        """The raster's own pixels, or None unless it is north-up with square pixels in a UTM zone."""
        a, b, c, d, _, f = self.transform
        if not isinstance(self.crs, int) or not _is_utm(self.crs) or b or d or not self.is_square:
            return None
        return Grid(self.crs, c, f, a, self.width, self.height)

    @property
    def is_square(self) -> bool:
        """Whether its pixels are as high as wide."""
        width, height = self.transform[0], -self.transform[4]
        return width > 0 and abs(width - height) <= 1e-9 * width


Finish = Callable[[Array], Pixels]


@dataclass(frozen=True, slots=True)
class Source:
    """The stored window that a want needs, in pixels of its level, and what makes its pixels of it."""

    column: int
    row: int
    width: int
    height: int
    finish: Finish
    """Stored values, shape (height, width) → Pixels. Raises SkipError."""
    is_heavy: bool = False
    """Whether finishing takes milliseconds."""
    level: int = 0
    """Position among the layout's `factors`; 0 is the full resolution, the only one that samples are cut from."""


class Wanted(Protocol):
    """Anything that can be read: it names a raster and says where in it its pixels lie."""

    @property
    def href(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    def source(self, layout: Layout) -> Source: ...


def place_grid(place: Place, resolution_m: int) -> Grid:
    """The pixel grid of a place at 10, 20 or 60 m."""
    side = place.size_px * 10 // resolution_m
    return Grid(place.epsg, place.x, place.y, float(resolution_m), side, side)


def source_of(want: Want, layout: Layout) -> Source:
    """Where in a raster the window lies that a want needs.

    Numbers and classes come as stored where the raster's pixels are the grid's. Of a raster with finer pixels by a
    whole factor comes one of each block where all its pixels are the same, else the mean of the valid ones (the middle
    one of classes); of a coarser one each pixel as often as it is wanted; anything else in the same CRS is averaged by
    area (finer) or bilinear (coarser), classes the nearest. Power comes as stored on the same lattice, else bilinear in
    linear power, from any CRS. Invalid pixels never enter a mean.
    Raises SkipError: another CRS, no grid in common, outside, the wrong type, or absurdly large.
    """
    require_one_north_up_band(layout, want.href)
    if want.kind == "power":
        return _power_source(want, layout)
    if layout.dtype.kind not in "ui":
        raise SkipError("wrong-dtype", f"{redact(want.href)}: {layout.dtype} where {want.kind} belongs")
    return _number_source(want, layout)


def _is_utm(epsg: int) -> bool:
    return 32601 <= epsg <= 32660 or 32701 <= epsg <= 32760


def require_one_north_up_band(layout: Layout, href: str) -> None:
    """SkipError unless a raster holds one band in a known CRS, columns to the east and rows to the south."""
    a, b, _, d, e, _ = layout.transform
    if layout.n_bands != 1:
        raise SkipError("wrong-bands", f"{redact(href)}: {layout.n_bands} bands in one file where 1 belongs")
    if layout.crs is None:
        raise SkipError("wrong-crs", f"{redact(href)}: states no coordinate reference system")
    if b or d or a <= 0 or e >= 0:
        raise SkipError("off-grid", f"{redact(href)}: not north-up, its transform is {layout.transform}")


def _position(layout: Layout, grid: Grid) -> tuple[float, float]:
    """Column and row, in pixels of the raster, of a grid's north-west corner."""
    a, _, c, _, e, f = layout.transform
    return (grid.x - c) / a, (grid.y - f) / e


def _source(
    want: Want, layout: Layout, box: tuple[int, int, int, int], finish: Finish, *, is_heavy: bool = False
) -> Source:
    """A Source for columns left to right and rows top to bottom; SkipError where it is too large."""
    left, top, right, bottom = box
    require_size(want.href, layout, right - left, bottom - top)
    return Source(left, top, right - left, bottom - top, finish, is_heavy)


def require_size(href: str, layout: Layout, width: int, height: int) -> None:
    """SkipError where a window, or one storage block of its raster, is absurdly large."""
    largest = max(width * height, layout.block_shape[0] * layout.block_shape[1]) * layout.dtype.itemsize
    if largest > MAX_WINDOW_NBYTES:
        raise SkipError("too-large", f"{redact(href)}: {largest} bytes to decode, at most {MAX_WINDOW_NBYTES} allowed")


# ------------------------------------------------------------------------------------------------ numbers and classes


def _number_source(want: Want, layout: Layout) -> Source:
    grid, name = want.grid, redact(want.href)
    if layout.crs != grid.epsg:
        found = f"EPSG:{layout.crs}" if isinstance(layout.crs, int) else "another reference system"
        raise SkipError("wrong-crs", f"{name}: lies in {found}, the place in EPSG:{grid.epsg}")
    finer, coarser = grid.resolution_m / layout.transform[0], layout.transform[0] / grid.resolution_m
    is_square = layout.is_square
    if is_square and _is_whole(finer):
        return _finer_source(want, layout, round(finer))
    if is_square and _is_whole(coarser):
        return _coarser_source(want, layout, round(coarser))
    if not 1 / MAX_FACTOR <= finer <= MAX_FACTOR:
        pixel = f"{layout.transform[0]:g} × {-layout.transform[4]:g} m"
        raise SkipError("wrong-resolution", f"{name}: pixels of {pixel} where {grid.resolution_m:g} m belong")
    if want.kind == "uint8":
        return _nearest_source(want, layout, "nearest")
    return _warped_numbers(want, layout, "average" if finer > 1 else "bilinear")


def _is_whole(ratio: float) -> bool:
    return 1 <= round(ratio) <= MAX_FACTOR and abs(ratio - round(ratio)) <= 1e-6 * ratio


def _aligned(want: Want, layout: Layout, pixel_m: float) -> tuple[int, int]:
    """Columns and rows, in pixels of `pixel_m`, from the raster's corner to the grid's; SkipError where not whole."""
    _, _, c, _, _, f = layout.transform
    column, row = (want.grid.x - c) / pixel_m, (f - want.grid.y) / pixel_m
    shift = max(abs(column - round(column)), abs(row - round(row)))
    if shift > ALIGNMENT_PX:
        raise SkipError("off-grid", f"{redact(want.href)}: the place's corner lies {shift:.3g} px off a pixel corner")
    return round(column), round(row)


def _clip(want: Want, layout: Layout, column: int, row: int, factor: int) -> tuple[int, int, int, int]:
    """The pixels of the grid that the raster holds whole: columns left to right, rows top to bottom."""
    grid = want.grid
    left, top = max(0, -(column // factor)), max(0, -(row // factor))
    right = min(grid.width, (layout.width - column) // factor)
    bottom = min(grid.height, (layout.height - row) // factor)
    is_whole = (left, top, right, bottom) == (0, 0, grid.width, grid.height)
    if left >= right or top >= bottom or not (is_whole or want.partly):
        columns = f"columns {column} to {column + grid.width * factor}"
        window = f"{columns}, rows {row} to {row + grid.height * factor}"
        raise SkipError(
            "outside", f"{redact(want.href)}: {window} of a raster of {layout.width} × {layout.height} pixels"
        )
    return left, top, right, bottom


def _finer_source(want: Want, layout: Layout, factor: int) -> Source:
    """Pixels that are the grid's own, or whole blocks of smaller ones."""
    column, row = _aligned(want, layout, layout.transform[0])
    left, top, right, bottom = _clip(want, layout, column, row, factor)

    def finish(values: Array) -> Pixels:
        pixels, rule = _shrunk(_cleared(values, layout.nodata), factor, want.kind)
        return Pixels(_placed(_fitting(pixels, want), want, left, top), rule)

    box = (column + left * factor, row + top * factor, column + right * factor, row + bottom * factor)
    return _source(want, layout, box, finish, is_heavy=factor > 1)


def _coarser_source(want: Want, layout: Layout, factor: int) -> Source:
    """Larger pixels, each given as often as the grid has pixels in it."""
    _aligned(want, layout, want.grid.resolution_m)
    return _nearest_source(want, layout, f"nearest, from pixels {factor} times larger")


def _nearest_source(want: Want, layout: Layout, rule: str) -> Source:
    """The stored pixel under the centre of each pixel of the grid."""
    grid = want.grid
    a, _, c, _, e, f = layout.transform
    columns = np.floor((grid.x + (np.arange(grid.width) + 0.5) * grid.resolution_m - c) / a).astype(np.int64)
    rows = np.floor((grid.y - (np.arange(grid.height) + 0.5) * grid.resolution_m - f) / e).astype(np.int64)
    across = np.flatnonzero((columns >= 0) & (columns < layout.width))
    down = np.flatnonzero((rows >= 0) & (rows < layout.height))
    is_whole = len(across) == grid.width and len(down) == grid.height
    if not len(across) or not len(down) or not (is_whole or want.partly):
        raise SkipError("outside", f"{redact(want.href)}: the place lies outside this raster, at least in part")
    columns, rows = columns[across], rows[down]
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)

    def finish(values: Array) -> Pixels:
        near = _cleared(values, layout.nodata)[np.ix_(rows - box[1], columns - box[0])]
        return Pixels(_placed(_fitting(near, want), want, int(across[0]), int(down[0])), rule)

    return _source(want, layout, box, finish)


def _warped_numbers(want: Want, layout: Layout, rule: Literal["average", "bilinear"]) -> Source:
    """Numbers whose pixels are of another size and no whole factor apart."""
    box = _box_around(want, layout, want.grid.bounds)
    a, _, _, _, e, _ = layout.transform
    is_inside = _holds(layout, want.grid)
    if not (is_inside or want.partly):
        raise SkipError("outside", f"{redact(want.href)}: the place lies outside this raster, at least in part")

    def finish(values: Array) -> Pixels:
        from geossl_data.tiles.warping import warped

        numbers = _cleared(values, layout.nodata).astype(np.float32)
        numbers[numbers == S2_NODATA] = np.nan
        onto = warped(numbers, _moved(layout.transform, box), layout.crs, want.grid, rule)
        with np.errstate(invalid="ignore"):
            whole = np.where(np.isnan(onto), 0, np.clip(np.rint(onto), 1, np.iinfo(np.uint16).max))
        return Pixels(whole.astype(np.uint16), f"{rule}, from pixels of {a:g} × {-e:g} m")

    return _source(want, layout, box, finish, is_heavy=True)


def _cleared(values: Array, nodata: float | None) -> Array:
    """The same numbers, the raster's own no-data value as 0."""
    return np.where(values == nodata, values.dtype.type(0), values) if nodata else values


def _shrunk(values: Array, factor: int, kind: Kind) -> tuple[Array, str]:
    """One value for each factor × factor block, and the rule by which it was made."""
    if factor == 1:
        return values, EXACT
    height, width = values.shape[0] // factor, values.shape[1] // factor
    blocks = values.reshape(height, factor, width, factor)
    corner = blocks[:, :1, :, :1]
    if (blocks == corner).all():
        return corner[:, 0, :, 0], EXACT
    if kind == "uint8":
        return blocks[:, factor // 2, :, factor // 2], f"the middle one of {factor} × {factor} pixels"
    is_valid = blocks != S2_NODATA
    count = is_valid.sum(axis=(1, 3))
    mean = blocks.sum(axis=(1, 3), dtype=np.float64) / np.maximum(count, 1)
    rounded = np.where(count > 0, np.maximum(np.rint(mean), 1), 0).astype(values.dtype)
    return rounded, f"mean of {factor} × {factor} pixels"


def _fitting(values: Array, want: Want) -> Array:
    """The same whole numbers in the type that is wanted; SkipError if they do not fit."""
    limit = np.iinfo(want.kind)
    if np.dtype(want.kind) != values.dtype and values.size and (values.min() < 0 or values.max() > limit.max):
        found = f"{values.dtype} values from {values.min()} to {values.max()}"
        raise SkipError("wrong-dtype", f"{redact(want.href)}: {found} do not fit {want.kind}")
    return np.ascontiguousarray(values, dtype=want.kind)


def _placed(values: Array, want: Want, left: int, top: int) -> Array:
    """The pixels at their place in the grid, 0 around them."""
    shape = (want.grid.height, want.grid.width)
    if values.shape == shape:
        return values
    whole = np.zeros(shape, values.dtype)
    whole[top : top + values.shape[0], left : left + values.shape[1]] = values
    return whole


# ------------------------------------------------------------------------------------------------ power


def _power_source(want: Want, layout: Layout) -> Source:
    if layout.dtype.kind != "f":
        raise SkipError("wrong-dtype", f"{redact(want.href)}: {layout.dtype} where linear power is a float")
    column, row = _position(layout, want.grid)
    is_aligned = max(abs(column - round(column)), abs(row - round(row))) <= ALIGNMENT_PX
    is_same_pixel = layout.is_square and abs(want.grid.resolution_m / layout.transform[0] - 1) <= 1e-6
    if layout.crs == want.grid.epsg and is_same_pixel and is_aligned:
        return _stored_power(want, layout, round(column), round(row))
    return _warped_power(want, layout)


def power_of(values: Array, nodata: float | None) -> NDArray[np.float32]:
    """Stored values as linear power, NaN where they are no measurement; same shape."""
    with np.errstate(over="ignore"):
        power = values.astype(np.float32)
    if nodata is not None:
        power[values == nodata] = np.nan
    return mask_power(power)


def _stored_power(want: Want, layout: Layout, column: int, row: int) -> Source:
    """Power on a grid whose pixels are the raster's own; NaN beyond the raster."""
    grid = want.grid
    left, right = max(column, 0), min(column + grid.width, layout.width)
    top, bottom = max(row, 0), min(row + grid.height, layout.height)
    if left >= right or top >= bottom:
        raise SkipError("outside", f"{redact(want.href)}: the place lies outside this raster")

    def finish(values: Array) -> Pixels:
        power = power_of(values, layout.nodata)
        if power.shape == (grid.height, grid.width):
            return Pixels(power, EXACT)
        whole = np.full((grid.height, grid.width), np.nan, dtype=np.float32)
        whole[top - row : bottom - row, left - column : right - column] = power
        return Pixels(whole, EXACT)

    return _source(want, layout, (left, top, right, bottom), finish)


def _warped_power(want: Want, layout: Layout) -> Source:
    """Power resampled onto a grid, over the valid neighbours, NaN where there are none."""
    from geossl_data.tiles.warping import bounds_in, warped

    assert layout.crs is not None
    bounds = bounds_in(layout.crs, want.grid)
    if not all(map(math.isfinite, bounds)):
        raise SkipError("outside", f"{redact(want.href)}: the place lies outside its coordinate reference system")
    box = _box_around(want, layout, bounds)

    def finish(values: Array) -> Pixels:
        power = power_of(values, layout.nodata)
        onto = warped(power, _moved(layout.transform, box), layout.crs, want.grid, "bilinear")
        return Pixels(mask_power(onto), "bilinear in linear power")

    return _source(want, layout, box, finish, is_heavy=True)


def _box_around(want: Want, layout: Layout, bounds: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """The raster's pixels that bounds in its own CRS touch, with a margin: left, top, right, bottom."""
    west, south, east, north = bounds
    a, _, c, _, e, f = layout.transform
    columns = [int(np.clip((x - c) / a, -1e9, 1e9)) for x in (west, east)]
    rows = [int(np.clip((y - f) / e, -1e9, 1e9)) for y in (north, south)]
    left, right = max(columns[0] - MARGIN_PX, 0), min(columns[1] + MARGIN_PX + 1, layout.width)
    top, bottom = max(rows[0] - MARGIN_PX, 0), min(rows[1] + MARGIN_PX + 1, layout.height)
    if left >= right or top >= bottom:
        raise SkipError("outside", f"{redact(want.href)}: the place lies outside this raster")
    return left, top, right, bottom


def _holds(layout: Layout, grid: Grid) -> bool:
    """Whether a grid in the raster's own CRS lies in it."""
    west, south, east, north = grid.bounds
    a, _, c, _, e, f = layout.transform
    slack = ALIGNMENT_PX * grid.resolution_m
    return (
        west >= c - slack
        and east <= c + layout.width * a + slack
        and north <= f + slack
        and south >= f + layout.height * e - slack
    )


def _moved(transform: Transform, box: tuple[int, int, int, int]) -> Transform:
    """The transform of a window of a north-up raster."""
    a, b, c, d, e, f = transform
    return a, b, c + box[0] * a, d, e, f + box[1] * e
