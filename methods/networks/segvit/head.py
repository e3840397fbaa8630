"""Heads that turn tokens of the encoder into classes that are present, each with its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from methods.networks.mask2former.class_head import GrowingClassHead
from methods.networks.segmenter import upsample
from methods.networks.segvit.config import SegViTConfig
from methods.networks.segvit.layers import ATMLayer, Projection
from methods.networks.segvit.tokens import Grid, Tokens, resize_table


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """What a head says of B images: S predictions of C classes, the last of which counts at test.

    One query a class: query c is class c.
    """

    logits: Tensor
    """(S, B, C, K + 1), "absent" last. K is C, or 1 with a shared classifier."""
    masks: Tensor
    """(S, B, C, h, w) mask logits on the encoder's grid."""

    def classes_from(self, number: int) -> HeadOutput:
        """What is said of the classes from `number` on; K must be 1."""
        return HeadOutput(self.logits[:, :, number:], self.masks[:, :, number:])

    def scores(self, height: int, width: int) -> Tensor:
        """(B, C, height, width): probability of the class times that of its mask, summed over queries."""
        present = self.logits[-1].softmax(dim=-1)[..., :-1]
        masks = upsample(self.masks[-1], height, width).sigmoid()
        if present.shape[2] == 1:
            return present[..., None] * masks
        return (present.transpose(1, 2) @ masks.flatten(2)).view_as(masks)


class ClassHead(nn.Module):
    """What all heads have: a token and a place in the classifier for each class. Both can grow."""

    def __init__(self, config: SegViTConfig, num_classes: int) -> None:
        super().__init__()
        width, self.init_deviation = config.head_width, config.init_deviation
        self.tokens = nn.ParameterList([torch.randn(num_classes, width)])
        self.class_embed = (
            nn.Linear(width, 2) if config.shared_classifier else GrowingClassHead(width, num_classes)
        )

    def _initialise(self) -> None:
        """SegViT `init_weights`; packed attention weights stay as torch made and copied them."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _initialise_linear(module, self.init_deviation)

    @property
    def num_classes(self) -> int:
        return sum(len(table) for table in self.tokens)

    def grow(self, num_classes: int) -> None:
        """Adds classes after those that are there."""
        first = self.tokens[0]
        self.tokens.append(torch.randn(num_classes, first.shape[1]).to(first))
        if isinstance(self.class_embed, GrowingClassHead):
            self.class_embed.grow(num_classes)
            _initialise_linear(self.class_embed.steps[-1], self.init_deviation)

    def start_from(self, other: ClassHead) -> None:
        """Copy another head of the same kind, but for what belongs to its classes."""
        own = ("tokens.", "class_embed.") if isinstance(self.class_embed, GrowingClassHead) else "tokens."
        kept = {name: value for name, value in other.state_dict().items() if not name.startswith(own)}
        self.load_state_dict(kept, strict=False)

    def class_tokens(self, batch: int) -> Tensor:
        """(B, C, D)."""
        return torch.cat(list(self.tokens)).expand(batch, -1, -1)

    def _output(self, tokens: Sequence[Tensor], masks: Sequence[Tensor], grid: Grid) -> HeadOutput:
        logits = cast(Tensor, self.class_embed(torch.stack(list(tokens))))
        return HeadOutput(logits, torch.stack(list(masks)).unflatten(3, grid))


class CascadeHead(ClassHead):
    """One level for each tap, the deepest first; masks are summed from level to level.

    Source: SegViT `atm_head.py@ATMHead`.
    """

    def __init__(self, config: SegViTConfig, num_classes: int) -> None:
        super().__init__(config, num_classes)
        self.projections = nn.ModuleList(
            Projection(config.encoder.width, config.head_width) for _ in config.encoder.taps
        )
        self.levels = nn.ModuleList(_atm_layers(config) for _ in config.encoder.taps)
        self._initialise()

    def forward(self, features: Sequence[Tokens]) -> HeadOutput:
        tokens, total = self.class_tokens(len(features[0].values)), 0
        found_tokens, found_masks = [], []
        levels = zip(reversed(features), self.projections, self.levels, strict=True)
        for (values, _), project, layers in levels:
            projected = project(values)
            for layer in cast(nn.ModuleList, layers):
                tokens, masks = layer(tokens, projected)
            total = total + masks
            found_tokens.append(tokens)
            found_masks.append(total)
        return self._output(found_tokens, found_masks, features[0].grid)


class UpsamplingHead(ClassHead):
    """For a shrunk encoder: learned queries at the full resolution gather its features, and class tokens
    attend to them. Every layer of that attention gives masks of its own.

    Source: SegViT `tpn_atm_head.py`, `atm_single_head.py`.
    """

    def __init__(self, config: SegViTConfig, num_classes: int) -> None:
        super().__init__(config, num_classes)
        encoder, width = config.encoder, config.head_width
        self.grid: Grid = (-(-config.crop // encoder.patch),) * 2
        self.queries = nn.Parameter(torch.randn(self.grid[0] * self.grid[1], width))
        self.projections = nn.ModuleList(Projection(encoder.width, width) for _ in encoder.taps)
        self.gather = nn.ModuleList(
            nn.TransformerDecoder(
                nn.TransformerDecoderLayer(
                    width, encoder.num_heads, 4 * width, config.dropout, batch_first=True
                ),
                config.head_layers,
            )
            for _ in encoder.taps
        )
        self.layers = _atm_layers(config)
        self._initialise()

    def forward(self, features: Sequence[Tokens]) -> HeadOutput:
        batch, grid = len(features[0].values), features[0].grid
        places = resize_table(self.queries, self.grid, grid).expand(batch, -1, -1)
        for (values, _), project, gather in zip(features, self.projections, self.gather, strict=True):
            places = gather(places, project(values))
        tokens = self.class_tokens(batch)
        found_tokens, found_masks = [], []
        for layer in self.layers:
            tokens, masks = layer(tokens, places)
            found_tokens.append(tokens)
            found_masks.append(masks)
        return self._output(found_tokens, found_masks, grid)


def build_head(config: SegViTConfig, num_classes: int) -> ClassHead:
    return (UpsamplingHead if config.shrinks else CascadeHead)(config, num_classes)


def _atm_layers(config: SegViTConfig) -> nn.ModuleList:
    layers = nn.ModuleList(
        ATMLayer(config.head_width, config.encoder.num_heads, config.dropout, config.self_attention)
        for _ in range(config.head_layers)
    )
    if config.self_attention:  # officially the layers are copies of one
        first, *others = (cast(nn.Module, cast(ATMLayer, layer).self_attn) for layer in layers)
        for other in others:
            other.load_state_dict(first.state_dict())
    return layers


def _initialise_linear(layer: nn.Linear, deviation: float) -> None:
    nn.init.trunc_normal_(layer.weight, std=deviation)
    nn.init.zeros_(layer.bias)
