"""The page of a dataset folder: every section for which the folder holds something."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from geossl_data import tables
from geossl_data.errors import GeosslError
from geossl_data.progress import Progress, silent
from geossl_data.report.dataset import bands, checks, distributions, given_up, ground, origin, overview, samples
from geossl_data.report.dataset.contents import PAIRS, SAMPLES, Contents, contents_of
from geossl_data.report.dataset.recorded import Recorded, recorded_in, recorded_of
from geossl_data.report.page import Section, page

if TYPE_CHECKING:
    from geossl_data.shards.checking.findings import Finding
    from geossl_data.shards.reading.shards import Shards

MOST_BYTES = 5_000_000
"""Of a page: what a phone loads at once."""
MOST_PICTURES = 2_600_000
"""Bytes of the gallery, as base64."""
MOST_RUNS = 2_000_000
"""Bytes of what is shown of runs."""
LEAST_PICTURES = 300_000
"""Which it gets whatever else the page holds."""


def sections_of(
    folder: Path,
    *,
    places: int = 24,
    runs: bool = True,
    seed: int = 0,
    findings: "Sequence[Finding] | None" = None,
    shards: bool = True,
    progress: Progress = silent,
) -> list[Section]:
    """What there is to show of a folder, in the order in which to show it; [] for a folder without places or pairs.

    places: most places whose looks are shown as pictures. runs: whether trained and judged encoders are shown, which
    takes torch to show in full. seed: of all that is drawn by chance. findings: what `shards.verify` found; None holds
    the rows of the manifest against each other instead. shards: False leaves out all that the shards hold, and so every
    pixel. Raises DatasetError or ShardError in one line for a damaged table; shards that cannot be read are said.
    """
    contents = contents_of(folder, shards=shards)
    if contents is None and not (folder / PAIRS).is_file():
        return []
    with ExitStack() as stack:
        opened, problem = _opened(folder, contents)
        if opened is not None:
            stack.enter_context(opened)
        recorded = _recorded(folder, contents, opened, seed, progress)
        head = [overview.overview(folder, contents, {} if opened is None else opened.members)]
        tail: list[Section] = []
        if contents is not None and len(contents):
            head += ground.map_section(contents)
            tail += distributions.distribution_sections(contents, recorded)
            tail += [] if opened is None else bands.band_sections(opened, contents, seed=seed, progress=progress)
            tail += ground.strata_section(contents, _draw(folder, contents))
            tail += ground.splits_section(contents)
            tail += _checked(folder, contents, opened, findings, problem) if contents.is_written else []
            tail += checks.worst_section(contents, recorded)
        tail += given_up.pairs_section(folder)
        tail += given_up.given_up_section(folder)
        tail += _runs(folder, seed, progress) if runs else []
        tail += origin.origin_section(folder, recorded)
        tail += origin.text_sections(folder)
        shown = _pictures(opened, contents, places, seed, [*head, *tail], progress)
    return [*head, *shown, *tail]


def _opened(folder: Path, contents: Contents | None) -> "tuple[Shards | None, str]":
    """The shards of a folder whose places they hold, or why they cannot be opened."""
    from geossl_data.shards.reading.shards import open_shards

    if contents is None or not contents.is_written:
        return None, ""
    try:
        return open_shards(folder), ""
    except GeosslError as error:
        return None, str(error)


def _recorded(
    folder: Path, contents: Contents | None, opened: "Shards | None", seed: int, progress: Progress
) -> Recorded:
    if contents is None:
        return Recorded(looks=(), n_samples=0)
    if opened is not None:
        return recorded_in(opened, contents, seed=seed, progress=progress)
    return recorded_of(folder, contents)


def _draw(folder: Path, contents: Contents) -> dict[str, object]:
    """What the draw noted of the places: those of the folder, where they are still those that are shown."""
    if contents.is_written and (folder / SAMPLES).is_file():
        return tables.read_metadata(folder / SAMPLES)
    return {} if contents.is_written else dict(contents.notes)


def _checked(
    folder: Path, contents: Contents, opened: "Shards | None", findings: "Sequence[Finding] | None", problem: str
) -> list[Section]:
    found = checks.findings_of_rows(folder, contents) if findings is None else findings
    twice = None if opened is None else checks.stored_twice(opened, contents)
    return [checks.checks_section(contents, found, twice, read_shards=findings is not None, problem=problem)]


def _runs(folder: Path, seed: int, progress: Progress) -> list[Section]:
    """The sections of the runs, as many as the page has room for; those that are left out are named."""
    from geossl_data.report.runs import run_sections

    sections = run_sections(folder, seed=seed, progress=progress)
    kept: list[Section] = []
    taken = 0
    for section in sections:
        taken += sum(len(part.html("size").encode()) for part in section.parts)
        if kept and taken > MOST_RUNS:
            break
        kept.append(section)
    left_out = [section.title for section in sections[len(kept) :]]
    if left_out:
        text = f"Left out, so that the page stays small: {', '.join(left_out)}. Their numbers are in their own folders."
        kept.append(Section(title="Further runs", text=text))
    return kept


def _pictures(
    opened: "Shards | None",
    contents: Contents | None,
    places: int,
    seed: int,
    others: Sequence[Section],
    progress: Progress,
) -> list[Section]:
    """The gallery and the least and most changed places, in what room the other sections leave."""
    if opened is None or contents is None or places < 1:
        return []
    changed = samples.changed_section(opened, contents, progress=progress)
    left = MOST_BYTES - len(page([*others, *changed], title="").encode())
    room = min(max(9 * left // 10, LEAST_PICTURES), MOST_PICTURES)
    gallery = samples.gallery_section(opened, contents, places=places, nbytes=room, seed=seed, progress=progress)
    return [*gallery, *changed]
