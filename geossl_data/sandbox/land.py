"""A region's land: patches of classes with fields, streets and rivers in them, the terrain, and what was changed when.

Everything is a function of the position on the region's plane, so that both sensors, all dates and overlapping tiles
see the same ground at any window and any sub-pixel shift.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geossl_data.sandbox.noise import (
    FloatArray,
    Frame,
    fractal_noise,
    hashed,
    smooth_noise,
    smoothstep,
    stream,
    uniform,
)
from geossl_data.sandbox.regions import PERIODS, Region
from geossl_data.sandbox.surfaces import (
    BARE,
    BROADLEAF,
    BURNT,
    CROP,
    CROWNS,
    FELLED,
    KINDS,
    NEEDLELEAF,
    ORCHARD,
    PASTURE,
    SANDBOX_CLASSES,
    SHRUB,
    SURFACES,
    URBAN,
    WATER,
    WETLAND,
    Surface,
    Units,
    make_units,
)

CELL = 140.0
"""Mean distance of patch centres for which the waves of their edges are given, 10 m pixels."""
ROW_SPACING = 3.6
"""Distance of tree rows in orchards, 10 m pixels."""

BLOCKS: dict[int, tuple[float, float]] = {
    CROP: (30.0, 15.0),
    PASTURE: (44.0, 30.0),
    URBAN: (11.0, 8.0),
    ORCHARD: (34.0, 24.0),
}
"""Classes that are divided into rectangles, and their sides in 10 m pixels."""

ChangeKind = Literal["clear-cut", "flood", "new town", "burn"]
CHANGES: dict[ChangeKind, int] = {"clear-cut": 1, "flood": 2, "new town": 3, "burn": 4}
"""Kind of planted change → value in the `change` rasters."""

_BECOMES: dict[ChangeKind, int] = {"clear-cut": BARE, "flood": WATER, "new town": URBAN, "burn": BARE}
_ELIGIBLE: dict[ChangeKind, tuple[int, ...]] = {
    "clear-cut": (BROADLEAF, NEEDLELEAF),
    "flood": (CROP, PASTURE, WETLAND, SHRUB, ORCHARD),
    "new town": (CROP, PASTURE, SHRUB, ORCHARD),
    "burn": (SHRUB, NEEDLELEAF, BROADLEAF, PASTURE),
}
# Preference of each class for high, wet and settled ground, in units of log odds per standard deviation.
_LIKES: dict[int, tuple[float, float, float]] = {
    WATER: (-1.2, 0.8, 0.0),
    BROADLEAF: (0.4, 0.3, -0.4),
    NEEDLELEAF: (1.0, 0.1, -0.6),
    CROP: (-0.7, -0.1, 0.3),
    PASTURE: (0.0, 0.2, 0.1),
    URBAN: (-0.5, -0.2, 1.3),
    BARE: (0.9, -0.9, -0.3),
    WETLAND: (-0.9, 1.2, -0.4),
    SHRUB: (0.5, -0.6, -0.4),
    ORCHARD: (-0.1, -0.2, 0.3),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something planted: what, where on the region's plane, and from which year to which."""

    kind: ChangeKind
    col: float
    row: float
    radius: float
    """Mean radius, 10 m pixels."""
    stretch: float
    """Length over width of the shape."""
    angle: float
    first_year: int
    last_year: int
    units: int
    """First of its units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The land in one frame; arrays of shape (height, width)."""

    unit: NDArray[np.int32]
    klass: NDArray[np.uint8]
    crowns: FloatArray
    """Relative texture of the canopy, roofs or furrows, about 0; both sensors see it."""
    clumps: FloatArray
    """A coarser texture of standard deviation 1."""
    slope_east: FloatArray
    """Rise of the terrain towards the east, metre per metre."""
    slope_north: FloatArray

    def part(self, rows: slice, cols: slice) -> "Ground":
        """Views of a window of this ground."""
        return Ground(**{name: getattr(self, name)[rows, cols] for name in self.__slots__})


def stacked(parts: Sequence[Ground]) -> Ground:
    """Strips of ground joined from north to south."""
    return Ground(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in Ground.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Land:
    """The rules of one region's land: its patches, its units and its planted changes."""

    region: Region
    key: int
    first: tuple[int, int]
    """Row and column of the first patch in the tables."""
    shape: tuple[int, int]
    """Rows and columns of patches."""
    jitter_col: FloatArray
    jitter_row: FloatArray
    klass: NDArray[np.uint8]
    angle: FloatArray
    size: FloatArray
    units: Units
    changes: tuple[Change, ...] = ()

    def units_in(self, year: int) -> Units:
        """The units as they are in a year."""
        return self.units.in_year(stream(self.key, "year", year), self.region.yearly)

    def ground(self, frame: Frame) -> Ground:
        """The unchanged land in a frame of 10 m pixels."""
        cols, rows = frame.cols_at[None, :].astype(np.float32), frame.rows_at[:, None].astype(np.float32)
        patch = self._patches(frame)
        klass = self.klass[patch]
        kind = self._blobs(frame)
        crowns = np.asarray(CROWN_HEIGHTS[klass] * smooth_noise(frame, 2.6, stream(self.key, "crowns")))
        blocked = np.flatnonzero(_IS_BLOCKED[klass])
        if blocked.size:
            where = patch.ravel()[blocked]
            at_col = np.broadcast_to(cols, patch.shape).ravel()[blocked]
            at_row = np.broadcast_to(rows, patch.shape).ravel()[blocked]
            kinds, rows_of_trees = self._blocks(at_col, at_row, where)
            kind.ravel()[blocked] = kinds
            crowns.ravel()[blocked] += rows_of_trees
        unit = (patch * KINDS + kind).astype(np.int32)
        self._carve_rivers(frame, unit, klass)
        halo = Frame(col=frame.col - 1, row=frame.row - 1, width=frame.width + 2, height=frame.height + 2)
        height = self._terrain(halo)
        return Ground(
            unit=unit,
            klass=klass,
            crowns=crowns,
            clumps=smooth_noise(frame, 6.0, stream(self.key, "clumps")),
            slope_east=(height[1:-1, 2:] - height[1:-1, :-2]) / np.float32(20),
            slope_north=(height[:-2, 1:-1] - height[2:, 1:-1]) / np.float32(20),
        )

    def changed(self, frame: Frame, ground: Ground, year: int) -> tuple[Ground, NDArray[np.uint8]]:
        """The land of a year, and the kind of change (values of CHANGES, 0: none) since the first year."""
        kinds = np.zeros(ground.klass.shape, np.uint8)
        active = [change for change in self.changes if change.first_year <= year <= change.last_year]
        unit, klass = ground.unit, ground.klass
        for change in active:
            box = change_box(change, frame)
            if box is None:
                continue
            rows, cols, window = box
            inside = self.change_mask(change, window, ground.klass[rows, cols]) & (kinds[rows, cols] == 0)
            if not inside.any():
                continue
            if unit is ground.unit:
                unit, klass = unit.copy(), klass.copy()
            unit[rows, cols][inside] = (change.units + self._change_kinds(change, window))[inside]
            klass[rows, cols][inside] = _BECOMES[change.kind]
            kinds[rows, cols][inside] = CHANGES[change.kind]
        return replace(ground, unit=unit, klass=klass), kinds

    def change_mask(self, change: Change, window: Frame, klass: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Where a change touches the land: a rough ellipse, on classes it can happen to."""
        east, south = window.cols_at[None, :] - change.col, window.rows_at[:, None] - change.row
        along = np.cos(change.angle) * east + np.sin(change.angle) * south
        across = np.cos(change.angle) * south - np.sin(change.angle) * east
        distance = np.hypot(along / change.stretch**0.5, across * change.stretch**0.5) / change.radius
        rough = smooth_noise(window, 14.0, stream(self.key, "edge", change.units))
        return np.asarray((distance + 0.14 * rough < 1) & np.isin(klass, _ELIGIBLE[change.kind]))

    def _change_kinds(self, change: Change, window: Frame) -> NDArray[np.int64]:
        sides = BLOCKS[URBAN] if change.kind == "new town" else (26.0, 18.0)
        east, south = np.meshgrid(window.cols_at.astype(np.float32), window.rows_at.astype(np.float32))
        kind, _, _ = _rectangles(
            east.ravel(),
            south.ravel(),
            np.full(east.size, change.angle, np.float32),
            np.full(east.size, sides[0], np.float32),
            np.full(east.size, sides[1], np.float32),
            change.units,
            stream(self.key, "change blocks"),
            streets=np.full(east.size, change.kind == "new town"),
        )
        return kind.reshape(east.shape)

    def _patches(self, frame: Frame) -> NDArray[np.int64]:
        """Index of the patch of every pixel: the nearest patch centre, seen through warped coordinates."""
        cell = self.region.patch
        scale = cell / CELL
        warp_col = smooth_noise(frame, 70.0 * scale, stream(self.key, "warp", 0)) * np.float32(22 * scale)
        warp_col += smooth_noise(frame, 17.0 * scale, stream(self.key, "warp", 1)) * np.float32(5 * scale)
        warp_row = smooth_noise(frame, 70.0 * scale, stream(self.key, "warp", 2)) * np.float32(22 * scale)
        warp_row += smooth_noise(frame, 17.0 * scale, stream(self.key, "warp", 3)) * np.float32(5 * scale)
        x = ((frame.cols_at[None, :] + warp_col) / cell - self.first[1]).astype(np.float32)
        y = ((frame.rows_at[:, None] + warp_row) / cell - self.first[0]).astype(np.float32)
        cell_x, cell_y = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        x -= cell_x
        y -= cell_y
        own = cell_y * self.shape[1] + cell_x
        best = np.full(x.shape, np.float32(9))
        nearest = own.copy()
        for south in (-1, 0, 1):
            for east in (-1, 0, 1):
                other = own + (south * self.shape[1] + east)
                distance = (self.jitter_col[other] + np.float32(east) - x) ** 2
                distance += (self.jitter_row[other] + np.float32(south) - y) ** 2
                closer = distance < best
                np.copyto(best, distance, where=closer)
                np.copyto(nearest, other, where=closer)
        return nearest

    def _blobs(self, frame: Frame) -> NDArray[np.int64]:
        """Kind of surface, 0 to 7, in rounded blobs: stands, pools, thickets; each kind about as frequent."""
        field = smooth_noise(frame, 9.0, stream(self.key, "blobs", 0)) * np.float32(0.8)
        field += smooth_noise(frame, 3.5, stream(self.key, "blobs", 1)) * np.float32(0.6)
        # Eighths of the normal distribution.
        limits = np.array([-1.15, -0.674, -0.319, 0.0, 0.319, 0.674, 1.15], np.float32)
        return np.searchsorted(limits, field).astype(np.int64)

    def _blocks(
        self, cols: FloatArray, rows: FloatArray, patch: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Kind of the field, block or street at each position, and the texture of tree rows."""
        klass = self.klass[patch]
        angle, scale = self.angle[patch], self.size[patch]
        kind, along, _ = _rectangles(
            cols,
            rows,
            angle,
            _BLOCK_SIDES[klass, 0] * scale,
            _BLOCK_SIDES[klass, 1] * scale,
            patch,
            stream(self.key, "blocks"),
            streets=klass == URBAN,
        )
        wave = np.sin(along * np.float32(2 * np.pi / ROW_SPACING)) * np.float32(0.36)
        furrow = np.sin(along * np.float32(2 * np.pi / 5.0)) * np.float32(0.03)
        return kind, np.where(klass == ORCHARD, wave, np.where(klass == CROP, furrow, np.float32(0)))

    def _carve_rivers(self, frame: Frame, unit: NDArray[np.int32], klass: NDArray[np.uint8]) -> None:
        """Turn the winding lines along which a noise field is near 0 into water, in place."""
        if not self.region.rivers:
            return
        course = smooth_noise(frame, 330.0, stream(self.key, "river", 0))
        course += smooth_noise(frame, 60.0, stream(self.key, "river", 1)) * np.float32(0.12)
        river = np.abs(course) < self.region.rivers
        klass[river] = WATER
        unit[river] = (len(self.klass) - 1) * KINDS + 5

    def _terrain(self, frame: Frame) -> FloatArray:
        """Height above the plain in metres."""
        relief = np.float32(self.region.relief_m)
        height = smooth_noise(frame, 260.0, stream(self.key, "terrain", 0)) * relief
        height += smooth_noise(frame, 90.0, stream(self.key, "terrain", 1)) * (relief * np.float32(0.3))
        height += smooth_noise(frame, 35.0, stream(self.key, "terrain", 2)) * (relief * np.float32(0.09))
        return height


_IS_BLOCKED = np.array([klass in BLOCKS for klass in range(len(SANDBOX_CLASSES) + 1)])
_BLOCK_SIDES = np.array([BLOCKS.get(klass, (1.0, 1.0)) for klass in range(len(SANDBOX_CLASSES) + 1)], np.float32)
CROWN_HEIGHTS = np.array([CROWNS.get(klass, 0.0) for klass in range(len(SANDBOX_CLASSES) + 1)], np.float32)


def _rectangles(
    cols: FloatArray,
    rows: FloatArray,
    angle: FloatArray,
    length: FloatArray,
    width: FloatArray,
    patch: NDArray[np.int64] | int,
    key: int,
    *,
    streets: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """Kind (0 to 7) of the rotated rectangle at each position, and the rotated coordinates; arrays of shape (n,).

    Rows of rectangles are staggered. Where `streets`, kind 0 is the street about a rectangle and the block inside is
    of kinds 1 to 7; elsewhere a narrow balk about some fields has the last kind.
    """
    cosine, sine = np.cos(angle), np.sin(angle)
    along, across = cols * cosine + rows * sine, rows * cosine - cols * sine
    lane = np.floor(across / width)
    stagger = (uniform(key, patch, lane.astype(np.int64)) * np.where(streets, 0.0, 1.0)).astype(np.float32)
    place = along / length + stagger
    column = np.floor(place)
    bits = hashed(key, patch, lane.astype(np.int64) * 65536 + column.astype(np.int64))
    kind = ((bits >> np.uint64(20)) % np.uint64(KINDS)).astype(np.int64)
    edge = np.minimum((place - column) * length, across - lane * width)
    kind = np.where(streets, np.where(edge < 1.6, 0, np.maximum(kind, 1)), kind)
    return kind, along, across


def change_box(change: Change, frame: Frame) -> tuple[slice, slice, Frame] | None:
    """Rows and columns of a frame that a change may touch, and that window's own frame; None where it is elsewhere."""
    reach = change.radius * change.stretch**0.5 * 1.7
    left = max(0, int(np.floor(change.col - reach - frame.col)))
    right = min(frame.width, int(np.ceil(change.col + reach - frame.col)))
    top = max(0, int(np.floor(change.row - reach - frame.row)))
    bottom = min(frame.height, int(np.ceil(change.row + reach - frame.row)))
    if left >= right or top >= bottom:
        return None
    window = Frame(col=frame.col + left, row=frame.row + top, width=right - left, height=bottom - top)
    return slice(top, bottom), slice(left, right), window


def make_land(
    region: Region,
    extent: Frame,
    *,
    seed: int,
    n_changes: int,
    side: int,
    radii: tuple[float, float] = (30.0, 52.0),
    years: Sequence[int] = PERIODS[1:],
) -> Land:
    """The land of a region over an extent of its plane; the same seed gives the same land.

    side: side of the region's own scene in 10 m pixels, in which the changes are planted. radii: least and largest of
    the changes, 10 m pixels. years: those in which they begin.
    """
    key = stream(seed, region.name, "land")
    rng = np.random.default_rng((seed, *region.name.encode()))
    cell = region.patch
    first = (int(extent.row // cell) - 2, int(extent.col // cell) - 2)
    last_row, last_col = extent.row + extent.height, extent.col + extent.width
    shape = (int(last_row // cell) + 3 - first[0], int(last_col // cell) + 3 - first[1])
    rows, cols = np.meshgrid(
        np.arange(first[0], first[0] + shape[0]), np.arange(first[1], first[1] + shape[1]), indexing="ij"
    )
    table = Frame(col=first[1] - 0.5, row=first[0] - 0.5, width=shape[1], height=shape[0])
    likes = [fractal_noise(table, 3.0, stream(key, name), octaves=2) for name in ("high", "wet", "settled")]
    score = np.stack(
        [
            np.log(region.shares[klass - 1])
            + sum(0.6 * weight * like for weight, like in zip(_LIKES[klass], likes, strict=True))
            - np.log(-np.log(uniform(stream(key, "class", klass), rows, cols) * 0.999998 + 1e-6))
            for klass in SANDBOX_CLASSES
        ]
    )
    klass = (np.argmax(score, axis=0) + 1).astype(np.uint8).ravel()
    # The last patch is no patch of the table: it holds the rivers.
    klass = np.append(klass, np.uint8(WATER))

    def per_patch(name: str, low: float, high: float) -> FloatArray:
        values = uniform(stream(key, name), rows, cols).ravel() * (high - low) + low
        return np.append(values, 0.5).astype(np.float32)

    jitter_col, jitter_row = per_patch("col", 0.1, 0.9), per_patch("row", 0.1, 0.9)
    centres = np.column_stack([(cols.ravel() + jitter_col[:-1]) * cell, (rows.ravel() + jitter_row[:-1]) * cell])
    kinds = [list(CHANGES)[(region.first_change + number) % len(CHANGES)] for number in range(n_changes)]
    changes = _planted(centres, klass[:-1], len(klass) * KINDS, kinds, side, rng, radii, years, 0.9 * cell)
    surfaces: list[tuple[Surface, ...]] = [SURFACES[int(value)] for value in klass]
    surfaces += [_change_surfaces(change.kind) for change in changes]
    all_classes = np.concatenate([klass, np.array([_BECOMES[change.kind] for change in changes], np.uint8)])
    return Land(
        region=region,
        key=key,
        first=first,
        shape=shape,
        jitter_col=jitter_col,
        jitter_row=jitter_row,
        klass=klass,
        angle=per_patch("angle", 0.0, float(np.pi)),
        size=per_patch("size", 0.75, 1.35) * np.float32(region.field_size),
        units=make_units(all_classes, surfaces, rng, palette=region.palette),
        changes=tuple(changes),
    )


def _change_surfaces(kind: ChangeKind) -> tuple[Surface, ...]:
    if kind == "clear-cut":
        return FELLED
    return BURNT if kind == "burn" else SURFACES[_BECOMES[kind]]


def _planted(
    centres: NDArray[np.float64],
    klass: NDArray[np.uint8],
    first_unit: int,
    kinds: Sequence[ChangeKind],
    side: int,
    rng: np.random.Generator,
    radii: tuple[float, float],
    years: Sequence[int],
    apart: float,
) -> list[Change]:
    """Changes of these kinds, in order, on patches that they can happen to, centred more than `apart` from each other.

    A kind for which there is no such patch is left out.
    """
    margin = 0.12 * min(side, 500)
    inside = np.all((centres > margin) & (centres < side - margin), axis=1)
    changes: list[Change] = []
    free = inside.copy()
    for kind in kinds:
        candidates = np.flatnonzero(free & np.isin(klass, _ELIGIBLE[kind]))
        # Drawn even where nothing is found, so that one kind's luck does not move the others.
        pick, radius, stretch, angle, start = rng.random(5)
        if not candidates.size:
            continue
        col, row = centres[candidates[int(pick * candidates.size)]]
        free &= np.hypot(centres[:, 0] - col, centres[:, 1] - row) > apart
        first_year = years[int(start * len(years))]
        changes.append(
            Change(
                kind=kind,
                col=float(col),
                row=float(row),
                radius=radii[0] + (radii[1] - radii[0]) * float(radius),
                stretch=1.0 + float(stretch),
                angle=float(angle * np.pi),
                first_year=first_year,
                last_year=first_year if kind == "flood" else PERIODS[-1],
                units=first_unit + len(changes) * KINDS,
            )
        )
    return changes


def snow_cover(frame: Frame, key: int, depth: float) -> FloatArray:
    """Share of every pixel under snow, 0 to 1; depth: 0 none, 1 nearly everywhere."""
    patchy = fractal_noise(frame, 120.0, key, octaves=3)
    return smoothstep((patchy + np.float32(depth * 4 - 2)) * np.float32(1.5))
