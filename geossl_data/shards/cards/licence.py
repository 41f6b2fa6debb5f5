"""The terms of the pixels in words."""

from collections.abc import Sequence
from typing import Any

from geossl_data.errors import ShardError

LICENCE_NAME = "LICENSE.txt"

_FIRST_YEAR, _LAST_YEAR = 2000, 9999


def licence_text(
    years: Sequence[int], *, sentinels: Sequence[str] = ("s1", "s2"), rtc: bool | None = None, label: bool = False
) -> str:
    """The terms of the pixels as text.

    years: of every scene that gave a pixel, of either sensor, further scenes of a mosaic too. sentinels: which of `s1`
    and `s2` the pixels are of; with neither no Copernicus notice is made, for only their owner knows what holds for
    them, and `years` does not matter. rtc: whether Sentinel-1 is the Planetary Computer's terrain-corrected product;
    None where that cannot be told. label: whether there is a member cut from a class map of the catalog.
    The notice is the one that the Copernicus terms ask for (Commission Delegated Regulation (EU) No 1159/2013,
    article 8, and the legal notice on the use of Copernicus Sentinel data).
    Raises ShardError where years are missing or absurd.
    """
    if not sentinels:
        return (
            "The pixels come from images of the maker of this dataset, who knows the terms under which he has them;\n"
            "geossl does not, and grants nothing.\n\n"
            "Write those terms here before you pass the dataset on.\n"
        )
    text = (
        f"{notice(years)}\n\n"
        f"The pixels derive from Copernicus {missions(sentinels)} data, free, full and open under the Copernicus "
        "Sentinel data terms\n(Commission Delegated Regulation (EU) No 1159/2013). Keep this notice with copies and "
        "derived works.\n"
    )
    if "s1" in sentinels and rtc is not False:
        subject = "The Sentinel-1 pixels come from radiometrically" if rtc else "Radiometrically"
        verb = ", which are" if rtc else " are"
        text += (
            f"{subject} terrain corrected Sentinel-1 scenes of the Planetary Computer{verb} CC BY 4.0 "
            "(Catalyst / Microsoft).\n"
        )
    if label:
        text += (
            "The land classes (member label) are cut from class maps that the catalog held beside the scenes, under "
            "terms of\ntheir own; each sample's JSON names the map.\n"
        )
    return text


def missions(sentinels: Sequence[str]) -> str:
    """`Sentinel-1 and Sentinel-2` for `s1` and `s2`; empty text for none."""
    return " and ".join(f"Sentinel-{sensor[1]}" for sensor in sorted(sentinels))


def notice(years: Any) -> str:
    """The Copernicus notice with years in order, each once; ShardError where there is none, or no year of a scene."""
    found = list(years) if isinstance(years, list | tuple) else []
    if not found or not all(isinstance(year, int) and _FIRST_YEAR <= year <= _LAST_YEAR for year in found):
        raise ShardError(f"years of the scenes are {years!r}; the Copernicus notice needs them, as in [2023, 2024]")
    return f"Contains modified Copernicus Sentinel data [{', '.join(map(str, sorted(set(found))))}]."
