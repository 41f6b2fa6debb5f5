"""The card of an exported encoder: what a person has to know to use it, as Markdown with a YAML head."""

import json
import math

from geossl_data.bands import MEMBERS, Member
from geossl_data.pretrain.info import EncoderInfo

SENTINEL_PIXEL_M = 10.0
"""Side of a pixel of the finest members of Sentinel-1 and Sentinel-2."""
EXAMPLE_SIDE = 96
"""Side of the example's images, pixels, where the side of those that it was trained on is not known."""


def model_card(info: EncoderInfo, file_name: str, *, embedding_dim: int) -> str:
    """What the encoder in `file_name` is, sees and answers with; the code in it runs beside that file."""
    parts = (
        _head(info),
        f"# {info.sensor}: {info.encoder}, trained with {info.objective}",
        f"An encoder of {_listed(info.sensors)} images: {info.channels} bands in, {embedding_dim} numbers out for each "
        f"image. Written by geossl {info.geossl}.",
        _use(info, file_name, embedding_dim),
        _bands(info),
        _images(info),
        _training(info),
        _terms(info),
    )
    return "\n\n".join(parts) + "\n"


def _head(info: EncoderInfo) -> str:
    """The YAML head, in the part of YAML that is JSON."""
    tags = ["self-supervised-learning", "remote-sensing", *_missions(info), info.encoder, info.objective]
    entries = {"library_name": "geossl", "pipeline_tag": "image-feature-extraction", "tags": tags}
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in entries.items()), "---"])


def _use(info: EncoderInfo, file_name: str, embedding_dim: int) -> str:
    coarsest = math.lcm(*(member.factor for member in _members(info)))
    side = coarsest * max(1, math.ceil((info.crop or EXAMPLE_SIDE) * _finest(info) / coarsest))
    look = "\n".join(
        f"    {_quoted(member.name)}: np.ones({(1, *member.shape(side))}, dtype={_quoted(member.dtype)}),"
        for member in _members(info)
    )
    text = f"""## Use

```python
import geossl_data as gd
import numpy as np
import torch

encoder, info = gd.load_encoder({_quoted(file_name)})
look = {{  # the stored numbers of one look, as shards hold them
{look}
}}
with torch.inference_mode():
    embedding = encoder(*info.images(look))
assert embedding.shape == (1, {embedding_dim})
```

Loading needs torch and numpy. `info.standardised(images)` takes pixels from elsewhere: all bands, in the order and
units below, on one grid, NaN where there is no measurement."""
    if len(info.sensors) > 1:
        text += (
            f"\nWhere one sensor is all there is, `info.images(look, sensors=[{_quoted(info.sensors[0])}])` shows it "
            "alone;\nthe encoder is told which bands are missing."
        )
    return text


def _bands(info: EncoderInfo) -> str:
    rows = [
        "| | band | sensor | member | pixel | unit | wavelength µm | mean | std | clip |",
        "|-|-|-|-|-|-|-|-|-|-|",
    ]
    wavelengths = iter(info.bands.wavelengths_um)
    for entry in info.normalisations:
        numbers = iter(zip(entry.mean, entry.std, strict=True))
        for member in entry.members:
            for band in member.bands:
                mean, std = next(numbers)
                cells = (
                    len(rows) - 1,
                    band,
                    entry.sensor,
                    member.name,
                    _pixel(info, member),
                    member.units,
                    next(wavelengths) or "",
                    f"{mean:.6g}",
                    f"{std:.6g}",
                    f"± {entry.clip:g} std",
                )
                rows.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "## Bands, in order\n\n" + "\n".join(rows)


def _images(info: EncoderInfo) -> str:
    members = _members(info)
    points = [
        f"float32, shape (images, {info.channels}, rows, columns); each band is (x − mean) / std, clipped. The numbers "
        "above are rounded, those in the file are not.",
        f"All bands on the grid of the finest, {_pixel(info, min(members, key=lambda member: member.factor))} a pixel; "
        "coarser pixels are repeated, not interpolated.",
        "A pixel without a measurement is 0 after standardisation, which is the mean: a stored number that is the "
        "member's nodata"
        + "".join(f", {member.nodata:g} in {member.name}" for member in members if member.nodata is not None)
        + ", and anything not finite.",
    ]
    points += [
        f"Stored numbers of {member.name} mean x = stored × {member.scale:g} + ({member.offset:g})."
        for member in members
        if member.is_scaled
    ]
    sentinels = _missions(info)
    if "sentinel-2" in sentinels:
        points.append(
            "Sentinel-2: level-2A reflectance × 10000 without the offset of processing baselines from 04.00 on: where "
            "the product has it, add −1000 to its digital numbers first."
        )
    if "sentinel-1" in sentinels:
        points.append("Sentinel-1: backscatter in dB, 10 log10 of linear power, in the order VV, VH.")
    if info.encoder.startswith("vit"):
        points.append(
            f"Patches of {info.patch} × {info.patch} pixels ({info.embed} embedding): images of at least one patch; "
            "rows and columns beyond the last whole patch are left out."
        )
    return "## Images\n\n" + "\n".join(f"- {point}" for point in points)


def _training(info: EncoderInfo) -> str:
    facts = [f"objective `{info.objective}`", f"{info.epochs} epochs"]
    if info.samples is not None:
        facts.append(f"{info.samples} places")
    if info.crop is not None:
        facts.append(f"images of {info.crop} × {info.crop} pixels")
    return (
        f"## Training\n\nSelf-supervised: {', '.join(facts)}. Mean and standard deviation are those of the train split."
    )


def _terms(info: EncoderInfo) -> str:
    text = (
        "## Terms\n\nThese weights have no licence until whoever publishes them names one, as `license:` in the lines "
        "at the top."
    )
    missions = " and ".join(mission.capitalize() for mission in _missions(info))
    if missions:
        years = f" [{', '.join(map(str, info.years))}]" if info.years else ""
        text += f" They were trained on modified Copernicus {missions} data{years}; keep this notice with them."
    return text


def _members(info: EncoderInfo) -> list[Member]:
    return [member for entry in info.normalisations for member in entry.members]


def _finest(info: EncoderInfo) -> int:
    return min(entry.finest for entry in info.normalisations)


def _missions(info: EncoderInfo) -> list[str]:
    """`sentinel-1` and `sentinel-2`, those whose own members the images are made of; a sensor may only be named so."""
    known = {member.sensor for member in _members(info) if MEMBERS.get(member.name) == member}
    return [f"sentinel-{sensor[1]}" for sensor in sorted(known)]


def _pixel(info: EncoderInfo, member: Member) -> str:
    """Side of a member's pixel on the ground, or how much larger it is than the finest where nobody knows."""
    side_m = info.pixel_m if info.pixel_m is not None or not _missions(info) else SENTINEL_PIXEL_M
    return f"{side_m * member.factor:g} m" if side_m is not None else f"{member.factor} px"


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(names)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _cell(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace("|", "\\|")
