"""CoMFormer: "Continual Learning in Semantic and Panoptic Segmentation", CVPR 2023."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from methods.losses.focal import softmax_focal_classification
from methods.losses.mask_pseudo_labels import joined, uncovered_segments
from methods.losses.query_distillation import adaptive_distillation
from methods.losses.set_prediction import num_masks, target_classes
from methods.losses.soft_masks import log_masks, match_soft_masks, soft_mask_losses
from methods.mask2former import DICE_WEIGHT, MASK_WEIGHT, Mask2FormerMethod
from methods.mask2former_assigned import AssigningMethod
from methods.mask2former_recipe import Mask2FormerRecipe
from methods.method import Info
from methods.networks.mask2former.decoder import Mask2FormerOutput
from methods.networks.mask2former.inference import confident_queries, resize_logits
from methods.networks.mask2former.soft_masks import SoftMask2Former
from protocols.loading import Batch
from protocols.protocol import Protocol, Step
from protocols.segments import Segments


class CoMFormer(AssigningMethod, Mask2FormerMethod):
    key = "comformer"
    info = Info(
        "CoMFormer",
        venue="CVPR",
        year=2023,
        provenance="port of fcdl94/CoMFormer@640496b",
        url="https://arxiv.org/abs/2211.13999",
        tasks=("semantic", "panoptic"),
    )
    first_step = "comformer"
    first_step_hyperparameters = ("focal_alpha", "focal_gamma")
    network_name = "CoMFormer"
    keeps_teacher = True

    @dataclass(frozen=True)
    class Hyperparameters:
        distillation_weight: float = 10.0
        """Of the adaptive distillation: `scripts/ade10.sh` and others, `CONT.DIST.KD_WEIGHT`."""
        reweighting: float = 2.0
        """Exponent of a query's old probability of being something, by which its distillation counts:
        `loss.py@unbiased_knowledge_distillation_loss`, `gamma`."""
        pseudo_overlap: float = 0.5
        """Share of its pixels that labels and other queries must leave a pseudo-label:
        `maskformer.py@make_pseudolabels2`, fixed."""
        focal_alpha: float = 5.0
        """Factor of the focal loss of classes: `mask2former/config.py`, `FOCAL_ALPHA`."""
        focal_gamma: float = 1.0
        """Its exponent: `mask2former/config.py`, `FOCAL_GAMMA`."""

    hyperparameters: Hyperparameters

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> Hyperparameters:
        """`scripts/adps.sh` and `ade.sh`, of 50 classes a step, have other weights (the README has 10).

        At small scale distillation grows as the recipe's `class_weight` does, to keep its share.
        """
        weight = 10.0
        if len(protocol.steps[-1].classes) >= 50:
            weight = 0.5 if protocol.task == "semantic" else 5.0
        return cls.Hyperparameters(weight if scale == "paper" else 5 * weight)

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> Mask2FormerRecipe:
        recipe = super().default_recipe(protocol, scale)
        if scale != "paper":  # ours: ∅ weighs as much as a class, and with 25 masks would be left behind
            return replace(recipe, class_weight=10.0)
        return replace(
            recipe,
            batch=16 if protocol.task == "semantic" else 8,
            later_iterations=400 * len(protocol.steps[-1].classes),
            source="CoMFormer configs/ade20k and scripts",
        )

    def make_network(self, protocol: Protocol) -> SoftMask2Former:
        return SoftMask2Former(self.recipe.network(), len(protocol.steps[0].classes))

    def mask_scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=0)

    def first_step_loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.soft_losses(self.network(batch.images), self.targets(batch))

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        old_output, labelled = self.teacher_output(batch.images), self.targets(batch)
        targets = [*map(joined, labelled, self.pseudo_labels(old_output, labelled))]
        output = self.network(batch.images)
        choice = self.hyperparameters
        distilled = adaptive_distillation(output.logits, old_output.logits, choice.reweighting)
        return {
            **self.soft_losses(output, targets),
            "distillation": choice.distillation_weight * distilled,
        }

    @torch.no_grad()
    def pseudo_labels(self, old_output: Mask2FormerOutput, labelled: Sequence[Segments]) -> list[Segments]:
        """What the old network sees where no label is, however unsure of it (`PSEUDO_THRESHOLD` 0)."""
        found = []
        for logits, masks, label in zip(old_output.logits, old_output.masks, labelled, strict=True):
            index, scores, classes = confident_queries(logits, threshold=0.0)
            size = (label.masks.shape[1], label.masks.shape[2])
            shares = self.mask_scores(resize_logits(masks, size, size, size))[index]
            covered = label.masks.any(dim=0)
            overlap = self.hyperparameters.pseudo_overlap
            found.append(uncovered_segments(scores, classes, shares, covered, overlap))
        return found

    def soft_losses(self, output: Mask2FormerOutput, targets: Sequence[Segments]) -> dict[str, Tensor]:
        """Classes, masks and dice of all predictions, weighted and summed over them."""
        logits, points = output.layer_logits, self.recipe.num_points
        masks = log_masks(output.mask_embeddings, output.mask_features)
        matching = match_soft_masks(logits, masks, targets, points)
        classes = target_classes(matching, targets, logits.shape[2], logits.shape[3] - 1)
        choice = self.hyperparameters
        focal = softmax_focal_classification(logits, classes, choice.focal_alpha, choice.focal_gamma)
        cross_entropy, dice = soft_mask_losses(masks, targets, matching, num_masks(targets), points)
        return {
            "class": self.recipe.class_weight * focal.sum(),
            "mask": MASK_WEIGHT * cross_entropy.sum(),
            "dice": DICE_WEIGHT * dice.sum(),
        }

    def official_tensors(self, step: Step, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Officially ∅ is a layer of its own, the first; the layers of the steps follow."""
        named = super().official_tensors(step, state)
        for name in ("weight", "bias"):
            layers = [named.pop(f"predictor.class_embed.cls.{t}.{name}") for t in range(step.index + 2)]
            nothing, first, *later = layers
            for index, layer in enumerate([torch.cat([first, nothing]), *later]):
                named[f"predictor.class_embeds.{index}.{name}"] = layer
        return named
