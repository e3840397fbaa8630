"""How CoMFormer and ECLIPSE read their networks: every pixel belongs to one query, or to none."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from methods.losses.matching import padded_size
from methods.mask2former import SetPredictionMethod
from methods.mask2former_recipe import Mask2FormerRecipe
from methods.networks.mask2former.inference import disjoint_segments, resize_logits
from methods.networks.mask2former.sigmoid_inference import resize_classes
from methods.predictions import PanopticPrediction
from protocols.protocol import Protocol


class AssigningMethod(SetPredictionMethod):
    """A semantic prediction is a panoptic one, of stuff alone; pixels of no query are background.

    Source: CoMFormer and ECLIPSE, maskformer_model.py@MaskFormer.semantic_inference with `MASK_BG False`,
    panoptic_inference.
    """

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> Mask2FormerRecipe:
        """Without thresholds: every query that says a class takes part."""
        return replace(super().default_recipe(protocol, scale), object_threshold=0.0, overlap_threshold=0.0)

    def class_scores(self, logits: Tensor) -> Tensor:
        """(..., K + 1) class logits -> scores in 0..1, that of ∅ last."""
        return logits.softmax(dim=-1)

    def mask_scores(self, logits: Tensor) -> Tensor:
        """(Q, H, W) mask logits of one image -> 0..1."""
        return logits.sigmoid()

    def predict_image(self, image: Tensor, size: tuple[int, int]) -> Tensor | PanopticPrediction:
        output = self.network(image)
        scores, masks = self.class_scores(output.logits[0].float()), output.masks[0]
        seen, padded = (image.shape[2], image.shape[3]), padded_size(masks)
        if self.protocol.task != "semantic":
            masks = self.mask_scores(resize_logits(masks, padded, seen, size))
            return self._segments(scores, masks, self.is_thing(image.device))
        # Here the classes are resized, and not the masks.
        masks = self.mask_scores(resize_logits(masks, padded, padded, padded))
        stuff = torch.zeros(scores.shape[-1] - 1, dtype=torch.bool, device=image.device)
        found = self._segments(scores, masks, stuff)
        channels = torch.cat([found.channels.new_zeros(1), found.channels + 1])[found.ids.long()]
        if not self.protocol.background:  # no channel says "nothing": the likeliest class does
            shares = torch.einsum("qk,qhw->khw", scores[:, :-1], masks)
            channels = torch.where(channels > 0, channels - 1, shares.argmax(dim=0))
        return resize_classes(channels[: seen[0], : seen[1]], size)

    def _segments(self, class_scores: Tensor, masks: Tensor, is_thing: Tensor) -> PanopticPrediction:
        """`disjoint_segments` of the queries that say a class: scores (Q, K + 1), masks (Q, H, W) in 0..1."""
        scores, classes = class_scores.max(dim=-1)
        said = (classes < len(is_thing)) & (scores > self.recipe.object_threshold)
        overlap = self.recipe.overlap_threshold
        return disjoint_segments(scores[said], classes[said], masks[said], is_thing, overlap)
