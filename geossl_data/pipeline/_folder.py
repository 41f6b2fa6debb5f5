"""What the stages share: the files of a dataset folder, its recipe, its lock, and what a stage reports."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geossl_data import tables
from geossl_data.errors import DatasetError
from geossl_data.files import LOCK_NAME, exclusive, remove_folder, remove_temporaries, temporaries
from geossl_data.recipe import RECIPE_NAME, Recipe, Section, read_recipe, write_recipe
from geossl_data.records import SPLITS, Skipped, Split

if TYPE_CHECKING:
    from geossl_data.scenes.opening.access import Access

SCENES, PAIRS, SAMPLES, SKIPPED = "scenes.parquet", "pairs.parquet", "samples.parquet", "skipped.parquet"
YIELD, PLACES, REJECTED, PICTURES = "yield.csv", "places.parquet", "rejected.parquet", "pictures"
SHARDS, MANIFEST, RUNS, LICENCE = "shards", "manifest.parquet", "runs", "LICENSE.txt"
HEADERS = "headers.sqlite"
"""Where the blocks of each raster lie in its file: a cache, safe to delete."""

Stage = Literal["fetch", "sample", "shard"]
STAGES: tuple[Stage, ...] = ("fetch", "sample", "shard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a stage did, for people and for scripts."""

    stage: str
    """Command that did it."""
    fresh: bool
    """False where everything was there already and nothing was done."""
    facts: dict[str, Any]
    """Name → number or short text, in the order in which to show them."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason → how many items were given up for it."""
    table: tuple[tuple[str, ...], ...] = ()
    """A table to show below the facts: a header row, then rows; empty where there is none."""
    hints: tuple[str, ...] = ()
    """The next commands to type."""


def recipe_of(folder: Path) -> Recipe:
    """The recipe of a dataset folder; an empty one where the folder has none yet."""
    path = folder / RECIPE_NAME
    return read_recipe(path) if path.is_file() else Recipe()


def need(folder: Path, *names: str, stage: str) -> None:
    """Raise DatasetError unless the folder holds what an earlier stage writes."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    for name in names:
        if not (folder / name).exists():
            known = any((folder / other).exists() for other in (RECIPE_NAME, SCENES, MANIFEST))
            what = f"{name} is missing; run `geossl {stage}` first" if known else "not a geossl dataset"
            raise DatasetError(f"{folder}: {what}" + ("" if known else f" (no {name}); start with `geossl fetch`"))


def require_one_search(folder: Path) -> None:
    """Raise DatasetError where scenes and pairs are of two searches: a process was killed between writing the two."""
    if fingerprint_of(folder / SCENES) != fingerprint_of(folder / PAIRS):
        raise DatasetError(
            f"{folder}: {SCENES} and {PAIRS} are of different searches, one was killed while it wrote them; "
            "run `geossl fetch` again"
        )


@contextmanager
def working_on(folder: Path, section: Section) -> Iterator[None]:
    """The folder is ours alone while the block runs; afterwards its recipe holds `section`.

    A folder that was not there before and in which nothing was written is gone again after an error.
    """
    made = not folder.exists()
    with exclusive(folder):
        remove_temporaries(folder)
        remove_temporaries(folder / PICTURES)
        try:
            yield
        except BaseException:
            if made and [entry.name for entry in folder.iterdir()] == [LOCK_NAME]:
                remove_folder(folder)
            raise
        write_recipe(folder / RECIPE_NAME, recipe_of(folder).with_section(section))


def settle(folder: Path, section: Section) -> None:
    """Put right what a process that was killed left of a stage that is done: its options are in the recipe, and nothing
    half-written lies about."""
    is_noted = getattr(recipe_of(folder), section.name) == section
    if not is_noted or any(temporaries(place) for place in (folder, folder / PICTURES)):
        with working_on(folder, section):
            pass


def write_skipped(folder: Path, stage: Stage, rows: Sequence[Skipped]) -> dict[str, int]:
    """Replace a stage's rows (and those of the stages after it) in skipped.parquet; reasons and their counts."""
    path = folder / SKIPPED
    earlier = STAGES[: STAGES.index(stage)]
    kept = [row for row in tables.read_table(path, Skipped) if row.stage in earlier] if path.is_file() else []
    ordered = sorted(rows, key=lambda row: (row.reason, row.id, row.detail))
    tables.write_table(path, [*kept, *ordered], Skipped)
    return dict(sorted(Counter(row.reason for row in rows).items()))


def skipped_counts(folder: Path, stage: Stage) -> dict[str, int]:
    path = folder / SKIPPED
    rows = tables.read_table(path, Skipped) if path.is_file() else []
    return dict(sorted(Counter(row.reason for row in rows if row.stage == stage).items()))


def fingerprint_of(path: Path) -> str | None:
    found = tables.read_metadata(path).get("fingerprint")
    return found if isinstance(found, str) else None


def access_to(folder: Path) -> "Access":
    """What opens the files of a folder's scenes: signed as their catalog says."""
    from geossl_data.scenes.opening.access import Access
    from geossl_data.scenes.opening.signing import Signer
    from geossl_data.scenes.store import provider_of

    base = str(tables.read_metadata(folder / SCENES).get("base", ""))
    return Access(Signer(provider_of(folder / SCENES).tokens), base=base)


def per_split(splits: Mapping[Split, int]) -> str:
    return " / ".join(str(splits[split]) for split in SPLITS)
