"""What stands already: one entry per finished shard, so that a run that was cut off does only what is missing.

An entry is written after its shard, and says what the shard was planned from, what it holds and how its bytes hash.
Where the shards lie in an object store, their entries lie there too, so that another machine can go on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from geossl_data.errors import ShardError
from geossl_data.files import from_json, remove_temporaries, sha256, write_text
from geossl_data.records import Skipped
from geossl_data.shards.manifest import SHARD_PATTERN, from_plain, to_plain
from geossl_data.shards.store import Store
from geossl_data.shards.writing.plan import ShardPlan
from geossl_data.shards.writing.report import ShardReport

JOURNAL_FOLDER = ".journal"


def write_journal(
    report: ShardReport, plan: ShardPlan, folder: Path, *, fingerprint: str, store: Store | None = None
) -> None:
    """Write the entry of a shard in `folder` that was just written from `plan`, atomically.

    store: where the shard lies instead; its entry is put there as well.
    Raises StorageError when the disk is full or the folder is not writable, ShardError when the store refuses.
    """
    content = {
        "plan": plan.digest,
        "fingerprint": fingerprint,
        "entries": [to_plain(entry) for entry in report.entries],
        "skipped": [asdict(row) for row in report.skipped],
        "nbytes": report.nbytes,
        "sha256": report.sha256,
        "sums": {band: list(values) for band, values in report.sums.items()},
        "years": list(report.years),
        **({} if store is None else {"location": store.url}),
    }
    text = json.dumps(content, sort_keys=True, allow_nan=False) + "\n"
    write_text(folder / _name(plan), text)
    if store is not None:
        store.put(_name(plan), text.encode())


def _name(plan: ShardPlan) -> str:
    return f"{JOURNAL_FOLDER}/{plan.name}.json"


def finished(
    folder: Path,
    plan: ShardPlan,
    fingerprint: str,
    *,
    store: Store | None = None,
    sizes: Mapping[str, int] | None = None,
) -> ShardReport | None:
    """The report of a shard that stands finished, or None where it has to be written (again).

    Finished means: its journal is of this plan and fingerprint, and the tar has the size and hash written there. Of a
    tar in an object store, which keeps no half ones, the size is looked at: sizes, as `Store.sizes` gives them.
    """
    path = folder / f"{plan.name}.tar"
    try:
        content = from_json((folder / _name(plan)).read_text(encoding="utf-8"))
        described = (content["plan"], content["fingerprint"], content.get("location"))
        if described != (plan.digest, fingerprint, None if store is None else store.url):
            return None
        report = ShardReport(
            name=plan.name,
            entries=tuple(from_plain(row) for row in content["entries"]),
            skipped=tuple(Skipped(**row) for row in content["skipped"]),
            nbytes=int(content["nbytes"]),
            sha256=str(content["sha256"]),
            sums={band: (int(n), float(first), float(second)) for band, (n, first, second) in content["sums"].items()},
            years=tuple(map(int, content["years"])),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, ShardError):
        return None
    if store is not None:
        found = store.sizes() if sizes is None else sizes
        return report if found.get(path.name, 0) == report.nbytes else None
    if not report.entries:
        return None if path.exists() else report
    if not path.is_file() or path.stat().st_size != report.nbytes or sha256(path) != report.sha256:
        return None
    return report


def exchange_journals(folder: Path, plans: Sequence[ShardPlan], store: Store, sizes: Mapping[str, int]) -> None:
    """Entries of these shards that only the store has come into `folder`, those that only `folder` has into the store.

    sizes: what the store holds, as `Store.sizes` gives it.
    """
    for plan in plans:
        name = _name(plan)
        path = folder / name
        if not path.is_file() and name in sizes:
            write_text(path, store.read_all(name).decode(errors="replace"))
        elif path.is_file() and name not in sizes and plan.name + ".tar" in sizes:
            store.put(name, path)


def located(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """URL of an object store → name and size of the shards that the journal in `folder` says were put there."""
    found: dict[str, list[tuple[str, int]]] = {}
    for path in sorted((folder / JOURNAL_FOLDER).glob("*.json")):
        try:
            content = from_json(path.read_text(encoding="utf-8"))
            location, nbytes = content["location"], int(content["nbytes"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            continue
        if isinstance(location, str):
            found.setdefault(location, []).append((f"{path.stem}.tar", nbytes))
    return found


def remove_foreign(folder: Path, plans: Sequence[ShardPlan]) -> None:
    """Delete what an earlier, differently planned or interrupted run left in the shards folder."""
    names = {plan.name for plan in plans}
    remove_unfinished(folder)
    for path in (*folder.glob("*.tar"), *(folder / JOURNAL_FOLDER).glob("*")):
        if SHARD_PATTERN.fullmatch(f"{path.stem}.tar") and path.stem not in names:
            path.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete the temporary files of killed processes in the shards folder; call it while nobody writes there."""
    remove_temporaries(folder)
    remove_temporaries(folder / JOURNAL_FOLDER)
