"""Exported encoders: a safetensors file whose metadata says all needed to use it, and a card in words beside it.

Reading one needs torch and numpy and nothing else, so that it works where none of the rest is installed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import nn

from geossl_data.errors import TrainingError
from geossl_data.files import atomic_path, write_text
from geossl_data.pretrain.card import model_card
from geossl_data.pretrain.encoders import Encoder, build_encoder
from geossl_data.pretrain.info import EncoderInfo, info_of, text_of
from geossl_data.pretrain.weights import read_header, read_tensor

__all__ = ["METADATA_KEY", "EncoderInfo", "export_encoder", "load_encoder", "model_card"]

METADATA_KEY = "geossl"
"""Entry of the safetensors metadata that holds the JSON."""


def export_encoder(path: Path, encoder: nn.Module, info: EncoderInfo) -> None:
    """Write an encoder's weights and its info as one safetensors file, and its card beside it, each atomically.

    The card is `<name>.md` for `<name>.safetensors`. Same weights, same bytes.
    """
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    data = save(tensors, metadata={METADATA_KEY: text_of(info)})
    card = model_card(info, path.name, embedding_dim=int(cast(Encoder, encoder).embedding_dim))
    write_text(path.with_suffix(".md"), card)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def load_encoder(path: Path | str, device: torch.device | str = "cpu") -> tuple[Encoder, EncoderInfo]:
    """An exported encoder, in eval mode on the device, and its info. Needs torch and numpy alone.

    The encoder takes images (B, C, H, W), float32, standardised: `info.images` makes them of the members of looks,
    `info.standardised` of pixels from elsewhere; `info.bands` says which bands these are, `info.normalisations` how
    they are standardised. It answers with one embedding for each image, (B, embedding_dim). The file is not trusted:
    no code in it is run. Raises TrainingError in one line for one that is absent, damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise TrainingError(f"{path}: no such encoder; train one with `geossl pretrain`")
    try:
        with path.open("rb") as file:
            header = read_header(file, path)
            info, encoder = _described(path, header.metadata)
            expected = encoder.state_dict()
            stored = header.tensors
            # Compared before any is read, so that no file makes us read more than an encoder has.
            if {name: (tuple(value.shape), value.dtype) for name, value in expected.items()} != {
                name: (tensor.shape, tensor.dtype) for name, tensor in stored.items()
            }:
                raise TrainingError(f"{path}: its weights are not those of a {info.encoder}; export it again")
            tensors = {name: read_tensor(file, path, tensor) for name, tensor in stored.items()}
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise TrainingError(f"{path}: holds weights that are not finite; train again")
    encoder.load_state_dict(tensors)
    return encoder.to(device).eval(), info


def _described(path: Path, metadata: Mapping[str, str]) -> tuple[EncoderInfo, Encoder]:
    """What a file says it holds, and an encoder of that shape; TrainingError that names the file."""
    try:
        info = info_of(metadata.get(METADATA_KEY, ""))
        return info, build_encoder(info.encoder, info.bands, seed=0, patch=info.patch, embed=info.embed)
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from None
