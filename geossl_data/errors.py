"""What can go wrong for reasons outside the code: one class per kind, all of them `GeosslError`.

The command line prints a `GeosslError` as one line and exits with 1. Any other exception is a bug of ours and keeps
its traceback. A message says what was found, what was expected and what to do.
"""

import re

LONGEST = 2000
"""Characters of a message; what is longer nobody reads."""
_QUERY = re.compile(r"\?[^\s'\"]*=[^\s'\"]*")
_USER = re.compile(r"://[^/\s'\"@]*@")


def fit_to_show(text: str) -> str:
    """A text as one line: without what addresses hold of passwords and signatures, cut where it is very long.

    Characters that do something to a terminal, or that no file takes, are written as Python writes them.
    """
    if not text.isprintable():
        text = "".join(
            character if character.isprintable() else " " if character.isspace() else ascii(character)[1:-1]
            for character in text[: 2 * LONGEST]
        )
    text = _USER.sub("://", _QUERY.sub("", text))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …"


def first_line(error: Exception) -> str:
    """The first line of an error's text, at most 200 characters; the name of its class where it has none."""
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__


class GeosslError(Exception):
    """Something the user, the archive or the machine has to mend; its text is one line fit to show."""

    def __init__(self, message: str = "") -> None:
        super().__init__(fit_to_show(message))


class CatalogError(GeosslError):
    """A catalog is unknown, cannot be reached, or answers with something that is not STAC."""


class TruncatedSearch(CatalogError):  # noqa: N818 - the name under which scripts know it
    """A catalog did not give all items of a search, and asking in smaller parts did not help."""


class BudgetError(CatalogError):
    """This process has made as many requests as it was allowed to."""


class EmptyResultError(CatalogError):
    """A search or a match came back with nothing to go on with."""


class SceneError(GeosslError):
    """One STAC item cannot be used; the text is the reason written to `skipped.parquet`."""


class SamplingError(GeosslError):
    """The places asked for cannot be drawn from the candidates there are."""


class ReadError(GeosslError):
    """A raster window could not be read whole and right; never replaced by zeros."""


class TokenError(ReadError):
    """No access token could be had for a storage account, or its tokens are refused."""


class TokenAlreadyExpired(TokenError):  # noqa: N818 - the name under which scripts know it
    """The token service hands out tokens whose time is over; the service or this machine's clock is wrong."""


class ShardError(GeosslError):
    """A shard or its manifest is missing, damaged, or was cut from something else."""


class RecipeError(GeosslError):
    """A recipe has an unknown key, a value out of bounds, or contradicts itself."""


class DatasetError(GeosslError):
    """A folder is not a geossl dataset, or lacks what an earlier stage writes."""


class StorageError(GeosslError):
    """A file could not be written: the disk is full or the folder is not writable."""


class TrainingError(GeosslError):
    """Training or evaluation cannot start or go on: wrong shapes, non-finite loss, missing labels."""


class NothingToJudge(TrainingError):  # noqa: N818 - what it is, as TruncatedSearch
    """What a task asks for is not there to be told apart, as where nothing changed; other tasks may go on."""
