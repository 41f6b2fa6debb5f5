"""Vision transformer for any number of bands (Dosovitskiy et al. 2021, sizes of Touvron et al. 2021).

It takes the mean of its patch tokens and fixed sine-cosine positions, so that any image of at least one patch will do.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from geossl_data.errors import TrainingError
from geossl_data.pretrain.encoders.bands import Bands, bands_of, rows_present
from geossl_data.pretrain.encoders.embeddings import (
    EMBEDDING_TYPES,
    GroupEmbedding,
    Patching,
    WavelengthEmbedding,
    whole_patches,
)


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) → (B, N, D)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: bool, to be broadcast to (B, heads, N, N), True where the token of the last axis may be looked at."""
        n_images, n_tokens, dim = x.shape
        qkv = self.qkv(x).reshape(n_images, n_tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads) each
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(n_images, n_tokens, dim)
        return self.out(mixed)  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """Pre-norm attention and a 4× wide MLP, each with a residual."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads)
        self.norm_mlp = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm_attention(x), mask)
        return x + self.mlp(self.norm_mlp(x))  # type: ignore[no-any-return]


class PositionCodes(nn.Module):
    """`positions`, worked out once for each size and device; no part of a module's state."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self._known: dict[tuple[int, int, torch.device], Tensor] = {}

    def forward(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """Shape (rows × columns, dim), of the type and on the device of `like`."""
        if torch.compiler.is_compiling():  # what is remembered would be compiled for once more
            return positions(rows, columns, self.dim, like.device).to(like)
        key = (rows, columns, like.device)
        if key not in self._known:
            with torch.inference_mode(False):
                self._known[key] = positions(rows, columns, self.dim).to(like.device)
        return self._known[key].to(like)


class ViT(nn.Module):
    """(B, C, H, W) float32 → (B, embedding_dim): the mean of the patch tokens of the last block.

    Rows and columns beyond the last whole patch are left out, half of them on each side. Where the embedding makes a
    token for each group of bands, a group without any band there takes no part: neither in the attention nor in the
    mean. At least one band has to be there.
    """

    def __init__(self, bands: Bands | int, dim: int, depth: int, heads: int, patch: Patching | int) -> None:
        super().__init__()
        patching = Patching(patch) if isinstance(patch, int) else patch
        self.bands = bands_of(bands)
        self.embedding_dim = dim
        self.patch = patching.side
        self.embed: nn.Module = EMBEDDING_TYPES[patching.embed](self.bands, dim, patching.side)
        self.blocks = nn.Sequential(*(TransformerBlock(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.positions = PositionCodes(dim)

    @property
    def groups(self) -> tuple[int, ...]:
        """How many bands are in each group that has tokens of its own; one group unless the embedding is `groups`."""
        return self.bands.groups if isinstance(self.embed, GroupEmbedding) else (len(self.bands),)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        tokens = self.patches(x, present)
        groups = self._groups_there(x, present)
        visible = None if groups is None else groups.repeat_interleave(tokens.shape[2], dim=1)
        return mean_token(self.encode(tokens.flatten(1, 2), visible), visible)

    def patches(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Tokens (B, G, P, D) before the first block, G groups of bands, P patches by rows; with codes of position."""
        x = whole_patches(x, self.patch)
        rows, columns = x.shape[-2] // self.patch, x.shape[-1] // self.patch
        tokens: Tensor = self.embed(x, present)
        return tokens + self.positions(rows, columns, tokens)  # type: ignore[no-any-return]

    def encode(self, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Tokens (B, N, D) after the last block; visible: (B or 1, N) bool, those that may be looked at."""
        mask = None if visible is None else visible[:, None, None]
        for block in self.blocks:
            tokens = block(tokens, mask)
        return self.norm(tokens)  # type: ignore[no-any-return]

    def pyramid(self, x: Tensor, present: Tensor | None = None) -> list[Tensor]:
        """Maps (B, D, h, w) for dense tasks, of four evenly spaced blocks, through the last norm; groups averaged."""
        tokens = self.patches(x, present)
        n_images, n_groups, n_patches, dim = tokens.shape
        groups = self._groups_there(x, present)
        mask = None if groups is None else groups.repeat_interleave(n_patches, dim=1)[:, None, None]
        rows, columns = x.shape[-2] // self.patch, x.shape[-1] // self.patch
        found = []
        tokens = tokens.flatten(1, 2)
        for block in self.blocks:
            tokens = block(tokens, mask)
            found.append(tokens)
        chosen = [found[-(-quarter * len(found) // 4) - 1] for quarter in (1, 2, 3, 4)]
        maps = []
        for after in chosen:
            by_patch = self.norm(after).reshape(n_images, n_groups, n_patches * dim)
            maps.append(mean_token(by_patch, groups).reshape(n_images, rows, columns, dim).permute(0, 3, 1, 2))
        return maps

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Those that turn pixels into tokens, which MoCo-v3 keeps as they are; codes of groups are not among them."""
        parts = self.embed.parts if isinstance(self.embed, GroupEmbedding) else self.embed
        return list(parts.parameters())

    def for_bands(self, bands: Bands) -> "ViT":
        """A copy with the same weights for images of other bands; its embedding has to be by wavelength."""
        if not isinstance(self.embed, WavelengthEmbedding):
            raise TrainingError(
                "only an encoder with wavelength embedding takes other bands than those it was made for"
            )
        other = copy.deepcopy(self)
        assert isinstance(other.embed, WavelengthEmbedding)
        other.embed.describe(bands)
        other.bands = bands
        return other

    def _groups_there(self, x: Tensor, present: Tensor | None) -> Tensor | None:
        """Which groups have a band that is there, (B or 1, G) bool; None where all of them are."""
        if present is None or len(self.groups) == 1:
            return None
        return torch.stack(
            [own.any(dim=1) for own in torch.split(rows_present(present, x), list(self.groups), dim=1)], dim=1
        )


def mean_token(tokens: Tensor, visible: Tensor | None = None) -> Tensor:
    """The mean of the tokens (B, N, D), shape (B, D), or of those that are `visible`, (B or 1, N) bool."""
    if visible is None:
        return tokens.mean(dim=1)
    share = visible / visible.sum(dim=1, keepdim=True)
    return (tokens * share.to(tokens)[..., None]).sum(dim=1)


def positions(rows: int, columns: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Fixed position codes, shape (rows × columns, dim), float32: half for the row, half for the column.

    Each half is sin and cos of the index at dim / 4 frequencies from 1 down to 1 / 10000 (Vaswani et al. 2017, 3.5, in
    two dimensions). The code of a position does not depend on how large the image is.
    """
    quarter = dim // 4
    frequencies = torch.exp(-torch.arange(quarter, device=device) / quarter * math.log(10_000.0))
    row = torch.arange(rows, device=device).repeat_interleave(columns)[:, None] * frequencies
    column = torch.arange(columns, device=device).repeat(rows)[:, None] * frequencies
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)
