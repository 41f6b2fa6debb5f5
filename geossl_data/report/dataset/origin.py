"""Where a dataset comes from: catalog, collections, products, how it was made, its licence and its recipe."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geossl_data import tables
from geossl_data.errors import DatasetError, first_line
from geossl_data.recipe import RECIPE_NAME
from geossl_data.report.dataset.contents import PAIRS, PLACES, SAMPLES, SCENES, some_columns
from geossl_data.report.dataset.recorded import Recorded
from geossl_data.report.page import Part, Section
from geossl_data.report.parts import Table, Text
from geossl_data.scenes.redaction import redact_text
from geossl_data.shards.manifest import LICENCE_NAME, MANIFEST_NAME

MOST_BYTES = 1 << 20
"""Of a text that is shown as it is; a recipe has ten thousand."""
_VERSION = re.compile(r"^geossl: *['\"]?([\w.+-]{1,40})", re.MULTILINE)
_STAGES = (
    ("geossl sample --anywhere", PLACES, "places"),
    ("geossl fetch", SCENES, "scenes"),
    ("geossl fetch", PAIRS, "pairs"),
    ("geossl sample", SAMPLES, "places"),
    ("geossl shard", MANIFEST_NAME, "samples"),
)


def version_of(folder: Path) -> str | None:
    """The version of geossl that wrote the recipe; None where there is no recipe, or it does not say."""
    found = _VERSION.search(text_of(folder / RECIPE_NAME))
    return f"geossl {found[1]}" if found else None


def origin_section(folder: Path, recorded: Recorded) -> list[Section]:
    """Catalog, collections, products, and the tables that each stage made; [] where nothing is known of it."""
    notes = tables.read_metadata(folder / SCENES)
    facts = {
        "catalog": _catalog(notes),
        "search": notes.get("query"),
        "collections": ", ".join(_collections(folder, recorded)),
        "Sentinel-1 product": _listed(one.s1.product for one in recorded.looks),
        "Sentinel-2 baselines": _listed(one.s2.baseline for one in recorded.looks),
        "platforms": _listed(platform for one in recorded.looks for platform in (one.s2.platform, one.s1.platform)),
    }
    shown: dict[str, object] = {name: redact_text(str(value)) for name, value in facts.items() if value}
    lineage = [
        (
            stage,
            name,
            f"{_n_rows(folder / name):,} {what}",
            str(tables.read_metadata(folder / name).get("fingerprint", "")),
        )
        for stage, name, what in _STAGES
        if (folder / name).is_file()
    ]
    if not shown and not lineage:
        return []
    head = ("made by", "file", "holds", "fingerprint of options and input")
    table = Table(rows=[head, *lineage], caption="How it was made, in order.", words=True)
    return [Section(title="Provenance", facts=shown, parts=(table,))]


def _catalog(notes: dict[str, Any]) -> str | None:
    """Name and address of the catalog that was searched; the folder of one of files is nobody's business."""
    name, url = notes.get("provider"), notes.get("catalog")
    if not isinstance(name, str):
        return None
    # Redacted by itself: a query runs on to the next space.
    return f"{name} ({redact_text(url)})" if isinstance(url, str) else name


def _collections(folder: Path, recorded: Recorded) -> list[str]:
    """The collections of the scenes that were found with their counts, else of the looks."""
    if (folder / SCENES).is_file():
        table = some_columns(folder / SCENES, ["collection"])
        counts = Counter(map(str, table["collection"].to_pylist())) if table.column_names else Counter()
        return [f"{name} ({count:,} scenes)" for name, count in sorted(counts.items())]
    names = {name for one in recorded.looks for name in (one.s2.collection, one.s1.collection) if name}
    return sorted(names)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted({name for name in names if name}))


def _n_rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not a readable Parquet table: {first_line(error)}") from None


def text_sections(folder: Path) -> list[Section]:
    """The licence notice and the recipe, folded; those that are there."""
    found: list[Section] = []
    for name, title in ((LICENCE_NAME, "Licence notice"), (RECIPE_NAME, "Recipe")):
        text = redact_text(text_of(folder / name))
        if text:
            parts: tuple[Part, ...] = (Text(text=text, plain=True),)
            found.append(Section(title=title, parts=parts, folded=name == RECIPE_NAME))
    return found


def text_of(path: Path) -> str:
    """A text file's first MOST_BYTES as text, whatever they are; empty where there is no such file."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
