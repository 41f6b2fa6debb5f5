"""What drawing with and without a catalog has in common: from options to strata, quotas and cities."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import SamplingError, first_line
from geossl_data.files import sha256
from geossl_data.pipeline._folder import SCENES, recipe_of
from geossl_data.recipe import DrawOptions, FetchOptions

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from geossl_data.sampling.cities import CityRule
    from geossl_data.sampling.strata import Strata
    from geossl_data.sampling.strategies import Rules
    from geossl_data.tiles.lookup import NamesAt
    from geossl_data.tiles.rasters import Rasters

Options = TypeVar("Options", bound=DrawOptions)

_FILES = ("area", "quota", "cities_file")
_LAYERS = ("strata", "weight_by")
_MOST_ROWS = 100_000


def resolved(options: Options, base: Path) -> Options:
    """Options whose local files are named absolutely: relative ones are looked up below `base`."""

    def absolute(path: str) -> str:
        is_file = path != "" and "://" not in path and (base / path).is_file()
        return str((base / path).resolve()) if is_file else path

    changes: dict[str, Any] = {name: absolute(value) for name in _FILES if (value := getattr(options, name))}
    for name in _LAYERS:
        parts = [_with_path(part, absolute) for part in str(getattr(options, name, "")).split(",")]
        changes |= {name: ",".join(parts)} if parts != [""] else {}
    return options.model_copy(update=changes)


def _with_path(spec: str, change: Callable[[str], str]) -> str:
    """A layer with the file that it names, if any, put through `change`: FILE or FILE:FIELD."""
    path, colon, field = spec.rpartition(":")
    for name, rest in ((spec, ""), (path, colon + field)):
        changed = change(name)
        if changed != name:
            return changed + rest
    return spec


def by_content(options: Options) -> Options:
    """The same options with files named by what they hold, so that a changed file is drawn from anew."""

    def content(path: str) -> str:
        return sha256(Path(path)) if path and Path(path).is_file() else path

    changes: dict[str, Any] = {name: content(value) for name in _FILES if (value := getattr(options, name))}
    for name in _LAYERS:
        parts = [_with_path(part, content) for part in str(getattr(options, name, "")).split(",")]
        changes |= {name: ",".join(parts)} if parts != [""] else {}
    return options.model_copy(update=changes)


def strata_for(folder: Path, options: DrawOptions, area: "BaseGeometry | None", rasters: "Rasters") -> "Strata":
    """The layer of strata that the options name; rasters and collections are read through `rasters`."""
    from geossl_data.sampling.strata import strata_of

    def raster(source: str, detail: str) -> "NamesAt":
        if source == "stac":
            return _collection(folder, detail, area, rasters, options.size * 10.0)
        return _raster_file(source, rasters, options.size * 10.0)

    return strata_of(options.strata, raster=raster)


def _raster_file(path: str, rasters: "Rasters", side_m: float) -> "NamesAt":
    from geossl_data.tiles.lookup import classes_at, majority_of

    if "://" not in path and not Path(path).is_file():
        raise SamplingError(f"strata {path}: no such raster file")
    href = path if "://" in path else str(Path(path).resolve())
    return majority_of(lambda lon, lat: classes_at(rasters, href, lon, lat), side_m)


def _collection(folder: Path, detail: str, area: "BaseGeometry | None", rasters: "Rasters", side_m: float) -> "NamesAt":
    """A raster collection of the catalog that the folder's scenes were found in; `detail` is COLLECTION/ASSET."""
    from geossl_data.scenes.layers import LayerFile, layer_files
    from geossl_data.scenes.store import provider_of
    from geossl_data.tiles.lookup import classes_at, first_of, majority_of

    collection, slash, asset = detail.partition("/")
    if not (collection and slash and asset):
        raise SamplingError(f"strata stac:{detail}: expected stac:COLLECTION/ASSET")
    if not (folder / SCENES).is_file():
        raise SamplingError(f"strata stac:{detail}: needs the catalog of a fetch; run `geossl fetch` first")
    catalog = (recipe_of(folder).fetch or FetchOptions()).catalog
    files = layer_files(catalog, provider_of(folder / SCENES), collection, asset, area)

    def layer(file: LayerFile) -> "NamesAt":
        return lambda lon, lat: classes_at(rasters, file.href, lon, lat, names=file.names)

    return majority_of(first_of([layer(file) for file in files]), side_m)


def rules_for(options: DrawOptions) -> "Rules":
    """What the strategies are told beside the candidates."""
    from geossl_data.sampling.strategies import POWERS, Rules

    return Rules(
        power=POWERS.get(options.allocation, 0.5),
        quota=None if options.quota is None else read_quota(Path(options.quota)),
        cities=city_rule_for(options),
        shares=options.shares,
    )


def city_rule_for(options: DrawOptions) -> "CityRule | None":
    """The Gaussians around cities, where a strategy asks for them."""
    from geossl_data.sampling.cities import city_rule

    if options.strategy != "cities" and "cities" not in options.shares:
        return None
    path = None if options.cities_file is None else Path(options.cities_file)
    return city_rule(options.cities, path=path, sigma_km=options.sigma_km)


def read_quota(path: Path) -> dict[str, float]:
    """Stratum → count or share, from a CSV file with the columns `stratum` and `count` or `share`.

    Raises SamplingError in one line where the file is not that.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name for name in reader.fieldnames or [] if name in ("count", "share")]
            if "stratum" not in (reader.fieldnames or []) or len(columns) != 1:
                raise SamplingError(f"{path}: a quota has the columns stratum and count (or share)")
            rows = [
                (str(row["stratum"]).strip(), row[columns[0]])
                for row, _ in zip(reader, range(_MOST_ROWS), strict=False)
            ]
    except FileNotFoundError:
        raise SamplingError(f"{path}: no such quota file") from None
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise SamplingError(f"{path}: not a readable CSV file: {first_line(error)}") from None
    quota: dict[str, float] = {}
    for number, (name, text) in enumerate(rows, start=2):
        try:
            value = float(text)
        except (TypeError, ValueError):
            value = math.nan
        if not name or name in quota or not (math.isfinite(value) and value >= 0):
            raise SamplingError(
                f"{path}: line {number}: a new stratum and a number from 0 belong here, not {name}, {text}"
            )
        quota[name] = value
    if not sum(quota.values()) > 0:
        raise SamplingError(f"{path}: the quota asks for nothing")
    return quota


def short_strata(target: dict[str, int], drawn: dict[str, int]) -> list[str]:
    """Strata that got less than half of what they were meant to get."""
    return [name for name, seats in sorted(target.items()) if seats and drawn.get(name, 0) < seats / 2]


def finite_or_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The numbers with 0 where there is none."""
    return np.where(np.isfinite(values), values, 0.0)
