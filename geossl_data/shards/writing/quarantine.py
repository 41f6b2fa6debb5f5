"""Samples over which processes die: found one by one, remembered, and left out, so that the rest completes.

What is known of a shard's samples is one file in the journal's folder, written before each sample is tried. Whoever
tries next, in another process, finds there which one the last process did not survive.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from geossl_data.errors import GeosslError, ShardError, StorageError, TokenError
from geossl_data.files import from_json
from geossl_data.records import Skipped
from geossl_data.shards.writing.attempts import write_note
from geossl_data.shards.writing.journal import JOURNAL_FOLDER
from geossl_data.shards.writing.plan import ShardPlan

DEATHS = 2
"""So many processes have to die over a sample, each of them building nothing else, before it is left out."""
MOST_IN_A_ROW = 5
"""More samples that kill, without one between them that does not, and it is not the samples."""

Factory = Callable[[list[Any]], AbstractContextManager[Callable[[Any], Any]]]


def quarantined(folder: Path, plan: ShardPlan, fingerprint: str) -> dict[str, int]:
    """Key → how many processes died over it, of the samples of a shard that must not be built any more."""
    known = _read(folder, plan, fingerprint)
    return {key: count for key, count in known["deaths"].items() if count >= DEATHS}


def quarantine_row(key: str, count: int) -> Skipped:
    """How a sample that is left out for it is told in `skipped.parquet`."""
    detail = f"{key}: {count} worker processes died while they built nothing but this sample"
    return Skipped(stage="shard", id=key, reason="quarantined", detail=detail)


def probe(folder: Path, plan: ShardPlan, fingerprint: str, build_factory: Factory) -> None:
    """Build every sample of a shard by itself and drop it, noting before each which one it is.

    Call it again, in another process, when it does not come back: it goes on behind the sample that it died over,
    after as many deaths as it takes. Raises ShardError when MOST_IN_A_ROW samples in a row are of that kind, and
    forgets them then.
    """
    known = _read(folder, plan, fingerprint)
    path = _path(folder, plan)
    if known["at"] is not None:
        known["deaths"][known["at"]] = known["deaths"].get(known["at"], 0) + 1
        known["at"] = None
    for sample in plan.samples:
        _require_some_sound(known, path, plan)
        if sample.key in known["sound"] or known["deaths"].get(sample.key, 0) >= DEATHS:
            continue
        known["at"] = sample.key
        write_note(path, known)
        _try(build_factory, sample)
        known["sound"].append(sample.key)
    killers = {key: count for key, count in known["deaths"].items() if count >= DEATHS}
    write_note(path, known | {"at": None, "sound": [], "deaths": killers})
    if not killers:
        path.unlink(missing_ok=True)


def probed(folder: Path, plan: ShardPlan, fingerprint: str) -> tuple[int, int, str | None]:
    """How far probing is: how many samples are sound, how many deaths there were, and which sample is being tried."""
    known = _read(folder, plan, fingerprint)
    return len(known["sound"]), sum(known["deaths"].values()), known["at"]


def stop_probing(folder: Path, plan: ShardPlan, fingerprint: str) -> None:
    """The process that probed was ended by us: what it was trying is not to blame."""
    known = _read(folder, plan, fingerprint)
    if known["at"] is not None:
        write_note(_path(folder, plan), known | {"at": None})


def _try(build_factory: Factory, sample: Any) -> None:
    try:
        with build_factory([sample]) as build:
            build(sample)
    except (StorageError, TokenError):
        raise
    except (GeosslError, OSError):
        # It comes to the same when the shard is written, and is noted there.
        return


def _require_some_sound(known: dict[str, Any], path: Path, plan: ShardPlan) -> None:
    """Raises ShardError when the last samples that were tried all killed their process."""
    in_a_row = 0
    for sample in plan.samples:
        in_a_row = in_a_row + 1 if known["deaths"].get(sample.key, 0) >= DEATHS else 0
        if in_a_row >= MOST_IN_A_ROW:
            with suppress(FileNotFoundError):
                path.unlink()
            raise ShardError(
                f"{plan.name}: worker processes died over each of {in_a_row} samples in a row, often for want of "
                "memory; use fewer workers, or look at what the system says of the deaths"
            )


def _path(folder: Path, plan: ShardPlan) -> Path:
    return folder / JOURNAL_FOLDER / f"{plan.name}.quarantine"


def _read(folder: Path, plan: ShardPlan, fingerprint: str) -> dict[str, Any]:
    """What is known of the samples of a shard: deaths by key, keys that are sound, and the one being tried."""
    nothing: dict[str, Any] = {"plan": plan.digest, "fingerprint": fingerprint, "deaths": {}, "sound": [], "at": None}
    try:
        found = from_json(_path(folder, plan).read_text(encoding="utf-8"))
        if (found["plan"], found["fingerprint"]) != (plan.digest, fingerprint):
            return nothing
        deaths = {str(key): int(count) for key, count in found["deaths"].items()}
        at = found["at"] if isinstance(found["at"], str) else None
        return nothing | {"deaths": deaths, "sound": list(map(str, found["sound"])), "at": at}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return nothing
