"""Vector files: their features in longitude and latitude, whatever format and CRS they come in."""

from pathlib import Path
from typing import TYPE_CHECKING

from geossl_data.errors import GeosslError, first_line

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

PARQUET = (".parquet", ".geoparquet", ".pq")
"""Endings of files that pyarrow reads, and not GDAL."""


def read_vector_file(path: Path, kind: type[GeosslError]) -> "GeoDataFrame":
    """The features of the first layer of any vector file that geopandas reads, in longitude and latitude.

    kind: of the error in one line that is raised where the file cannot be read or states no CRS.
    """
    import geopandas

    try:
        is_parquet = path.suffix.lower() in PARQUET
        frame = geopandas.read_parquet(path) if is_parquet else geopandas.read_file(path)
        has_crs = isinstance(frame, geopandas.GeoDataFrame) and frame.crs is not None
        placed = frame.to_crs(4326) if has_crs else frame
    except Exception as error:  # whatever the many drivers below geopandas raise
        raise kind(f"{path}: not a readable vector file: {first_line(error)}") from None
    if not has_crs:
        raise kind(f"{path}: states no coordinate reference system; write one into the file")
    return placed
