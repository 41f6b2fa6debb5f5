"""Strategies by name."""

from geossl_data.sampling.strategies.centres import diverse
from geossl_data.sampling.strategies.ground import Strategy
from geossl_data.sampling.strategies.lattice import grid
from geossl_data.sampling.strategies.mixing import mixture
from geossl_data.sampling.strategies.stratified import balanced, geography
from geossl_data.sampling.strategies.weighted import change, cities, uniform

STRATEGIES: dict[str, Strategy] = {
    "uniform": uniform,
    "grid": grid,
    "geography": geography,
    "cities": cities,
    "balanced": balanced,
    "diverse": diverse,
    "change": change,
    "mixture": mixture,
}
"""Strategies by name."""
