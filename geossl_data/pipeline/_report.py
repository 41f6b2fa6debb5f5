"""The page about a dataset folder: report.html, which opens anywhere."""

from pathlib import Path
from typing import TYPE_CHECKING

from geossl_data import tables
from geossl_data.errors import DatasetError
from geossl_data.pipeline._check import verify
from geossl_data.pipeline._folder import MANIFEST, Report, need
from geossl_data.progress import Progress, silent

if TYPE_CHECKING:
    from geossl_data.report.page import Section
    from geossl_data.shards.checking.findings import Finding

MOST_VERIFIED_BYTES = 2_000_000_000
"""Of shards that are all read for the page; of more, and of those in an object store, the manifest alone is checked."""


def report(folder: Path, *, places: int = 24, progress: Progress = silent) -> Report:
    """Write report.html, a page that shows what a folder holds, whatever of it is there yet; whole or not at all.

    places: most places whose looks are shown as pictures. Nothing but the page is changed, and caches of features; the
    folder may be worked on meanwhile. Raises DatasetError for a folder that holds neither pairs nor places.
    """
    from geossl_data.report.build import sections_of
    from geossl_data.report.page import REPORT_NAME
    from geossl_data.report.parts import Gallery

    need(folder, stage="fetch")
    sections = sections_of(folder, places=places, findings=_findings(folder, progress), progress=progress)
    if not sections:
        raise DatasetError(f"{folder}: neither pairs nor places to show; start with `geossl fetch`")
    path = folder / REPORT_NAME
    _write(folder, sections)
    shown = [part for section in sections for part in section.parts if isinstance(part, Gallery)]
    return Report(
        stage="report",
        fresh=True,
        facts={
            "sections": len(sections),
            "places shown": len(shown[0].cards) if shown else 0,
            "MB": round(path.stat().st_size / 1e6, 1),
            "file": str(path),
        },
        hints=(f"open {path} in a browser",),
    )


def report_of_draw(folder: Path) -> None:
    """Write report.html of what is drawn: all that a page can say without a pixel."""
    from geossl_data.report.build import sections_of

    _write(folder, sections_of(folder, runs=False, shards=False))


def _write(folder: Path, sections: "list[Section]") -> None:
    from geossl_data.report.page import REPORT_NAME, write_report

    write_report(folder / REPORT_NAME, sections, title=folder.resolve().name)


def _findings(folder: Path, progress: Progress) -> "list[Finding] | None":
    """What is wrong with shards that are quickly read; None where they are too large for that, or elsewhere."""
    notes = tables.read_metadata(folder / MANIFEST)
    shards = notes.get("shards")
    if not isinstance(shards, dict) or "location" in notes:
        return None
    nbytes = sum(
        one["nbytes"] for one in shards.values() if isinstance(one, dict) and isinstance(one.get("nbytes"), int)
    )
    return verify(folder, progress=progress) if nbytes <= MOST_VERIFIED_BYTES else None
