"""The transformer decoder with masked attention, on learned queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.networks.mask2former.class_head import GrowingClassHead
from methods.networks.mask2former.config import Mask2FormerConfig
from methods.networks.mask2former.layers import MLP, CrossAttentionLayer, FFNLayer, SelfAttentionLayer
from methods.networks.mask2former.pixel_decoder import Pixels
from methods.networks.mask2former.position import sine_positions

NUM_LEVELS = 3


@dataclass(frozen=True, eq=False)
class Mask2FormerOutput:
    """What a forward pass gives: B images, Q queries, K classes, L = decoder layers + 1 predictions.

    Prediction 0 is that of the queries before the first layer, L - 1 is the final one. A mask is the product
    of its query's embedding and the pixels' features, and none is computed before it is asked for: the
    losses need few of them, and those at few points.
    """

    layer_logits: Tensor
    """(L, B, Q, K + 1) class logits of all predictions, ∅ last."""
    mask_embeddings: Tensor
    """(L, B, Q, D)."""
    mask_features: Tensor
    """(B, D, h, w) float32, at a quarter of the (padded) images' size."""
    tokens: Tensor
    """(L, B, Q, C): the queries before the first layer, and after each layer (`med_tokens` of BalConpas)."""

    @property
    def logits(self) -> Tensor:
        """(B, Q, K + 1) of the final prediction."""
        return self.layer_logits[-1]

    @cached_property
    def masks(self) -> Tensor:
        """(B, Q, h, w) mask logits of the final prediction."""
        return self.masks_of(-1)

    def masks_of(self, layer: int) -> Tensor:
        """(B, Q, h, w) mask logits of one prediction."""
        return mask_logits(self.mask_embeddings[layer], self.mask_features)


def mask_logits(embeddings: Tensor, features: Tensor) -> Tensor:
    """(..., B, Q, D) and (B, D, h, w) -> (..., B, Q, h, w), of the features' type under autocast too."""
    with torch.autocast(features.device.type, enabled=False):
        return (embeddings.to(features.dtype) @ features.flatten(2)).unflatten(-1, features.shape[2:])


class Memory:
    """What queries look at, level by level, and where they may: where their mask, resized to that level, is
    at least one half.

    Resizing is linear, so the features are resized, once, instead of the masks of every layer.
    Source: Mask2Former, MultiScaleMaskedTransformerDecoder.forward_prediction_heads.
    """

    def __init__(self, pixels: Pixels, level_embed: Tensor) -> None:
        """`level_embed` (levels, C) is added to all places of a level."""
        self.values = [x + level for x, level in zip(pixels.levels, level_embed, strict=True)]
        """(B, S_l, C) of each level."""
        self.keys = [
            x + sine_positions(*size, x.shape[2], x.device)
            for x, size in zip(self.values, pixels.sizes, strict=True)
        ]
        with torch.no_grad():
            self.features = [
                F.interpolate(pixels.mask_features, size, mode="bilinear", align_corners=False).flatten(2)
                for size in pixels.sizes
            ]

    @torch.no_grad()
    def allowed(self, embeddings: Tensor, level: int) -> Tensor:
        """(B, Q, D) mask embeddings -> (B, Q, S) bool; a query that may look nowhere may look everywhere."""
        features = self.features[level]
        with torch.autocast(features.device.type, enabled=False):
            inside = self.inside(embeddings.to(features.dtype) @ features)
        return inside | ~inside.any(dim=-1, keepdim=True)

    def inside(self, masks: Tensor) -> Tensor:
        """(B, Q, S) mask logits -> bool: where a mask is at least one half."""
        return masks >= 0


class MaskedLayers(nn.Module):
    """The parameters that the decoders of the family share, by their official names."""

    def __init__(self, config: Mask2FormerConfig) -> None:
        super().__init__()
        width, heads, depth = config.hidden, config.num_heads, range(config.decoder_layers)
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttentionLayer(width, heads) for _ in depth
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttentionLayer(width, heads) for _ in depth
        )
        self.transformer_ffn_layers = nn.ModuleList(FFNLayer(width, config.decoder_ffn) for _ in depth)
        self.decoder_norm = nn.LayerNorm(width)
        self.level_embed = nn.Embedding(NUM_LEVELS, width)
        self.mask_embed = MLP(width, width, width, config.mask_dim)

    def layers(self) -> Iterator[tuple[int, nn.Module, nn.Module, nn.Module]]:
        """Of each layer: the level it looks at, its self- and cross-attention, its feed-forward network."""
        parts = zip(
            self.transformer_self_attention_layers,
            self.transformer_cross_attention_layers,
            self.transformer_ffn_layers,
            strict=True,
        )
        for index, modules in enumerate(parts):
            yield index % NUM_LEVELS, *modules

    def decode(
        self,
        memory: Memory,
        queries: Tensor,
        positions: Sequence[Tensor],
        embed: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (L, B, Q, C), the same normalised, and mask embeddings (L, B, Q, D), as in the output.

        queries (B, Q, C), their positions (B, Q, C) in each layer; `embed` makes mask embeddings of
        normalised tokens.
        """
        x = queries
        tokens, normed = [x], [self.decoder_norm(x)]
        embeddings = [embed(normed[0])]
        for (level, exchange, attend, feed_forward), places in zip(self.layers(), positions, strict=True):
            allowed = memory.allowed(embeddings[-1], level)
            x = attend(x, places, memory.keys[level], memory.values[level], allowed)
            x = feed_forward(exchange(x, places))
            tokens.append(x)
            normed.append(self.decoder_norm(x))
            embeddings.append(embed(normed[-1]))
        return torch.stack(tokens), torch.stack(normed), torch.stack(embeddings)


class MaskedDecoder(MaskedLayers):
    """`Pixels` -> `Mask2FormerOutput`. Parameters are named as in BalConpas.

    Source: Mask2Former and BalConpas, modeling/transformer_decoder/mask2former_transformer_decoder.py
    (post-norm, no dropout).
    """

    memory: ClassVar[type[Memory]] = Memory

    def __init__(self, config: Mask2FormerConfig, num_classes: int) -> None:
        super().__init__(config)
        self.query_feat = nn.Embedding(config.num_queries, config.hidden)
        self.query_embed = nn.Embedding(config.num_queries, config.hidden)
        self.class_embeds = GrowingClassHead(config.hidden, num_classes)

    def forward(self, pixels: Pixels) -> Mask2FormerOutput:
        images = len(pixels.mask_features)
        memory = self.memory(pixels, self.level_embed.weight)
        positions = self.query_embed.weight.expand(images, -1, -1)
        queries = self.query_feat.weight.expand(images, -1, -1)
        depth = len(self.transformer_ffn_layers)
        tokens, normed, embeddings = self.decode(memory, queries, [positions] * depth, self.mask_embed)
        logits = cast(Tensor, self.class_embeds(normed))
        return Mask2FormerOutput(logits, embeddings, pixels.mask_features, tokens)
