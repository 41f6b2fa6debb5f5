"""What a shard holds, and what the manifest says of all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geossl_data.bands import MEMBERS, Member
from geossl_data.errors import ShardError
from geossl_data.records import Skipped
from geossl_data.shards.manifest import Entry, member_note
from geossl_data.shards.writing.statistics import Sums, merge_sums, statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """What one shard holds now."""

    name: str
    entries: tuple[Entry, ...]
    skipped: tuple[Skipped, ...]
    nbytes: int
    """Size of the tar; 0 where every sample was skipped and there is none."""
    sha256: str
    sums: Sums
    """Sums over the valid pixels of all its looks."""
    years: tuple[int, ...] = ()
    """In which the Sentinel scenes were acquired that the pixels come from."""

    @property
    def file_name(self) -> str:
        """The tar's name inside the shards folder."""
        return f"{self.name}.tar"


def manifest_notes(
    reports: Sequence[ShardReport],
    *,
    fingerprint: str,
    codec: str,
    members: Mapping[str, Member] = MEMBERS,
    pixel_m: float | None = 10.0,
    label_names: Mapping[str, str] | None = None,
    buffer_km: float = 0.0,
) -> dict[str, Any]:
    """The notes of the manifest for what the reports say was written; see `manifest.Manifest`.

    Statistics are over the training split. members: those that looks may have. pixel_m: side of a place's pixel in
    metres, None for pixels that lie nowhere. buffer_km: least distance between splits that the places were drawn with.
    Raises ShardError when nothing was written.
    """
    written = [report for report in reports if report.entries]
    entries = [entry for report in written for entry in report.entries]
    if not entries:
        raise ShardError("no sample was written; see skipped.parquet for the reasons")
    present = {name for entry in entries for names in entry.members for name in names}
    training = [report.sums for report in written if report.entries[0].split == "train"]
    return {
        "codec": codec,
        "size_px": entries[0].size_px,
        "fingerprint": fingerprint,
        "pixel_m": pixel_m,
        "members": [member_note(member) for name, member in members.items() if name in present],
        "statistics": statistics(merge_sums(training)),
        "label_names": dict(label_names or {}),
        "buffer_km": buffer_km,
        "shards": {
            report.file_name: {
                "nbytes": report.nbytes,
                "sha256": report.sha256,
                "n_samples": len(report.entries),
            }
            for report in written
        },
        "years": sorted({year for report in written for year in report.years}),
        "n_skipped": sum(len(report.skipped) for report in reports),
    }
