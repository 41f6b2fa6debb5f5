"""One place of a dataset folder as an xarray Dataset, from its shards or straight from the rasters."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from geossl_data import tables
from geossl_data.bands import LABEL_BAND, LABEL_NODATA
from geossl_data.errors import DatasetError, ShardError
from geossl_data.pipeline._folder import MANIFEST, SAMPLES, SCENES, SKIPPED, access_to, need
from geossl_data.records import Look, Place, Sample, Skipped

if TYPE_CHECKING:
    from xarray import Dataset

    from geossl_data.scenes.items import Item
    from geossl_data.shards.manifest import Entry, Manifest
    from geossl_data.tiles.build import Tile

Source = Literal["auto", "shards", "rasters"]


def open_sample(
    folder: Path | str, key: str | int = 0, *, resolution_m: int = 10, source: Source = "auto"
) -> "Dataset":
    """All looks of a sample as an xarray Dataset with dimensions (time, y, x); see `tiles.datasets.to_dataset`.

    key: a sample's key, or its position in samples.parquet (in the manifest where a folder holds shards alone).
    source: `shards`; `rasters`, the files that the scenes name, whatever share of the looks is valid; or `auto`, the
    shards where the sample is written there, else the rasters. Both show the same looks with the same values.
    Raises DatasetError for a folder, sample or source that is not there, ShardError for damaged shards, and ReadError
    (SkipError among them) for pixels that cannot be had.
    """
    return _opened(Path(folder), key, None, resolution_m, source)


def open_look(
    folder: Path | str, key: str | int = 0, look: int = 0, *, resolution_m: int = 10, source: Source = "auto"
) -> "Dataset":
    """One look of a sample as an xarray Dataset with dimensions (y, x); the pixels of no other look are read.

    look: its position in time order. The rest is as in `open_sample`; DatasetError where the sample has no such look.
    """
    return _opened(Path(folder), key, look, resolution_m, source).isel(time=0)


def _opened(folder: Path, key: str | int, look: int | None, resolution_m: int, source: Source) -> "Dataset":
    from geossl_data.tiles.datasets import to_dataset

    if source not in get_args(Source):
        raise DatasetError(f"source {source!r} is not one of {', '.join(get_args(Source))}")
    sample, manifest = _found(folder, key)
    if look is not None and not 0 <= look < len(sample.looks):
        raise DatasetError(f"{folder}: sample {sample.key} has no look {look}; it has {len(sample.looks)}, from 0 on")
    positions = range(len(sample.looks)) if look is None else (look,)
    if manifest is not None and source != "rasters":
        tile, names = _from_shards(folder, sample, manifest, positions)
    elif source == "shards":
        raise DatasetError(f"{folder}: the shards do not hold sample {sample.key} {_why(folder, sample.key)}")
    else:
        tile, names = _from_rasters(folder, sample, positions)
    return to_dataset(tile, resolution_m=resolution_m, label_names=names)


def _found(folder: Path, key: str | int) -> "tuple[Sample, Manifest | None]":
    """A sample as the shards hold it, with the manifest of that one sample; else as it was drawn, and None."""
    from geossl_data.shards.manifest import read_manifest

    is_drawn = (folder / SAMPLES).exists() or not (folder / MANIFEST).exists()
    need(folder, SAMPLES if is_drawn else MANIFEST, stage="sample")
    key, row = _row(folder / SAMPLES, "key", key) if is_drawn else _row(folder / MANIFEST, "id", key)
    manifest = read_manifest(folder / MANIFEST, key=key) if (folder / MANIFEST).exists() else None
    written = None if manifest is None or not manifest.entries else _sample_of(manifest.entries[0])
    if not is_drawn:
        assert written is not None
        return written, manifest
    (drawn,) = tables.read_table(folder / SAMPLES, Sample, rows=[row])
    return (written, manifest) if written is not None and _stands_for(written, drawn) else (drawn, None)


def _row(path: Path, column: str, key: str | int) -> tuple[str, int]:
    """Key and position of a sample given by either; DatasetError where the table has no such sample."""
    import pyarrow.compute as pc

    keys = tables.open_parquet(path, columns=[column])[column]
    row = int(pc.index(keys, key).as_py()) if isinstance(key, str) else index(key)
    if not 0 <= row < len(keys):
        raise DatasetError(f"{path}: no sample {str(key)[:130]!r} among {len(keys)}; give a key of it or a position")
    return str(keys[row]), row


def _stands_for(written: Sample, drawn: Sample) -> bool:
    """Whether shards hold a sample as it is drawn: its ground, and each look or one of the spares for it.

    Shards cut before the places were drawn anew may hold other looks under the same key.
    """
    one, other = written.place, drawn.place
    if (one.epsg, one.x, one.y, one.size_px) != (other.epsg, other.x, other.y, other.size_px):
        return False
    if len(written.looks) != len(drawn.looks):
        return False
    spares = drawn.spares or ((),) * len(drawn.looks)
    return all(
        any((look.s2_ids, look.s1_ids) == (choice.s2_ids, choice.s1_ids) for choice in (first, *others))
        for look, first, others in zip(written.looks, drawn.looks, spares, strict=True)
    )


def _sample_of(entry: "Entry") -> Sample:
    """The sample that an entry of the manifest describes, without spares; DatasetError for one that is no place."""
    if entry.lon is None or entry.lat is None or entry.epsg is None or entry.x is None or entry.y is None:
        raise DatasetError(f"sample {entry.key} lies nowhere on the Earth; read it with geossl_data.open_shards")
    nothing: tuple[tuple[str, ...], ...] = ((),) * entry.n_looks
    looks = zip(
        entry.s2_ids,
        entry.s1_ids,
        entry.acquired,
        entry.gap_hours,
        entry.s2_more or nothing,
        entry.s1_more or nothing,
        strict=True,
    )
    return Sample(
        key=entry.key,
        place=Place(
            lon=entry.lon,
            lat=entry.lat,
            epsg=entry.epsg,
            x=entry.x,
            y=entry.y,
            size_px=entry.size_px,
            cell=entry.cell,
        ),
        looks=tuple(
            Look(s2_id=s2, s1_id=s1, acquired=time, gap_hours=gap or 0.0, s2_more=s2_more, s1_more=s1_more)
            for s2, s1, time, gap, s2_more, s1_more in looks
        ),
        stratum=entry.stratum,
        weight=entry.weight,
        inclusion_probability=entry.inclusion_probability,
        split=entry.split,
        block=entry.block,
        drawn_by=entry.drawn_by or "",
        change_score=entry.change_score,
        change_score_s2=entry.change_score_s2,
        change_score_s1=entry.change_score_s1,
        spectral_entropy=entry.spectral_entropy,
    )


def _from_shards(
    folder: Path, sample: Sample, manifest: "Manifest", positions: Sequence[int]
) -> "tuple[Tile, dict[str, str]]":
    """Some looks of a sample as its shard holds them, and the names of the land classes."""
    from geossl_data.shards.reading.shards import Shards, source_of
    from geossl_data.tiles.build import Tile, TileLook

    with Shards(source_of(folder, manifest), manifest) as shards:
        (entry,) = shards.entries
        described = shards.meta(0).get("looks")
        if not isinstance(described, list) or not _describes(described, entry.n_looks):
            raise ShardError(f"{folder}: {entry.key}.json does not describe its looks; run `geossl verify`")
        looks = tuple(
            TileLook(
                members={
                    name: shards.members[name].physical(array) for name, array in shards.read(0, position).items()
                },
                meta={name: value for name, value in described[position].items() if name not in ("index", "members")},
            )
            for position in positions
        )
    return Tile(sample=_with_looks(sample, positions), looks=looks), manifest.notes["label_names"]


def _describes(looks: list[Any], count: int) -> bool:
    return len(looks) == count and all(isinstance(look, dict) and isinstance(look.get("s2"), dict) for look in looks)


def _with_looks(sample: Sample, positions: Sequence[int]) -> Sample:
    return replace(sample, looks=tuple(sample.looks[position] for position in positions), spares=())


def _from_rasters(folder: Path, sample: Sample, positions: Sequence[int]) -> "tuple[Tile, dict[str, str]]":
    """Some looks of a sample cut from their scenes, and the names of the land classes."""
    from geossl_data.scenes.scene import scene_from_item
    from geossl_data.scenes.store import provider_of
    from geossl_data.tiles.build import build_tile
    from geossl_data.tiles.rasters import Rasters

    need(folder, SCENES, stage="fetch")
    chosen = _with_looks(sample, positions)
    items = _items(folder / SCENES, {name for look in chosen.looks for name in (*look.s2_ids, *look.s1_ids)})
    provider, base = provider_of(folder / SCENES), str(tables.read_metadata(folder / SCENES).get("base", ""))
    scenes = [scene_from_item(item, provider, base) for item in items]
    with Rasters(access=access_to(folder)) as rasters:
        tile = build_tile(
            chosen,
            {scene.id: scene for scene in scenes},
            [scene for scene in scenes if scene.sensor == "label"],
            rasters,
            min_valid=0.0,
        )
    return tile, label_names(items)


def _items(path: Path, ids: Collection[str]) -> "list[Item]":
    """The items of these ids, and the land-class maps, which a look finds by its time and ground.

    The others are not parsed, which takes a millisecond each: a table may hold many thousand.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from geossl_data.scenes.items import items_of
    from geossl_data.scenes.store import provider_of

    table = tables.open_parquet(path)
    if not {"id", "collection", "assets"} <= set(table.column_names):
        raise DatasetError(f"{path}: not a table of scenes; run `geossl fetch --fresh`")
    maps = [name for name, product in provider_of(path).collections.items() if product == "class"]
    wanted = pc.or_(_is_among(table["id"], ids), _is_among(table["collection"], maps))
    assets = table["assets"]
    if pa.types.is_struct(assets.type) and assets.type.get_field_index(LABEL_BAND) >= 0:
        wanted = pc.or_(wanted, pc.is_valid(pc.struct_field(assets, LABEL_BAND)))
    return items_of(table.filter(wanted), str(path))


def _is_among(column: Any, values: Collection[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(column, value_set=pa.array(sorted(values), column.type))


def label_names(items: "Iterable[Item]") -> dict[str, str]:
    """Class value → name, from the classification extension of the land-class maps among the items."""
    classes = [
        entry for item in items for entry in item["assets"].get(LABEL_BAND, {}).get("classification:classes") or []
    ]
    return {str(entry["value"]): entry["name"] for entry in classes if entry["value"] != LABEL_NODATA}


def _why(folder: Path, key: str) -> str:
    """Why shards lack a sample, and what to do: what follows its key in the message."""
    rows = tables.read_table(folder / SKIPPED, Skipped) if (folder / SKIPPED).is_file() else []
    found = next((row for row in rows if row.stage == "shard" and row.id == key), None)
    return "as it is drawn now; run `geossl shard`" if found is None else f"({found.reason}: {found.detail})"
