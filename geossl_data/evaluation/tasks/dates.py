"""Two looks of a place years apart, with what says whether the ground changed between them."""

from geossl_data.bands import MEMBERS
from geossl_data.errors import TrainingError
from geossl_data.evaluation.bench import Bench
from geossl_data.evaluation.labels import target_of
from geossl_data.evaluation.rows import Rows, pairs_of


def missing(bench: Bench) -> str | None:
    """What the shards lack to be asked where something changed; None where nothing."""
    try:
        pairs(bench)
    except TrainingError as error:
        return str(error)
    return None


def pairs(bench: Bench) -> Rows:
    """An earlier and a later look of every place that has them, with what says whether the ground changed.

    That is a class map of both looks, or a mask of the later one. Raises TrainingError where no place has it.
    """
    target = target_of(bench.shards, bench.options.target)
    members = bench.members(bench.shown[-1])
    # What a class is after, without what it was before, says nothing about change; a mask does.
    both = target == MEMBERS["label"].name
    rows = pairs_of(bench.shards, (*members, *((target,) if both else ())), target=target)
    if not len(rows):
        raise TrainingError(
            f"no place has two looks with {', '.join(members)} and maps {target} that say what changed between them; "
            "sample more dates"
        )
    return rows
