"""How places are drawn from the candidates: plain callables, chosen by name.

A strategy takes the candidate ground and a count and answers which candidates to take and with what chance each
candidate was taken. It sees positions and what was measured, never pixels, has no state, and does not mind the order of
the candidates.
"""

from geossl_data.sampling.strategies.allocation import POWERS, allocate
from geossl_data.sampling.strategies.by_name import STRATEGIES
from geossl_data.sampling.strategies.ground import Draw, FloatArray, Ground, IntArray, Rules, Strategy
from geossl_data.sampling.strategies.shares import ground_shares
from geossl_data.sampling.strategies.spacing import Spacing

__all__ = [
    "POWERS",
    "STRATEGIES",
    "Draw",
    "FloatArray",
    "Ground",
    "IntArray",
    "Rules",
    "Spacing",
    "Strategy",
    "allocate",
    "ground_shares",
]
