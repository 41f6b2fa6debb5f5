"""What sections show: words, tables, pictures, charts as SVG, maps and galleries.

Each is plain data that turns itself into HTML. Charts say in words what they show, tell more when pointed at, and are
the same with and without the page's script but for what needs a hand: zoom, filters, sorting.
"""

from geossl_data.report.parts.bars import Bars
from geossl_data.report.parts.curves import Curves
from geossl_data.report.parts.gallery import Card, Gallery, SideBySide, Strip
from geossl_data.report.parts.histogram import Histogram
from geossl_data.report.parts.intervals import IntervalRow, Intervals
from geossl_data.report.parts.picture import Picture
from geossl_data.report.parts.scatter import Scatter
from geossl_data.report.parts.table import Table
from geossl_data.report.parts.text import Text
from geossl_data.report.parts.world_map import WorldMap

__all__ = [
    "Bars",
    "Card",
    "Curves",
    "Gallery",
    "Histogram",
    "IntervalRow",
    "Intervals",
    "Picture",
    "Scatter",
    "SideBySide",
    "Strip",
    "Table",
    "Text",
    "WorldMap",
]
