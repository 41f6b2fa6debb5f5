"""Places that lie somewhere and say of themselves what real ones do, for pixels that come from memory."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from numpy.typing import NDArray

from geossl_data.bands import MEMBERS
from geossl_data.grid import to_lonlat
from geossl_data.records import Look, Place, Sample
from geossl_data.shards.writing.content import Content, tile_content
from geossl_data.tiles.build import Tile, TileLook

EPSG = 32632
START = datetime(2021, 3, 4, 10, 20, 30, tzinfo=UTC)


def sample_of(number: int, *, size_px: int, dates: int) -> Sample:
    """Place `number`, in rows of 100 places 3 km apart."""
    x, y = 400_020.0 + 3000 * (number % 100), 5_000_040.0 + 3000 * (number // 100)
    lon, lat = to_lonlat(EPSG, x + size_px * 5, y - size_px * 5)
    looks = tuple(
        Look(
            s2_id=f"S2_{number}_{date}",
            s1_id=f"S1_{number}_{date}",
            acquired=START + timedelta(days=90 * date, seconds=number),
            gap_hours=-5.0,
        )
        for date in range(dates)
    )
    return Sample(
        key=f"place-{number:06d}",
        place=Place(lon=float(lon), lat=float(lat), epsg=EPSG, x=x, y=y, size_px=size_px, cell=f"{number:06d}"),
        looks=looks,
        stratum="all",
        weight=1.0,
        inclusion_probability=1.0,
        split="train",
        block=f"block-{number // 100}",
    )


def content_of(sample: Sample, stored: Sequence[Mapping[str, NDArray[Any]]]) -> Content:
    """A place with these pixels, date by date as they are to be stored, as its tile would come to the writer."""
    looks = []
    for look, arrays in zip(sample.looks, stored, strict=True):
        sensors: dict[str, dict[str, Any]] = {
            sensor: {"id": identifier, "datetime": time.isoformat(), "geossl:valid_fraction": 1.0}
            for sensor, identifier, time in (
                ("s2", look.s2_id, look.acquired),
                ("s1", look.s1_id, look.acquired + timedelta(hours=look.gap_hours)),
            )
        }
        sensors["s2"] |= {"geossl:offset_native": 0, "geossl:offset_applied": 0, "geossl:cloud_fraction": 0.0}
        physical = {name: MEMBERS[name].physical(array) for name, array in arrays.items()}
        looks.append(TileLook(members=physical, meta={**sensors, "pair": {"geossl:gap_hours": look.gap_hours}}))
    return tile_content(Tile(sample=sample, looks=tuple(looks)))
