"""Pictures of what was drawn, as PNG files: maps on coastlines, when and how far apart the looks are, strata.

The same input gives the same bytes: the font is matplotlib's own, no setting of the user's is asked, nothing of the
machine or the time goes into the file. Colours are those of Paul Tol's schemes, apart for colour-blind eyes too.
`canvas` sets a picture up, `views` and `coasts` lay the Earth out flat, `maps` draws `kinds` of places on `ground`,
`charts` draws bars. matplotlib is imported only once something is drawn.
"""

from geossl_data.evaluation.pictures.canvas import HEIGHT_PX, OTHERS, PLAIN, WARNING, WIDTH_PX
from geossl_data.evaluation.pictures.charts import MOST_STRATA, YEAR_COLOURS, histograms, strata_bars
from geossl_data.evaluation.pictures.kinds import MARKERS, MOST_MARKED, SPLIT_COLOURS, STRATUM_COLOURS
from geossl_data.evaluation.pictures.maps import compare_maps, map_of
from geossl_data.evaluation.pictures.views import GLOBE_ASPECT, View, equal_earth, view_of

__all__ = [
    "GLOBE_ASPECT",
    "HEIGHT_PX",
    "MARKERS",
    "MOST_MARKED",
    "MOST_STRATA",
    "OTHERS",
    "PLAIN",
    "SPLIT_COLOURS",
    "STRATUM_COLOURS",
    "WARNING",
    "WIDTH_PX",
    "YEAR_COLOURS",
    "View",
    "compare_maps",
    "equal_earth",
    "histograms",
    "map_of",
    "strata_bars",
    "view_of",
]
