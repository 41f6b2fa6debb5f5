"""What was drawn, to look at: maps, histograms and tables as files of the folder."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.files import write_text
from geossl_data.pipeline._folder import PICTURES
from geossl_data.records import Sample

if TYPE_CHECKING:
    from geossl_data.evaluation.coverage import Drawing
    from geossl_data.sampling.measures import Measures
    from geossl_data.sampling.pool import Pool
    from geossl_data.sampling.sites import Sites

COMPARISON = "compare"
Rows = tuple[tuple[str, ...], ...]


def picture_samples(folder: Path, samples: Sequence[Sample], pool: "Pool", target: Mapping[str, int]) -> None:
    """Write pictures/{map,splits,strata,looks}.png of what was drawn from a pool."""
    from geossl_data.evaluation import pictures

    drawing = _drawing_of(samples)
    drawn = Counter(sample.stratum for sample in samples)
    into = folder / PICTURES
    into.mkdir(exist_ok=True)
    looks = [look for sample in samples for look in sample.looks]
    acquired = np.array([look.acquired.replace(tzinfo=None) for look in looks], dtype="datetime64[s]")
    gaps = np.array([look.gap_hours for look in looks], dtype=np.float64)
    pictures.map_of(into / "map.png", drawing, "Places drawn", by="stratum")
    pictures.strata_bars(into / "strata.png", target, drawn, pool.available)
    pictures.histograms(into / "looks.png", acquired, gaps)
    pictures.map_of(into / "splits.png", drawing, "Places by split")


def places_picture(folder: Path) -> Path:
    """Where the picture of places drawn without a catalog lies."""
    return folder / PICTURES / "places.png"


def coverage_note(samples: Sequence[Sample], pool: "Pool") -> dict[str, Any]:
    """How evenly the places lie, held against the candidates: `facts`, and the rows of `bands` of latitude.

    Noted with the draw, since a page that is made later has no candidates any more.
    """
    from geossl_data.evaluation import coverage_tables
    from geossl_data.evaluation.coverage import coverage_of

    found = coverage_of(_drawing_of(samples), _drawing_of_pool(pool, None))
    return {"facts": coverage_tables.facts(found), "bands": coverage_tables.bands_table(found.bands)}


def picture_places(folder: Path, sites: "Sites") -> None:
    """Write pictures/places.png of places drawn without a catalog."""
    from geossl_data.evaluation import pictures
    from geossl_data.evaluation.coverage import Drawing

    drawing = Drawing(lon=sites.lon, lat=sites.lat, stratum=sites.stratum, split=sites.split)
    picture = places_picture(folder)
    picture.parent.mkdir(exist_ok=True)
    pictures.map_of(picture, drawing, "Places drawn on land", by="stratum")


def picture_comparison(
    folder: Path, drawn: Mapping[str, Sequence[Sample]], pool: "Pool", measured: "Measures | None"
) -> Rows:
    """Write compare.csv and compare.png of what several strategies drew from one pool; the table, a column for each."""
    from geossl_data.evaluation import coverage_tables, pictures

    drawings = {name: _drawing_of(samples) for name, samples in drawn.items()}
    rows = coverage_tables.compare(drawings, _drawing_of_pool(pool, measured))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(folder / f"{COMPARISON}.csv", text.getvalue())
    pictures.compare_maps(folder / f"{COMPARISON}.png", drawings)
    return tuple(zip(*rows, strict=True))


def _drawing_of_pool(pool: "Pool", measured: "Measures | None") -> "Drawing":
    from geossl_data.evaluation.coverage import Drawing
    from geossl_data.sampling.draw import ground_of
    from geossl_data.sampling.strategies import ground_shares

    lon, lat = pool.lon, pool.lat
    return Drawing(
        lon=lon,
        lat=lat,
        stratum=pool.stratum,
        weight=ground_shares(ground_of(pool)),
        change_score=None if measured is None else measured.change,
        entropy=None if measured is None else measured.entropy,
        landcover=_landcover(lon, lat),
    )


def _drawing_of(samples: Sequence[Sample]) -> "Drawing":
    from geossl_data.evaluation.coverage import Drawing

    lon = np.array([sample.place.lon for sample in samples], dtype=np.float64)
    lat = np.array([sample.place.lat for sample in samples], dtype=np.float64)
    return Drawing(
        lon=lon,
        lat=lat,
        stratum=np.array([sample.stratum for sample in samples], dtype=np.str_),
        split=np.array([sample.split for sample in samples], dtype=np.str_),
        weight=np.array([sample.weight for sample in samples], dtype=np.float64),
        change_score=_known([sample.change_score for sample in samples]),
        entropy=_known([sample.spectral_entropy for sample in samples]),
        landcover=_landcover(lon, lat),
    )


def _known(values: Sequence[float | None]) -> NDArray[np.float64] | None:
    """The values with NaN for None; None where all are."""
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return None if np.isnan(numbers).all() else numbers


def _landcover(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.str_]:
    from geossl_data.sampling.strata import strata_of

    return strata_of("landcover")(lon, lat)
