"""Why a file is not read here."""

from geossl_data.errors import ReadError


class UnknownLayoutError(ReadError):
    """A sound TIFF of a kind that is not read here; GDAL may know it."""


class BrokenTiffError(ReadError):
    """No TIFF, or one that contradicts itself, ends too early, or states absurd sizes."""
