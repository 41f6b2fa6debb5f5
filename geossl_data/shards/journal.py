"""What stands already: one entry per finished shard, so that a run that was cut off does only what is missing.

An entry is written after its shard, and says what the shard was planned from, what it holds and how its bytes hash.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from geossl_data.errors import ShardError
from geossl_data.files import remove_temporaries, sha256, write_text
from geossl_data.records import Skipped
from geossl_data.shards.manifest import SHARD_PATTERN, from_plain, to_plain
from geossl_data.shards.plan import ShardPlan
from geossl_data.shards.report import ShardReport

JOURNAL_FOLDER = ".journal"


def write_journal(report: ShardReport, plan: ShardPlan, folder: Path, *, fingerprint: str) -> None:
    """Write the entry of a shard in `folder` that was just written from `plan`, atomically.

    Raises StorageError when the disk is full or the folder is not writable.
    """
    content = {
        "plan": plan.digest,
        "fingerprint": fingerprint,
        "entries": [to_plain(entry) for entry in report.entries],
        "skipped": [asdict(row) for row in report.skipped],
        "nbytes": report.nbytes,
        "sha256": report.sha256,
        "sums": {band: list(values) for band, values in report.sums.items()},
    }
    write_text(_path(folder, plan), json.dumps(content, sort_keys=True, allow_nan=False) + "\n")


def _path(folder: Path, plan: ShardPlan) -> Path:
    return folder / JOURNAL_FOLDER / f"{plan.name}.json"


def finished(folder: Path, plan: ShardPlan, fingerprint: str) -> ShardReport | None:
    """The report of a shard that stands finished, or None where it has to be written (again).

    Finished means: its journal is of this plan and fingerprint, and the tar has the size and hash written there.
    """
    path = folder / f"{plan.name}.tar"
    try:
        content = json.loads(_path(folder, plan).read_text(encoding="utf-8"))
        if (content["plan"], content["fingerprint"]) != (plan.digest, fingerprint):
            return None
        report = ShardReport(
            name=plan.name,
            entries=tuple(from_plain(row) for row in content["entries"]),
            skipped=tuple(Skipped(**row) for row in content["skipped"]),
            nbytes=int(content["nbytes"]),
            sha256=str(content["sha256"]),
            sums={band: (int(n), float(first), float(second)) for band, (n, first, second) in content["sums"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ShardError):
        return None
    if not report.entries:
        return None if path.exists() else report
    if not path.is_file() or path.stat().st_size != report.nbytes or sha256(path) != report.sha256:
        return None
    return report


def remove_foreign(folder: Path, plans: Sequence[ShardPlan]) -> None:
    """Delete what an earlier, differently planned or interrupted run left in the shards folder."""
    names = {plan.name for plan in plans}
    remove_unfinished(folder)
    for path in (*folder.glob("*.tar"), *(folder / JOURNAL_FOLDER).glob("*.json")):
        if SHARD_PATTERN.fullmatch(f"{path.stem}.tar") and path.stem not in names:
            path.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files of killed processes in the shards folder; call it while nobody writes there."""
    remove_temporaries(folder)
    remove_temporaries(folder / JOURNAL_FOLDER)
