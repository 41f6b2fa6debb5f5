"""Options and shards → the objective to train, how its images are standardised, and what it was built from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain.normalisation import Normalisation, bands_of, channels_of, normalisation
from geossl_data.pretrain.objectives.clusters import known_places
from geossl_data.pretrain.objectives.csp import CSP
from geossl_data.pretrain.objectives.geography import Geographic, embedding_width
from geossl_data.pretrain.objectives.geoloc import GeoLoc
from geossl_data.pretrain.objectives.georank import GeoRank
from geossl_data.pretrain.objectives.registry import OBJECTIVES, Objective
from geossl_data.pretrain.objectives.setup import Setup
from geossl_data.pretrain.options import TrainingOptions
from geossl_data.pretrain.published import Published, published
from geossl_data.pretrain.views import KINDS, ViewSettings
from geossl_data.shards.reading.shards import Shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a run trains."""

    module: nn.Module
    setup: Setup
    method: Published
    """The method's numbers: those asked for, and else its own."""
    normalisations: tuple[Normalisation, ...]

    @property
    def objective(self) -> Objective:
        """The module, as what it is."""
        return cast(Objective, self.module)


def build(shards: Shards, options: TrainingOptions) -> Built:
    """The objective of some options for these shards; TrainingError in one line for what makes no sense."""
    if options.objective not in OBJECTIVES:
        raise TrainingError(f"objective {options.objective!r} is not one of {', '.join(OBJECTIVES)}")
    method = method_of(options)
    sensors = _sensors(shards, options, method)
    normalisations = tuple(normalisation(shards.notes, shards.members, sensor) for sensor in sensors)
    setup = Setup(
        encoder=options.encoder,
        bands={entry.sensor: bands_of(entry) for entry in normalisations},
        joint=options.joint,
        patch=patch_for(_crop(options, int(shards.notes["size_px"]))),
        embed=options.embed,
        views=_views(options, method, int(shards.notes["size_px"])),
        temperature=method.temperature,
        projection_dim=method.projection_dim,
        hidden_dim=method.hidden_dim,
        queue=method.queue,
        momentum=method.momentum,
        momentum_end=method.momentum_end,
        negatives_km=options.negatives_km,
        mask=tuple(unit.strip() for unit in options.mask.split(",")),
        mask_ratio=options.mask_ratio,
        looks=options.dates,
        change_labels=options.change_labels,
        change_threshold=options.change_threshold,
        mask_cross_view=not options.cross_view_negatives,
        places=shards.facts.lonlat,
        seed=options.seed,
    )
    module = _with_geography(OBJECTIVES[options.objective](setup), setup, options)
    return Built(module=module, setup=setup, method=method, normalisations=normalisations)


def method_of(options: TrainingOptions) -> Published:
    """The method's numbers: those asked for, and else what it was published with."""
    own = published(options.objective, options.encoder)
    asked: dict[str, Any] = {
        name: getattr(options, name)
        for name in (
            "temperature",
            "projection_dim",
            "hidden_dim",
            "queue",
            "momentum",
            "learning_rate",
            "weight_decay",
            "warmup",
            "clip",
        )
        if getattr(options, name) is not None
    }
    asked |= {name: getattr(options, name) for name in ("optimizer", "schedule") if getattr(options, name) != "auto"}
    if "learning_rate" in asked:
        asked["scaling"] = "none"
    elif asked.get("optimizer", own.optimizer) != own.optimizer:
        # Another optimiser makes nothing of the published rate.
        asked |= {"learning_rate": _USUAL_RATES[asked["optimizer"]], "scaling": "linear"}
    if "weight_decay" in asked:
        asked["weight_decay_end"] = None
    if "momentum" in asked:
        asked["momentum_end"] = max(own.momentum_end, asked["momentum"])
    if options.views != "auto":
        asked["views"] = kinds_of(options.views)
    if options.min_scale is not None:
        asked["scale"] = (options.min_scale, 1.0)
    return replace(own, **asked)


_USUAL_RATES: Mapping[str, float] = {"adamw": 1e-3, "sgd": 0.03, "lars": 0.2}


def kinds_of(text: str) -> tuple[str, ...]:
    """`season,sensor` as kinds of views, in their order; TrainingError for one that does not exist."""
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise TrainingError(f"views {text!r}: {unknown[0]!r} is not one of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in names)


def _sensors(shards: Shards, options: TrainingOptions, method: Published) -> tuple[str, ...]:
    """Names of the sensors to train on, the first of a pair first."""
    there = sorted(channels_of(shards.members.values()), reverse=True)  # s2 before s1
    if options.sensors == "auto":
        both = "sensor" in method.views or options.joint
        if len(there) < 1 + both:
            raise TrainingError(
                f"{options.objective}: needs {1 + both} sensors, these shards hold {', '.join(there) or 'none'}"
            )
        return tuple(there[: 1 + both])
    wanted = tuple(name.strip() for name in options.sensors.split(","))
    if not set(wanted) <= set(there) or len(set(wanted)) < len(wanted):
        raise TrainingError(f"sensors {options.sensors!r}: these shards hold {', '.join(there) or 'none'}; each once")
    return wanted


def _crop(options: TrainingOptions, size_px: int) -> int:
    crop = options.crop or size_px * 3 // 4
    if crop > size_px:
        raise TrainingError(f"crop {crop} is larger than the places of {size_px} pixels; choose at most {size_px}")
    return crop


def _views(options: TrainingOptions, method: Published, size_px: int) -> ViewSettings:
    low = method.scale[0]
    return ViewSettings(
        kinds=method.views,
        crop=_crop(options, size_px),
        scale=method.scale,
        gain=options.gain,
        offset=options.offset,
        band_drop=options.band_drop,
        speckle=options.speckle,
        local_crops=options.local_crops,
        local_scale=(min(0.05, low / 2), low),
    )


def _with_geography(module: nn.Module, setup: Setup, options: TrainingOptions) -> nn.Module:
    """The objective with the geographic terms that have a weight."""
    terms: dict[str, tuple[float, nn.Module]] = {}
    if max(options.georank, options.geoloc, options.csp) > 0:
        known_places(setup.places)  # refuses a data set that says nowhere where it is
    if options.georank > 0:
        terms["georank"] = (options.georank, GeoRank(eps=options.georank_eps))
    if options.geoloc > 0 or options.csp > 0:
        width = embedding_width(module, setup)
        if options.geoloc > 0:
            terms["geoloc"] = (
                options.geoloc,
                GeoLoc(width, setup.places, clusters=options.geoloc_clusters, seed=setup.seed + 7001),
            )
        if options.csp > 0:
            terms["csp"] = (options.csp, CSP(width, seed=setup.seed + 7101, negatives_km=setup.negatives_km))
    return Geographic(module, terms) if terms else module


def patch_for(crop: int) -> int:
    """Side of a ViT's patches for a training crop, pixels: 16, and 8 for crops below 128 pixels."""
    return 16 if crop >= 128 else 8
