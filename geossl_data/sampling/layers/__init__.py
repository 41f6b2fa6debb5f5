"""Class maps that install with the package, and those of files of one's own; see `LAYERS.txt` for their sources.

Everything here answers whole arrays of points, longitude in [-180, 180) and latitude in degrees, both finite, and
reads its data when the layer is first asked for. `strata.strata_of` finds a layer by name.
"""

from geossl_data.sampling.layers.cells import equal_area_cells
from geossl_data.sampling.layers.countries import continent, country
from geossl_data.sampling.layers.grids import class_grid
from geossl_data.sampling.layers.numbers import values_of
from geossl_data.sampling.layers.polygons import Polygons
from geossl_data.sampling.layers.vectors import names_from_file

__all__ = [
    "Polygons",
    "class_grid",
    "continent",
    "country",
    "equal_area_cells",
    "names_from_file",
    "values_of",
]
