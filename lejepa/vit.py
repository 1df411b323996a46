"""A small ViT for 8–64 px on timm's blocks: no class token, fixed 2-D sine-cosine positions, mean of patches."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class SmallViT(VisionTransformer):
    """Heads of 64 features. Smaller images resample the positions, so local crops may have another size.

    Registers (Darcet et al. 2024) are learned tokens without a place; blocks may write to them, nothing reads them.
    """

    def __init__(
        self, size: int, channels: int = 3, patch: int = 4, width: int = 192, depth: int = 4, drop_path: float = 0.0,
        registers: int = 0, dim: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            img_size=size, patch_size=patch, in_chans=channels, num_classes=dim or 0, embed_dim=width, depth=depth,
            num_heads=width // 64, class_token=False, global_pool="avg", fc_norm=False, dynamic_img_size=True,
            drop_path_rate=drop_path, reg_tokens=registers, no_embed_class=True,
        )  # fmt: skip
        self.grid = size // patch
        self.pos_embed = nn.Parameter(sincos_positions(self.grid, width).unsqueeze(0), requires_grad=False)

    def tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """(B, C, S, S) → normalised patches (B, L, D). keep: patches (B, L) to see; dropped after the positions."""
        tokens: Tensor = self._pos_embed(self.patch_embed(x))
        registers, patches = tokens.tensor_split([self.num_prefix_tokens], dim=1)
        if keep is not None:
            patches = pick(patches, keep)
        seen = self.norm(self.blocks(torch.cat([registers, patches], dim=1)))
        return torch.as_tensor(seen[:, self.num_prefix_tokens :])


def pick(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens (B, L, D) at index (B, K) → (B, K, D)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def sincos_positions(grid: int, dim: int) -> Tensor:
    """(grid², dim): a quarter of the features each for sine and cosine of row and column; base 10,000."""
    if dim % 4:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, not {dim}")
    rate = 10_000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angle = torch.arange(grid, dtype=torch.float64).outer(rate)  # (grid, dim / 4)
    one_axis = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows, columns = one_axis.repeat_interleave(grid, 0), one_axis.repeat(grid, 1)
    return torch.cat([columns, rows], dim=1).float()
