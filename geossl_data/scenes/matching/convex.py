"""Polygons of few corners by the million: how much ground they share with convex ones.

Nearly all footprints have few corners, and of a pair of them one is convex. Cutting the other one to it in numpy, a
column for each pair, is several times faster than a general overlay; what remains goes to shapely.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geossl_data.scenes.matching.acquisitions import BoolArray, FloatArray, IntArray, ObjectArray

MOST_CORNERS = 12
"""Polygons with more corners are left to shapely: most edges would be looked at in vain."""

_POLYGON = 3
"""What shapely.get_type_id says of a Polygon."""
_ROUNDING = 1e-14
"""Corners this near to a cutting line, relative to the size of the polygons, lie on it."""

Columns = tuple[FloatArray, FloatArray]
"""x and y of the corners of m convex polygons, counter-clockwise, shape (corners, m); corners may repeat."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rings:
    """The corners of those of n geometries that are polygons of few corners and without holes."""

    corners: FloatArray
    """Counter-clockwise, the last one repeated to fill the row; shape (n, most corners, 2), zeros where there are none.
    """
    n_corners: IntArray
    """0 for a geometry with a hole, with several parts or with more than MOST_CORNERS corners; shape (n,)."""
    is_convex: BoolArray
    """shape (n,)."""

    def columns(self, index: IntArray, origin: FloatArray) -> Columns:
        """The rings `index` with `origin`, shape (m, 2), moved to (0, 0)."""
        n_corners = int(self.n_corners[index].max(initial=1))
        return _columns(self.corners[index, :n_corners] - origin[:, None, :])

    def triangles(self, index: IntArray, origin: FloatArray) -> tuple[IntArray, FloatArray, Columns]:
        """Triangles between the first corner and each edge of the rings `index`, moved likewise.

        Returns whose triangle each is (a position in `index`), whether it counts 1 or -1 in the sum that makes up the
        ring, and its corners.
        """
        n_triangles = self.n_corners[index] - 2
        owner = np.repeat(np.arange(len(index)), n_triangles)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(n_triangles) - n_triangles, n_triangles)
        ring = index[owner]
        corners = np.stack(
            [self.corners[ring, 0 * step], self.corners[ring, step + 1], self.corners[ring, step + 2]], 1
        )
        corners -= origin[owner, None, :]
        one, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        sign = np.sign(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0])
        clockwise = sign < 0
        corners[clockwise] = corners[clockwise][:, [0, 2, 1]]
        return owner, sign, _columns(corners)


def rings(shapes: ObjectArray) -> Rings:
    """The rings of n valid geometries."""
    import shapely

    n_corners = shapely.get_num_coordinates(shapes) - 1
    plain = (shapely.get_type_id(shapes) == _POLYGON) & (shapely.get_num_interior_rings(shapes) == 0)
    chosen = np.flatnonzero(plain & (n_corners >= 3) & (n_corners <= MOST_CORNERS))
    count = n_corners[chosen].astype(np.int64)
    corners = np.zeros((len(shapes), int(count.max(initial=1)), 2))
    sizes, is_convex = np.zeros(len(shapes), dtype=np.int64), np.zeros(len(shapes), dtype=bool)
    if len(chosen):
        points = shapely.get_coordinates(shapes[chosen])
        first = np.cumsum(count + 1) - count - 1
        forwards = np.minimum(np.arange(corners.shape[1]), count[:, None] - 1)
        ring = points[first[:, None] + forwards]
        turns_left, turns_right = _turns(ring, count)
        backwards = np.flatnonzero(_signed_area(*_columns(ring - ring[:, :1])) < 0)
        ring[backwards] = points[(first + count - 1)[backwards, None] - forwards[backwards]]
        corners[chosen], sizes[chosen], is_convex[chosen] = ring, count, turns_left ^ turns_right
    return Rings(corners=corners, n_corners=sizes, is_convex=is_convex)


def _columns(corners: FloatArray) -> Columns:
    return np.ascontiguousarray(corners[:, :, 0].T), np.ascontiguousarray(corners[:, :, 1].T)


def _turns(ring: FloatArray, count: IntArray) -> tuple[BoolArray, BoolArray]:
    """Whether a ring turns left anywhere, and right; both where two corners in a row are equal.

    ring: shape (n, corners, 2), of which `count` are meant. A simple ring that only turns one way is convex.
    """
    left, right = np.zeros(len(ring), dtype=bool), np.zeros(len(ring), dtype=bool)
    every = np.arange(len(ring))
    for step in range(ring.shape[1]):
        here, ahead, beyond = (ring[every, (step + number) % count] for number in range(3))
        edge, following = ahead - here, beyond - ahead
        turn = edge[:, 0] * following[:, 1] - edge[:, 1] * following[:, 0]
        equal = (edge == 0).all(axis=1)
        left |= (turn > 0) | equal
        right |= (turn < 0) | equal
    return left, right


def shared_area(
    subject: Rings, index: IntArray, origin: FloatArray, windows: Sequence[tuple[Rings, IntArray, FloatArray]]
) -> FloatArray:
    """Area that the rings subject[index] share with all of the convex `windows` at once, shape (m,).

    windows: rings, which of them, and what of theirs comes to lie on `origin`, the point of the subject that is (0, 0).
    """
    shared = np.zeros(len(index))
    for members in (np.flatnonzero(subject.is_convex[index]), np.flatnonzero(~subject.is_convex[index])):
        if not len(members):
            continue
        if subject.is_convex[index[members[0]]]:
            owner, sign = np.arange(len(members)), np.ones(len(members))
            part = subject.columns(index[members], origin[members])
        else:
            owner, sign, part = subject.triangles(index[members], origin[members])
        whose = members[owner]
        for window, which, window_origin in windows:
            part = clip(part, window.columns(which[whose], window_origin[whose]))
        shared[members] = np.bincount(owner, sign * area(part), minlength=len(members))
    return np.maximum(shared, 0.0)


def area(polygons: Columns) -> FloatArray:
    """Areas, shape (m,); the shoelace formula, so corners should lie near (0, 0)."""
    return np.maximum(_signed_area(*polygons), 0.0)


def _signed_area(x: FloatArray, y: FloatArray) -> FloatArray:
    """Below 0 for clockwise rings."""
    twice: FloatArray = x[-1] * y[0] - x[0] * y[-1]
    for step in range(len(x) - 1):
        twice += x[step] * y[step + 1] - x[step + 1] * y[step]
    return 0.5 * twice


def clip(subject: Columns, window: Columns) -> Columns:
    """What m convex polygons share with m others, column by column; of area 0 where nothing.

    Cuts the subject along one edge of the window after the other: Sutherland and Hodgman, Reentrant polygon clipping,
    CACM 17(1), 1974.
    """
    x, y = subject
    window_x, window_y = window
    size = np.maximum(np.abs(x).max(axis=0), np.abs(y).max(axis=0))
    for step in range(len(window_x)):
        ahead = (step + 1) % len(window_x)
        edge_x, edge_y = window_x[ahead] - window_x[step], window_y[ahead] - window_y[step]
        distance = edge_x * (y - window_y[step]) - edge_y * (x - window_x[step])
        reach = size + np.abs(window_x[step]) + np.abs(window_y[step])
        outside = distance < -_ROUNDING * (np.abs(edge_x) + np.abs(edge_y)) * reach
        x, y = _cut(x, y, np.maximum(distance, 0.0, where=~outside, out=distance), outside)
    return x, y


def _cut(x: FloatArray, y: FloatArray, distance: FloatArray, outside: BoolArray) -> Columns:
    """Convex polygons without their corners `outside` of a line; the two points where they cross it are added.

    distance: of each corner from the line, below 0 outside of it, in any unit.
    """
    columns = np.flatnonzero(outside.any(axis=0))
    if not len(columns):
        return x, y
    part, beyond = (x[:, columns], y[:, columns], distance[:, columns]), outside[:, columns]
    n_corners = len(x)
    enters = np.argmax(~beyond & np.roll(beyond, 1, axis=0), axis=0)
    order = (enters + np.arange(n_corners)[:, None]) % n_corners
    px, py, far = (np.take_along_axis(values, order, axis=0) for values in part)
    # What is inside is now at the front, and the last corner outside.
    n_inside = np.argmax(np.take_along_axis(beyond, order, axis=0), axis=0)
    own = np.arange(len(columns))
    leave, gone = np.maximum(n_inside - 1, 0), n_inside
    with np.errstate(invalid="ignore", divide="ignore"):  # columns without a corner inside are emptied below
        out_share = far[leave, own] / (far[leave, own] - far[gone, own])
        in_share = far[0] / (far[0] - far[-1])
        cut_x, cut_y = (_joined(values, n_inside, leave, gone, own, out_share, in_share) for values in (px, py))
    nothing = n_inside == 0
    cut_x[:, nothing] = cut_y[:, nothing] = 0.0
    new_x, new_y = np.concatenate([x, x[-1:]]), np.concatenate([y, y[-1:]])
    new_x[:, columns], new_y[:, columns] = cut_x, cut_y
    return new_x, new_y


def _joined(
    values: FloatArray,
    n_inside: IntArray,
    leave: IntArray,
    gone: IntArray,
    own: IntArray,
    out_share: FloatArray,
    in_share: FloatArray,
) -> FloatArray:
    """One coordinate of the corners inside, then of the crossing out, then of the crossing in, repeated to the end."""
    crossing_out = values[leave, own] + out_share * (values[gone, own] - values[leave, own])
    crossing_in = values[0] + in_share * (values[-1] - values[0])
    step = np.arange(len(values) + 1)[:, None]
    longer = np.concatenate([values, values[-1:]])
    return np.where(step < n_inside, longer, np.where(step == n_inside, crossing_out, crossing_in))
