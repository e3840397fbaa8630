"""ECLIPSE's network: queries of the first step, and for each later step a group of prompts beside them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from methods.networks.mask2former.config import Mask2FormerConfig
from methods.networks.mask2former.decoder import Mask2FormerOutput, MaskedLayers, Memory
from methods.networks.mask2former.layers import MLP
from methods.networks.mask2former.network import PixelNetwork
from methods.networks.mask2former.pixel_decoder import Pixels


class DeepClassHead(nn.Module):
    """(..., C) -> (..., K + 1) logits: an MLP for ∅, whose logit comes last, and one for each step.

    Source: ECLIPSE continual/modeling/classifier.py@IncrementalClassifier, `deep_cls`.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.cls = nn.ModuleList([MLP(width, width, width, 1), MLP(width, width, width, num_classes)])

    @property
    def heads(self) -> list[MLP]:
        """That of ∅ first."""
        return cast(list[MLP], list(self.cls))

    @property
    def num_classes(self) -> int:
        """Without ∅."""
        return sum(cast(nn.Linear, head.layers[-1]).out_features for head in self.heads[1:])

    def grow(self, num_classes: int) -> None:
        """A step more, whose classes all start as ∅ is: maskformer_model.py@copy_no_obj_weights."""
        head = copy.deepcopy(self.heads[0])
        nothing = cast(nn.Linear, head.layers[-1])
        last = nn.Linear(nothing.in_features, num_classes).to(nothing.weight)
        with torch.no_grad():
            last.weight.copy_(nothing.weight.expand_as(last.weight))
            last.bias.copy_(nothing.bias.expand_as(last.bias))
        head.layers[-1] = last
        self.cls.append(head)

    def forward(self, x: Tensor) -> Tensor:
        nothing, *steps = self.heads
        return torch.cat([head(x) for head in (*steps, nothing)], dim=-1)


class PromptedDecoder(MaskedLayers):
    """`Pixels` -> `Mask2FormerOutput`. Parameters are named as in ECLIPSE.

    A group attends to itself and to the image, never to another group: all of them together give what each
    gives alone. Source: ECLIPSE mask2former_transformer_decoder.py@forward_new_train, forward_infer, with
    `PROMPT_DEEP` and `PROMPT_MASK_MLP`.
    """

    def __init__(self, config: Mask2FormerConfig, num_classes: int) -> None:
        super().__init__(config)
        self.query_feat = nn.Embedding(config.num_queries, config.hidden)
        self.query_embed = nn.Embedding(config.num_queries, config.hidden)
        self.class_embed = DeepClassHead(config.hidden, num_classes)
        self.prompt_feat, self.prompt_embed, self.prompt_mask_embed = (nn.ModuleList() for _ in range(3))

    def add_prompts(self, number: int) -> None:
        """A group that starts from the mean query, all alike, and from the first step's mask MLP.

        Source: maskformer_model.py@copy_prompt_embed_weights, copy_mask_embed_weights.
        """
        self.prompt_feat.append(_repeated_mean(self.query_feat, number))
        embeds = [_repeated_mean(self.query_embed, number) for _ in self.transformer_ffn_layers]
        self.prompt_embed.append(nn.ModuleList(embeds))
        self.prompt_mask_embed.append(copy.deepcopy(self.mask_embed))

    def group_sizes(self) -> list[int]:
        """Queries of each group, those of the first step first."""
        return [len(group.weight) for group in cast(list[nn.Embedding], [self.query_feat, *self.prompt_feat])]

    def group(self, index: int) -> tuple[Tensor, list[Tensor], Callable[[Tensor], Tensor]]:
        """Queries (Q, C), their positions in each layer, and what makes their mask embeddings."""
        if not index:
            depth = len(self.transformer_ffn_layers)
            return self.query_feat.weight, [self.query_embed.weight] * depth, self.mask_embed
        queries = cast(nn.Embedding, self.prompt_feat[index - 1])
        positions = cast(list[nn.Embedding], self.prompt_embed[index - 1])
        return queries.weight, [layer.weight for layer in positions], self.prompt_mask_embed[index - 1]

    def forward(self, pixels: Pixels, groups: Sequence[int]) -> Mask2FormerOutput:
        images, memory = len(pixels.mask_features), Memory(pixels, self.level_embed.weight)
        decoded = []
        for index in groups:
            queries, positions, embed = self.group(index)
            placed = [p.expand(images, -1, -1) for p in positions]
            decoded.append(self.decode(memory, queries.expand(images, -1, -1), placed, embed))
        tokens, normed, embeddings = (torch.cat(parts, dim=2) for parts in zip(*decoded, strict=True))
        logits = cast(Tensor, self.class_embed(normed))
        return Mask2FormerOutput(logits, embeddings, pixels.mask_features, tokens)


class PromptedMask2Former(PixelNetwork):
    """(B, 3, H, W) normalised images -> `Mask2FormerOutput` of all groups, one after the other."""

    def __init__(self, config: Mask2FormerConfig, num_classes: int) -> None:
        super().__init__(config)
        self.predictor = PromptedDecoder(config, num_classes)

    def forward(self, images: Tensor, newest: bool = False) -> Mask2FormerOutput:
        """With `newest` of the last group alone."""
        groups = range(len(self.predictor.group_sizes()))
        return cast(Mask2FormerOutput, self.predictor(self.pixels(images), groups[-1:] if newest else groups))


def manipulated_logits(
    logits: Tensor, group_of_query: Tensor, group_of_class: Tensor, deltas: Tensor
) -> Tensor:
    """(..., Q, K + 1) class logits -> those in which a query knows the classes of its group alone.

    group_of_query int64 (Q,), group_of_class int64 (K,), deltas δ (Q,). The probability of ∅ becomes, for
    δ > 0, that of all other groups' classes together, at most 1, times δ; for δ < 0 itself times |δ|.
    Source: ECLIPSE, section "logit manipulation"; forward_prediction_heads, sigmoid_to_logit.
    """
    own = group_of_query[:, None] == group_of_class
    classes, nothing = logits[..., :-1], logits[..., -1]
    others = (classes.sigmoid() * ~own).sum(dim=-1).clamp(max=1.0)
    known, calibrated = ((p * deltas.abs()).logit(eps=1e-3) for p in (others, nothing.sigmoid()))
    nothing = torch.where(deltas > 0, known, torch.where(deltas < 0, calibrated, nothing))
    return torch.cat([torch.where(own, classes, -10.0), nothing[..., None]], dim=-1)


def _repeated_mean(embedding: nn.Embedding, number: int) -> nn.Embedding:
    mean = embedding.weight.detach().mean(dim=0, keepdim=True)
    return nn.Embedding.from_pretrained(mean.repeat(number, 1), freeze=False)
