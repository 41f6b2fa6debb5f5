"""The card of an encoder: its head is YAML, its code runs, its table is what the encoder expects."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from geossl_data.bands import S1_BANDS, S2_BANDS, Member
from geossl_data.pretrain.card import model_card
from geossl_data.pretrain.encoders import build_encoder
from geossl_data.pretrain.export import EncoderInfo, export_encoder
from geossl_data.pretrain.normalisation import Normalisation

S1 = Normalisation(sensor="s1", bands=S1_BANDS, mean=(-11.5, -18.25), std=(2.5, 3.0), clip=4.0)
S2 = Normalisation(
    sensor="s2", bands=S2_BANDS, mean=tuple(1000.0 + 10 * b for b in range(12)), std=tuple(300.0 + b for b in range(12))
)
DRONE = Normalisation(
    sensor="drone",
    bands=("red", "a|b"),
    mean=(1.0, 2.0),
    std=(1.0, 2.0),
    members=(Member("fine", "drone", ("red",), 1, "uint8", ""), Member("coarse", "drone", ("a|b",), 3, "float32", "K")),
)
INFO = EncoderInfo(
    encoder="tiny",
    patch=8,
    normalisations=(S2, S1),
    objective="simclr",
    epochs=3,
    samples=100,
    crop=12,
    pixel_m=10.0,
    years=(2021, 2023),
)


def rows_of(card: str) -> list[list[str]]:
    lines = [line for line in card.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_head_is_yaml_and_names_no_licence() -> None:
    _, head, _ = model_card(INFO, "s2+s1.safetensors", embedding_dim=16).split("---\n", maxsplit=2)
    values = yaml.safe_load(head)
    assert values["library_name"] == "geossl"
    assert {"sentinel-1", "sentinel-2", "tiny", "simclr"} < set(values["tags"])
    assert "license" not in values


def test_the_table_has_every_band_in_order() -> None:
    rows = rows_of(model_card(INFO, "s2+s1.safetensors", embedding_dim=16))
    assert [row[1] for row in rows] == [*S2_BANDS, "VV", "VH"]
    assert rows[8] == ["9", "B11", "s2", "s2_20m", "20 m", "reflectance × 10000", "1.61", "1080", "308", "± 5 std"]
    assert rows[12] == ["13", "VV", "s1", "s1", "10 m", "gamma naught in dB", "", "-11.5", "2.5", "± 4 std"]


def test_what_a_reader_has_to_know_is_said() -> None:
    card = model_card(INFO, "s2+s1.safetensors", embedding_dim=16)
    for words in (
        "An encoder of s2 and s1 images: 14 bands in, 16 numbers out",
        "on the grid of the finest, 10 m a pixel",
        "0 in s2_10m, 0 in s2_20m, 0 in s2_60m, 0 in s1, and anything not finite",
        "Stored numbers of s1 mean x = stored × 0.01 + (-100).",
        "without the offset of processing baselines from 04.00 on",
        "objective `simclr`, 3 epochs, 100 places, images of 12 × 12 pixels",
        "trained on modified Copernicus Sentinel-1 and Sentinel-2 data [2021, 2023]",
        'sensors=["s2"]',
    ):
        assert words in card
    assert "Patches of" not in card
    assert "Patches of 8 × 8 pixels (groups embedding)" in model_card(
        replace(INFO, encoder="vit-tiny", embed="groups"), "x.safetensors", embedding_dim=192
    )


def test_rasters_of_ones_own_claim_nothing_of_sentinel() -> None:
    info = replace(INFO, normalisations=(DRONE,), pixel_m=None, years=())
    card = model_card(info, "drone.safetensors", embedding_dim=16)
    assert "entinel" not in card
    assert "Copernicus" not in card
    assert [row[1] for row in rows_of(card)] == ["red", "a\\|b"]
    assert [row[4] for row in rows_of(card)] == ["1 px", "3 px"]


@pytest.mark.parametrize("normalisations", [(S2, S1), (S1,), (DRONE,)])
@pytest.mark.parametrize(("encoder", "embed", "crop"), [("tiny", "plain", 30), ("tiny-vit", "groups", None)])
def test_the_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, normalisations: Any, encoder: str, embed: str, crop: int | None
) -> None:
    info = replace(INFO, encoder=encoder, embed=embed, normalisations=normalisations, crop=crop)
    path = tmp_path / f"{info.sensor}.safetensors"
    export_encoder(path, build_encoder(encoder, info.bands, seed=0, patch=8, embed=embed), info)
    code = path.with_suffix(".md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["info"] == info
    assert names["embedding"].shape == (1, 16)
