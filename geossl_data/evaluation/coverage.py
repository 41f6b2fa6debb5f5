"""What a draw covers: how evenly it lies on the ground, among the strata and in latitude, and how far apart.

Every figure is also had for a pool of candidates, so that strategies are compared with each other and with what they
drew from. A pool's weight, where it has one, is what each candidate counts in the target.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError
from geossl_data.sampling.land import area_km2, is_land, land_pieces
from geossl_data.sampling.layers.cells import rows_of
from geossl_data.sampling.nearest import nearest_neighbour_km
from geossl_data.sampling.split_distance import split_distance_km

CELL_SIZES_KM = (2000.0, 1000.0, 500.0, 200.0, 100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0)
"""Sides of the equal-area cells that are tried."""
LEAST_EXPECTED = 5.0
"""Fewest places that a cell shall expect for chi-square, and a band of latitude for a warning."""
BAND_DEGREES = 15
LEAST_RATIO = 0.5
"""A band of latitude with less than this of its target is warned of."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Names = NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Places that were drawn, or could be, as arrays of shape (n,)."""

    lon: FloatArray
    """Degrees east."""
    lat: FloatArray
    """Degrees north."""
    stratum: Names
    split: Names | None = None
    """None where nothing is split yet, as in a pool."""
    weight: FloatArray | None = None
    """Importance, proportional to one over the inclusion probability; None: all alike."""
    change_score: FloatArray | None = None
    """NaN where unknown."""
    entropy: FloatArray | None = None
    """Spectral entropy, NaN where unknown."""
    landcover: Names | None = None
    """Class of land cover, "" where unknown."""

    def __post_init__(self) -> None:
        shapes = {field.name: array.shape for field in fields(self) if (array := getattr(self, field.name)) is not None}
        odd = next((name for name, shape in shapes.items() if shape != (len(self.lon),)), None)
        if odd is not None:
            raise SamplingError(f"{odd} has shape {shapes[odd]}, longitudes have {shapes['lon']}; give one of each")

    def __len__(self) -> int:
        return len(self.lon)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiSquare:
    """How far counts in equal-area cells are from those expected: Σ (drawn − expected)² / expected."""

    statistic: float
    """0 where every cell has exactly its share."""
    degrees_of_freedom: int
    """Groups of cells less one; 0 where everything lies in one group."""
    cell_km: float
    """Side of the cells."""

    @property
    def per_degree(self) -> float:
        """About 1 for places drawn at random by the target; less where spread more evenly, more where lumped."""
        return self.statistic / self.degrees_of_freedom if self.degrees_of_freedom else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A band of latitude: the share it was to get and the share it got, both in [0, 1]."""

    south: int
    """Degrees."""
    target: float
    actual: float
    is_short: bool
    """True where it got less than half its target, and the target is LEAST_EXPECTED places or more."""

    @property
    def name(self) -> str:
        """As in `45–60° N`."""
        low, high = sorted((abs(self.south), abs(self.south + BAND_DEGREES)))
        return f"{low}–{high}° {'N' if self.south >= 0 else 'S'}"

    @property
    def ratio(self) -> float:
        """Actual over target; NaN where nothing was to be drawn."""
        return self.actual / self.target if self.target > 0 else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The figures of one drawing; NaN where one cannot be had."""

    places: int
    chi_square: ChiSquare
    strata_evenness: float
    """Shannon entropy of the strata's shares over that of equal shares, in [0, 1]."""
    effective_strata: float
    """exp of the Shannon entropy: as many equal strata would be as mixed; from 1 to the number of strata."""
    commonest: str
    """The stratum with most places."""
    commonest_share: float
    nearest_km_min: float
    """Smallest great-circle distance between two places."""
    nearest_km_median: float
    """Median over the places of the distance to the nearest other one."""
    train_test_km: float
    """Smallest great-circle distance between a place to train on and one to test on."""
    on_land: float
    """Share of the places whose centre lies on land, in [0, 1]."""
    effective_share: float
    """(Σ w)² / (n Σ w²): share of the places that is left when results are corrected by weight (Kish), in (0, 1]."""
    entropy: float
    """Mean spectral entropy of the places that have one."""
    change_score: float
    """Mean change score of the places that have one."""
    landcover: Mapping[str, float]
    """Share of each class among the places whose class is known, the largest first."""
    bands: tuple[Band, ...]


# ------------------------------------------------------------------------------------------------- equal area


@dataclass(frozen=True, slots=True)
class EqualAreaCells:
    """Cells of exactly equal area: rings of longitude/latitude boxes, nearly square except around the poles."""

    edges: FloatArray
    """sin(latitude) where the rings meet, from −1 to 1."""
    columns: IntArray
    """Boxes in each ring, from the south."""
    first: IntArray
    """Number of each ring's first box; boxes count eastwards from −180°."""

    @property
    def count(self) -> int:
        return int(self.columns.sum())

    def of(self, lon: FloatArray, lat: FloatArray) -> IntArray:
        """Number of the cell of each point in degrees."""
        ring = np.searchsorted(self.edges, np.sin(np.radians(lat)), side="right") - 1
        ring = np.clip(ring, 0, len(self.columns) - 1)
        turn = ((np.asarray(lon) + 180.0) % 360.0) / 360.0
        column = np.minimum((turn * self.columns[ring]).astype(np.int64), self.columns[ring] - 1)
        return np.asarray(self.first[ring] + column)


@lru_cache(maxsize=len(CELL_SIZES_KM))
def equal_area_cells(cell_km: float) -> EqualAreaCells:
    """The cells of about cell_km² each that also make strata, see `layers.cells.rows_of`, numbered from the south."""
    upper, north = rows_of(cell_km)
    columns = np.concatenate([north[::-1], north])
    edges = np.concatenate([-upper[::-1], [0.0], upper])
    return EqualAreaCells(edges=edges, columns=columns, first=np.cumsum(columns) - columns)


def cell_size_km(places: int, pool: Drawing | None = None) -> float:
    """The side of equal-area cells that suits so many places: the finest at which a cell expects ten on average.

    pool: only cells that hold candidates count; without one, those of all land. For a fair comparison of draws, take
    that of the smallest.
    """
    fits = takewhile(lambda size: _occupied(size, pool) <= places / (2 * LEAST_EXPECTED), CELL_SIZES_KM)
    return min(fits, default=CELL_SIZES_KM[0])


def _occupied(cell_km: float, pool: Drawing | None) -> int:
    if pool is None:
        return round(float(land_pieces().km2.sum()) / cell_km**2)
    return len(np.unique(equal_area_cells(cell_km).of(pool.lon, pool.lat)))


def chi_square(drawing: Drawing, pool: Drawing | None = None, *, cell_km: float | None = None) -> ChiSquare:
    """Chi-square of the places against the pool's shares, or the land's, of equal-area cells.

    Without a pool a cell expects its share of the land between 56° S and 83° N. Cells are joined with the next of
    their ring (then with the next ring's) until LEAST_EXPECTED places are expected. Where the places are a large part
    of the pool, as they are drawn without putting back, a random draw comes out below 1 per degree of freedom.
    cell_km: None takes `cell_size_km`.
    """
    side = cell_size_km(len(drawing), pool) if cell_km is None else cell_km
    cells = equal_area_cells(side)
    drawn = cells.of(drawing.lon, drawing.lat)
    if pool is None:
        numbers, share = np.arange(cells.count, dtype=np.int64), _land_shares(side)
    else:
        numbers, member = np.unique(np.concatenate([cells.of(pool.lon, pool.lat), drawn]), return_inverse=True)
        counted = np.concatenate([np.ones(len(pool)) if pool.weight is None else pool.weight, np.zeros(len(drawn))])
        share = np.bincount(member, weights=counted, minlength=len(numbers)).astype(np.float64)
    if not len(drawing) or not share.sum() > 0:
        return ChiSquare(statistic=math.nan, degrees_of_freedom=0, cell_km=side)
    observed = np.bincount(np.searchsorted(numbers, drawn), minlength=len(numbers))
    expected = len(drawing) * share / share.sum()
    groups = _groups(expected)
    observed, expected = (np.bincount(groups, weights=values) for values in (observed, expected))
    return ChiSquare(
        statistic=float(((observed - expected) ** 2 / expected).sum()),
        degrees_of_freedom=len(expected) - 1,
        cell_km=side,
    )


def _groups(expected: FloatArray) -> IntArray:
    """Group of each cell, in order, so that each group expects enough; what is left at the end joins the last."""
    groups, group, running = np.zeros(len(expected), dtype=np.int64), 0, 0.0
    for number, value in enumerate(expected.tolist()):
        groups[number] = group
        running += value
        if running >= LEAST_EXPECTED:
            group, running = group + 1, 0.0
    return np.minimum(groups, max(group - 1, 0))


@lru_cache(maxsize=4)
def _land_shares(cell_km: float) -> FloatArray:
    """Land between 56° S and 83° N in each equal-area cell, km²."""
    import shapely

    cells, pieces = equal_area_cells(cell_km), land_pieces()
    south, north = (
        np.degrees(np.arcsin(np.repeat(edge, cells.columns))) for edge in (cells.edges[:-1], cells.edges[1:])
    )
    column = np.arange(cells.count) - np.repeat(cells.first, cells.columns)
    width = 360.0 / np.repeat(cells.columns, cells.columns)
    boxes = shapely.box(column * width - 180.0, south, (column + 1) * width - 180.0, north)
    whole = shapely.box(pieces.west, pieces.south, pieces.east, pieces.north)
    shapes = np.array([box if shape is None else shape for box, shape in zip(whole, pieces.shapes, strict=True)])
    cell, piece = shapely.STRtree(shapes).query(boxes, predicate="intersects")
    parts = shapely.intersection(boxes[cell], shapes[piece])
    return np.bincount(cell, weights=area_km2(parts), minlength=cells.count).astype(np.float64)


# ---------------------------------------------------------------------------------------------------- figures


def strata_entropy(stratum: Names, *, of: Names | None = None) -> tuple[float, float]:
    """Evenness of the strata's shares p, H / ln k in [0, 1] with H = −Σ p ln p, and the effective strata, exp(H).

    of: the strata that could have been drawn from, which k counts; None: those drawn. With one stratum the evenness
    is 0; without places both are NaN.
    """
    if not len(stratum):
        return math.nan, math.nan
    names, counts = np.unique(stratum, return_counts=True)
    possible = len(names) if of is None else len(np.union1d(names, of))
    share = counts / counts.sum()
    entropy = float(-(share * np.log(share)).sum())
    return (entropy / math.log(possible) if possible > 1 else 0.0), math.exp(entropy)


def latitude_bands(drawing: Drawing, pool: Drawing | None = None) -> tuple[Band, ...]:
    """Bands of 15° from north to south, those with a target or places: the pool's share, or the land's, and the draw's.

    Without a pool the target is the band's share of the land between 56° S and 83° N.
    """
    if pool is None:
        pieces = land_pieces()
        target = _by_band((pieces.south + pieces.north) / 2, pieces.km2)
    else:
        target = _by_band(pool.lat, np.ones(len(pool)) if pool.weight is None else pool.weight)
    actual = _by_band(drawing.lat, np.ones(len(drawing)))
    bands = [
        Band(
            south=number * BAND_DEGREES - 90,
            target=float(target[number]),
            actual=float(actual[number]),
            is_short=bool(
                target[number] * len(drawing) >= LEAST_EXPECTED and actual[number] < LEAST_RATIO * target[number]
            ),
        )
        for number in range(len(target))
        if target[number] > 0 or actual[number] > 0
    ]
    return tuple(reversed(bands))


def _by_band(lat: FloatArray, amount: FloatArray) -> FloatArray:
    """Share of the amount in each band of latitude, from the south, shape (12,); zeros where there is none."""
    count = 180 // BAND_DEGREES
    band = np.clip(((lat + 90.0) // BAND_DEGREES).astype(np.int64), 0, count - 1)
    sums = np.bincount(band, weights=amount, minlength=count)
    return np.asarray(sums / sums.sum() if sums.sum() > 0 else sums, dtype=np.float64)


def landcover_shares(landcover: Names | None) -> dict[str, float]:
    """Share of each class among the places whose class is known, the largest first, then by name."""
    counts = Counter(name for name in ([] if landcover is None else landcover.tolist()) if name)
    total = sum(counts.values())
    return {name: count / total for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}


def coverage_of(
    drawing: Drawing, pool: Drawing | None = None, *, cell_km: float | None = None, apart: bool = True
) -> Coverage:
    """All figures of a drawing, against the pool it was drawn from or, without one, against the land of the Earth.

    cell_km: side of the equal-area cells, None takes `cell_size_km`. apart: False leaves the distances out.
    """
    evenness, effective = strata_entropy(drawing.stratum, of=None if pool is None else pool.stratum)
    names, counts = np.unique(drawing.stratum, return_counts=True)
    nearest = nearest_neighbour_km(drawing.lon, drawing.lat) if apart and len(drawing) > 1 else np.array([math.nan])
    weight = np.ones(len(drawing)) if drawing.weight is None else drawing.weight
    return Coverage(
        places=len(drawing),
        chi_square=chi_square(drawing, pool, cell_km=cell_km),
        strata_evenness=evenness,
        effective_strata=effective,
        commonest=str(names[counts.argmax()]) if len(names) else "",
        commonest_share=float(counts.max() / counts.sum()) if len(names) else math.nan,
        nearest_km_min=float(nearest.min()),
        nearest_km_median=float(np.median(nearest)),
        train_test_km=_train_test_km(drawing),
        on_land=float(is_land(drawing.lon, drawing.lat).mean()) if len(drawing) else math.nan,
        effective_share=_over(float(weight.sum()) ** 2, len(drawing) * float((weight**2).sum())),
        entropy=_mean(drawing.entropy),
        change_score=_mean(drawing.change_score),
        landcover=landcover_shares(drawing.landcover),
        bands=latitude_bands(drawing, pool),
    )


def _train_test_km(drawing: Drawing) -> float:
    if drawing.split is None:
        return math.nan
    return split_distance_km(drawing.lon, drawing.lat, drawing.split).get(("train", "test"), math.nan)


def _over(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan


def _mean(values: FloatArray | None) -> float:
    """Mean of the values that are known; NaN where none is."""
    known = np.zeros(0) if values is None else values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
