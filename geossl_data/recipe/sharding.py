"""Options of storing samples, or rasters of one's own, as shards."""

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from geossl_data.recipe.section import Section

_STORE_URL = re.compile(r"(s3|gs|az|abfs)://[^/:?#\s]+(/[^?#\s]*)?")


def _store_url(value: str) -> str:
    if value and _STORE_URL.fullmatch(value) is None:
        # Not repeated: it may hold what it must not.
        raise ValueError("not the URL of an object store without credentials and query, as in s3://bucket/prefix")
    return value


def _bands(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if value and (not all(names) or len(set(names)) != len(names) or any(" " in name for name in names)):
        raise ValueError(f"{value!r} is not names of bands with commas between them, as in B04,B03,B02")
    return value


class ShardOptions(Section):
    name: ClassVar[str] = "shard"
    summary: ClassVar[str] = "Cut every look onto its pixel grid and store the samples as WebDataset shards."
    example: ClassVar[str] = "geossl shard mydata --workers 4"
    own: ClassVar[tuple[str, ...]] = ("rasters", "tile", "bands", "val", "test", "block_km", "seed")
    """Options that only a table of own rasters has a use for."""
    later: ClassVar[tuple[str, ...]] = ("max_cloud", "min_entropy", "output", "from_table", *own)

    codec: Literal["blosc", "npy", "archive"] = Field(
        "blosc",
        description="How arrays are stored, always without loss: blosc (Blosc chunks, LZ4), npy (plain NumPy files, "
        "1.4 times larger, read fastest), archive (Blosc chunks, zstd: a seventh smaller, slower to write and read).",
    )
    shard_mb: int = Field(256, ge=1, le=4096, description="Size that a shard is planned for, MB.")
    min_valid: float = Field(0.9, ge=0, le=1, description="Least share of valid pixels in every look, both sensors.")
    max_cloud: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Most cloud and cloud shadow in the window of every look, percent; left out: any. A look that "
        "fails this or the other demands is replaced by the next best pair.",
    )
    min_entropy: float | None = Field(
        None, ge=0, le=6, description="Least spectral entropy of every look, bits (0 to 6); left out: any."
    )
    output: Annotated[str, AfterValidator(_store_url)] = Field(
        "",
        description="URL of an object store below which the shards are put, as in s3://bucket/prefix, with credentials "
        "from the environment; left out: the dataset folder.",
    )
    from_table: str = Field(
        "",
        description="CSV file of your own rasters instead of samples of a catalog: columns place, time, sensor, path; "
        "maybe look (its number, where times differ or are not known), split, label (several with |), lon, lat, bands, "
        "scale, offset, units. Times without a zone are UTC. Or a folder with a folder of images for each class.",
    )
    rasters: str = Field(
        "", description="With --from-table: folder that its paths are relative to and stay in; left out: the table's."
    )
    tile: int = Field(
        0,
        ge=0,
        le=16_384,
        description="With --from-table: side of the squares that rasters are cut into, in pixels of the finest sensor; "
        "strips that hold no whole one are dropped. 0: rasters are squares already.",
    )
    bands: Annotated[str, AfterValidator(_bands)] = Field(
        "",
        description="With --from-table FOLDER: names of the bands of its images, as in B04,B03,B02; those of radar "
        "(VV, VH) make the sensor s1, all others s2. Left out: as the files say, or counted.",
    )
    val: float = Field(0.1, ge=0, lt=1, description="With --from-table: share of blocks, or places, for validation.")
    test: float = Field(0.2, ge=0, lt=1, description="With --from-table: share of blocks, or places, for testing.")
    block_km: float = Field(
        10.0, gt=0, le=1000, description="With --from-table: side of the blocks of ground that decide the split, km."
    )
    seed: int = Field(0, ge=0, description="With --from-table: seed of the splits and of the shuffle into shards.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError("val + test leave nothing to train on")
        what = "for scenes of a catalog" if self.from_table else "for --from-table"
        for name in ("max_cloud", "min_entropy") if self.from_table else self.own:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is {what} only")
        return self
