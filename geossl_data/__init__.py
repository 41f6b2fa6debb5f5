"""geossl: self-supervised training sets of Sentinel-1 and Sentinel-2.

Everything a notebook needs, by the order of the data. Names are imported when they are first used, so that
`import geossl_data as gd` is quick and works with torch or the geographic packages absent. The stages, folder in and
Report out, are `gd.pipeline.fetch`, `.sample`, `.shard`, `.pretrain`, `.evaluate` and `.verify`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geossl_data.version import VERSION

if TYPE_CHECKING:
    from geossl_data import pipeline
    from geossl_data.bands import BANDS, MEMBERS
    from geossl_data.errors import GeosslError
    from geossl_data.evaluation.classifiers import knn_accuracy, linear_probe
    from geossl_data.pipeline import Report
    from geossl_data.pipeline._export import export
    from geossl_data.pipeline._open import open_look, open_sample
    from geossl_data.pretrain.encoders import build_encoder
    from geossl_data.pretrain.export import load_encoder
    from geossl_data.recipe import (
        EvaluateOptions,
        FetchOptions,
        PretrainOptions,
        Recipe,
        SampleOptions,
        ShardOptions,
        read_recipe,
    )
    from geossl_data.records import Look, Pair, Place, Sample, Scene, Skipped
    from geossl_data.sampling.draw import draw_samples
    from geossl_data.sampling.pool import make_pool
    from geossl_data.sampling.strata import strata_of
    from geossl_data.sampling.strategies import STRATEGIES
    from geossl_data.sandbox import build_sandbox
    from geossl_data.scenes.matching import match
    from geossl_data.scenes.search import search
    from geossl_data.scenes.store import read_scenes
    from geossl_data.shards.manifest import read_manifest
    from geossl_data.shards.reading.adapter import web_dataset
    from geossl_data.shards.reading.shards import open_shards
    from geossl_data.tiles.build import build_tile
    from geossl_data.tiles.rasters import Rasters

__version__ = VERSION

_HOME = {
    "BANDS": "bands",
    "EvaluateOptions": "recipe",
    "FetchOptions": "recipe",
    "GeosslError": "errors",
    "Look": "records",
    "MEMBERS": "bands",
    "Pair": "records",
    "Place": "records",
    "PretrainOptions": "recipe",
    "Rasters": "tiles.rasters",
    "Recipe": "recipe",
    "Report": "pipeline",
    "STRATEGIES": "sampling.strategies",
    "Sample": "records",
    "SampleOptions": "recipe",
    "Scene": "records",
    "ShardOptions": "recipe",
    "Skipped": "records",
    "build_encoder": "pretrain.encoders",
    "build_sandbox": "sandbox",
    "build_tile": "tiles.build",
    "draw_samples": "sampling.draw",
    "export": "pipeline._export",
    "knn_accuracy": "evaluation.classifiers",
    "linear_probe": "evaluation.classifiers",
    "load_encoder": "pretrain.export",
    "make_pool": "sampling.pool",
    "match": "scenes.matching",
    "open_look": "pipeline._open",
    "open_sample": "pipeline._open",
    "open_shards": "shards.reading.shards",
    "read_manifest": "shards.manifest",
    "read_recipe": "recipe",
    "read_scenes": "scenes.store",
    "search": "scenes.search",
    "strata_of": "sampling.strata",
    "web_dataset": "shards.reading.adapter",
}


def __getattr__(name: str) -> Any:
    if name == "pipeline":
        return import_module(f"{__name__}.pipeline")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, "pipeline"})


__all__ = [
    "BANDS",
    "MEMBERS",
    "STRATEGIES",
    "EvaluateOptions",
    "FetchOptions",
    "GeosslError",
    "Look",
    "Pair",
    "Place",
    "PretrainOptions",
    "Rasters",
    "Recipe",
    "Report",
    "Sample",
    "SampleOptions",
    "Scene",
    "ShardOptions",
    "Skipped",
    "__version__",
    "build_encoder",
    "build_sandbox",
    "build_tile",
    "draw_samples",
    "export",
    "knn_accuracy",
    "linear_probe",
    "load_encoder",
    "make_pool",
    "match",
    "open_look",
    "open_sample",
    "open_shards",
    "pipeline",
    "read_manifest",
    "read_recipe",
    "read_scenes",
    "search",
    "strata_of",
    "web_dataset",
]
