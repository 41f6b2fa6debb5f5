"""Places on the Earth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geossl_data.evaluation.pictures.views import GLOBE_ASPECT, view_of
from geossl_data.report.parts.coastlines import ground_of
from geossl_data.report.parts.points import ACROSS, Colouring, Plane, by_name, by_value, in_words, plane


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldMap:
    """Places as dots on coastlines, coloured by one of several categories or values.

    The whole Earth in the Equal Earth projection, or what lies around the places, in degrees shrunk as at their
    latitude, where they are near each other. Places whose position is not finite are left out.
    """

    title: str
    lon: Sequence[float]
    lat: Sequence[float]
    """Degrees."""
    label: Sequence[str]
    """What a place tells when it is pointed at."""
    category: Mapping[str, Sequence[str]]
    """Name → what each place is; the first is shown at first."""
    value: Mapping[str, Sequence[float]]
    """Name → a number for each place, NaN where it is not known."""

    def html(self, key: str) -> str:
        """The map; empty without places."""
        lon, lat = np.asarray(self.lon, dtype=np.float64), np.asarray(self.lat, dtype=np.float64)
        rows = np.flatnonzero(np.isfinite(lon) & np.isfinite(lat))
        if not len(rows):
            return ""
        lon, lat = lon[rows], lat[rows]
        view = view_of(lon, lat, aspect=GLOBE_ASPECT)
        ground = ground_of(view, across=ACROSS)
        x, y = ground.at(*view.project(lon, lat))
        colourings: list[Colouring] = [
            *(by_name(name, [of[at] for at in rows.tolist()]) for name, of in self.category.items()),
            *(by_value(name, np.asarray(of, dtype=np.float64)[rows]) for name, of in self.value.items()),
        ] or [by_name("place", ["places"] * len(rows))]
        says = " ".join(
            [
                f"{len(rows):,} places from {_latitude(lat.min())} to {_latitude(lat.max())},",
                f"longitudes {lon.min():.1f}° to {lon.max():.1f}°.",
                *(in_words(each) for each in colourings),
            ]
        )
        return plane(
            key,
            title=self.title,
            says=says,
            kind="map",
            noun="places",
            points=Plane(x=x, y=y, home=ground.home, whole=ground.whole, deepest=2000.0, ground=ground.svg),
            label=[self.label[at] for at in rows.tolist()],
            colourings=colourings,
        )


def _latitude(degrees: float) -> str:
    return f"{abs(degrees):.1f}° {'N' if degrees >= 0 else 'S'}"
