"""A synthetic planet on disk with known truth, shaped like a public archive of Sentinel-1 and Sentinel-2."""

from geossl_data.sandbox.planet import build_sandbox
from geossl_data.sandbox.surfaces import SANDBOX_CLASSES

__all__ = ["SANDBOX_CLASSES", "build_sandbox"]
