"""The plain vision transformer: one resolution from the first block to the last, unless it is shrunk."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from methods.networks.segvit.config import EncoderConfig
from methods.networks.segvit.relative import RelativePositions
from methods.networks.segvit.tokens import Grid, Tokens, resize_table

EPS = 1e-6


class Attention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, picked: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """(B, L, E) -> the same, or (B, P, E) where only the `picked` (P,) tokens ask.

        bias (heads, L, L) is added to the scaled products.
        """
        width = x.shape[2]
        weights = self.qkv.weight.split((width, 2 * width))
        biases = self.qkv.bias.split((width, 2 * width))
        asking = x if picked is None else x[:, picked]
        query = F.linear(asking, weights[0], biases[0]).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        both = F.linear(x, weights[1], biases[1]).unflatten(2, (2, self.num_heads, -1))
        key, value = both.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return cast(Tensor, self.proj(mixed.transpose(1, 2).flatten(2)))


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(F.gelu(self.fc1(x))))


class Block(nn.Module):
    """Attention and MLP, each on normalised tokens and added to them."""

    gamma_1: Tensor | None
    gamma_2: Tensor | None

    def __init__(self, config: EncoderConfig, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=EPS)
        self.attn = Attention(config.width, config.num_heads)
        self.norm2 = nn.LayerNorm(config.width, eps=EPS)
        self.mlp = MLP(config.width)
        self.drop_mlp = drop_path
        self.drop_attention = drop_path if config.drops_attention else 0.0
        for name in ("gamma_1", "gamma_2"):
            factor = nn.Parameter(torch.full((config.width,), config.layer_scale))
            self.register_parameter(name, factor if config.layer_scale else None)

    def forward(self, x: Tensor, picked: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """(B, L, E) -> (B, L, E), or (B, P, E): see `Attention`."""
        kept = x if picked is None else x[:, picked]
        attended = self._scaled(self.attn(self.norm1(x), picked, bias), self.gamma_1)
        x = kept + stochastic_depth(attended, self.drop_attention, "row", self.training)
        changed = self._scaled(self.mlp(self.norm2(x)), self.gamma_2)
        return x + stochastic_depth(changed, self.drop_mlp, "row", self.training)

    def _scaled(self, x: Tensor, factor: Tensor | None) -> Tensor:
        return x if factor is None else factor * x


class PlainViT(nn.Module):
    """(B, 3, H, W) normalised images -> the tokens after each of `config.taps`, without any last norm.

    Parameters are named as in timm. Images whose sides are no multiples of the patch get zeros to the right
    and below. Source: mmsegmentation 0.24.0 `backbones/vit.py`, SegViT `vit_shrink.py`.
    """

    def __init__(self, config: EncoderConfig, crop: int, init_deviation: float = 0.02) -> None:
        """`crop`: side of the images that the position table is made for."""
        super().__init__()
        self.config = config
        self.grid: Grid = (-(-crop // config.patch),) * 2
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, config.width, config.patch, stride=config.patch)}
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.relative = None
        if config.relative_positions:
            self.register_parameter("pos_embed", None)
            self.relative = RelativePositions(config.depth, config.num_heads, self.grid)
        else:
            places = 1 + self.grid[0] * self.grid[1]
            self.pos_embed = nn.Parameter(torch.empty(1, places, config.width))
        rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self._initialise(init_deviation)

    def _initialise(self, deviation: float) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.trunc_normal_(module.weight, std=deviation)
                nn.init.zeros_(cast(Tensor, module.bias))
        for table in (self.cls_token, self.pos_embed):
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)

    def forward(self, images: Tensor) -> list[Tokens]:
        patch = self.config.patch
        images = F.pad(images, (0, -images.shape[3] % patch, 0, -images.shape[2] % patch))
        x = self.patch_embed["proj"](images)
        grid: Grid = (x.shape[2], x.shape[3])
        x = self._placed(x.flatten(2).transpose(1, 2), grid)
        found = []
        for index, block in enumerate(self.blocks):
            if index == self.config.shrink_at:
                picked, grid = self._even_places(grid, x.device)
                x = block(x, picked)
            else:
                x = block(x, bias=self.relative(index, grid) if self.relative is not None else None)
            if index in self.config.taps:
                found.append(Tokens(x[:, int(self.config.keeps_class_token) :], grid))
        return found

    def _placed(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, L, E) patches with their positions, and the class token before them where blocks see it."""
        if self.pos_embed is not None:
            x = x + resize_table(self.pos_embed[0, 1:], self.grid, grid)
        if not self.config.keeps_class_token:
            return x
        first = self.cls_token if self.pos_embed is None else self.cls_token + self.pos_embed[:, :1]
        return torch.cat([first.expand(len(x), -1, -1), x], dim=1)

    def _even_places(self, grid: Grid, device: torch.device) -> tuple[Tensor, Grid]:
        """Indices of the tokens in even rows and columns, and the grid that they form."""
        places = torch.arange(grid[0] * grid[1], device=device).view(grid)[::2, ::2]
        return places.flatten(), (places.shape[0], places.shape[1])
