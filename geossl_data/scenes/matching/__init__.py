"""Scenes → Pairs, in columns: time first, then space, then orbits.

`match` takes lists of scenes, `match_acquisitions` the same as columns; the yield says what a gap is worth.
"""

from geossl_data.scenes.matching.acquisitions import Acquisitions
from geossl_data.scenes.matching.matches import Matches
from geossl_data.scenes.matching.orbits import OrbitRule
from geossl_data.scenes.matching.pairing import match, match_acquisitions
from geossl_data.scenes.matching.yields import YieldOfYear, YieldStep, yield_by_year, yield_curve, yield_share

__all__ = [
    "Acquisitions",
    "Matches",
    "OrbitRule",
    "YieldOfYear",
    "YieldStep",
    "match",
    "match_acquisitions",
    "yield_by_year",
    "yield_curve",
    "yield_share",
]
