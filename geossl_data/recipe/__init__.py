"""The recipe: the one place where an option, its default, bounds and help are declared.

The command line and the commented YAML are derived from these classes. A recipe holds one section per stage that has
run; replaying its sections in order makes the dataset folder again. Unknown keys are refused.
"""

from geossl_data.recipe.document import (
    RECIPE_NAME,
    SECTIONS,
    Recipe,
    make_section,
    read_recipe,
    to_yaml,
    write_recipe,
)
from geossl_data.recipe.drawing import DrawOptions, PlacesOptions, SampleOptions, parse_shares
from geossl_data.recipe.fetching import MOST_REQUESTS, FetchOptions
from geossl_data.recipe.judging import EVALUATION_TASKS, EvaluateOptions, parse_fractions
from geossl_data.recipe.section import Section, parse_duration
from geossl_data.recipe.sharding import ShardOptions
from geossl_data.recipe.training import VIEW_KINDS, PretrainOptions

__all__ = [
    "EVALUATION_TASKS",
    "MOST_REQUESTS",
    "RECIPE_NAME",
    "SECTIONS",
    "VIEW_KINDS",
    "DrawOptions",
    "EvaluateOptions",
    "FetchOptions",
    "PlacesOptions",
    "PretrainOptions",
    "Recipe",
    "SampleOptions",
    "Section",
    "ShardOptions",
    "make_section",
    "parse_duration",
    "parse_fractions",
    "parse_shares",
    "read_recipe",
    "to_yaml",
    "write_recipe",
]
