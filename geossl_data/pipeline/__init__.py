"""The stages wired together: the only reader of the recipe.

Each stage takes a folder and its options, reads what the earlier stage left, writes its files atomically, adds its
section to `recipe.yaml`, and answers with a Report. A stage that has already run with the same options on the same
input does nothing. A folder is worked on by one process at a time.
"""

from geossl_data.pipeline._check import nearest_splits, verify
from geossl_data.pipeline._evaluate import evaluate
from geossl_data.pipeline._export import export
from geossl_data.pipeline._fetch import fetch, plan_fetch
from geossl_data.pipeline._folder import Report, recipe_of
from geossl_data.pipeline._info import Info, StageInfo, info
from geossl_data.pipeline._places import draw_places
from geossl_data.pipeline._replay import digest, run
from geossl_data.pipeline._report import report
from geossl_data.pipeline._sample import compare, sample
from geossl_data.pipeline._shard import shard
from geossl_data.pipeline._train import overfit, plan_pretrain, pretrain

__all__ = [
    "Info",
    "Report",
    "StageInfo",
    "compare",
    "digest",
    "draw_places",
    "evaluate",
    "export",
    "fetch",
    "info",
    "nearest_splits",
    "overfit",
    "plan_fetch",
    "plan_pretrain",
    "pretrain",
    "recipe_of",
    "report",
    "run",
    "sample",
    "shard",
    "verify",
]
