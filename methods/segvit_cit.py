"""CIT on SegViT: one head for all classes, which goes on learning; frozen heads say what it knew."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from methods.losses.mask_distillation import mask_distillation, presence_distillation
from methods.method import Info
from methods.networks.segvit import HeadOutput
from methods.networks.segvit.tokens import Tokens
from methods.segvit import TEACHERS, SegViTMethod
from protocols.loading import Batch
from protocols.protocol import IGNORE, Step


class SegViTCIT(SegViTMethod):
    """The encoder is frozen after the first step; the head gets tokens for new classes and learns them alone.

    Its old classes are held by distillation, each from the head of the step that introduced it. In a
    domain-incremental protocol no class is old, and the head is fine-tuned on the frozen encoder.
    """

    key = "segvit-cit"
    info = Info(
        "CIT on SegViT",
        venue="Pattern Recognition",
        year=2025,
        provenance="port of jinchaogjc/cit@11cd952",
        url="https://arxiv.org/abs/2411.02715",
    )

    @dataclass(frozen=True)
    class Hyperparameters:
        class_weight: float = 5.0
        """Of the distilled presence: `cls_factor` of `encoder_decoder_cl.py`. Other configs: 2, 10."""
        mask_weight: float = 10.0
        """Of the distilled masks: `attn_factor` there. Other configs: 5, 30."""
        temperature: float = 1.0
        """Of the frozen heads' logits: `temperature` there."""
        noise: bool = True
        """Dropout in frozen heads, stochastic depth in the frozen encoder: officially both are in train mode,
        because the heads give their logits in no other."""

    hyperparameters: Hyperparameters

    def check(self) -> None:
        if not self.recipe.shared_classifier:
            raise ValueError("segvit-cit: its head has one classifier; set recipe.shared_classifier = true")

    def begin_later_step(self, step: Step) -> None:
        network = self.network
        network.encoder.requires_grad_(False)
        network.noisy_when_frozen = self.hyperparameters.noise
        if self.protocol.is_domain_incremental:
            return
        self.teachers.append(copy.deepcopy(network.newest).requires_grad_(False))
        self.teachers.to(next(network.parameters()).device)
        network.newest.grow(len(step.classes))

    def lacks(self, step: Step, tensors: Mapping[str, Tensor]) -> str:
        known = not step.index or any(name.startswith(TEACHERS) for name in tensors)
        return "" if known else "the heads of earlier steps, which teach"

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        features = self.network.features(batch.images)
        output = cast(HeadOutput, self.network.newest(features))
        num_old = self.num_old_classes
        labels = self.class_numbers(batch.labels, num_old)
        losses = self.losses(output.classes_from(num_old), labels)
        if not num_old:
            return losses
        logits, masks = self.old_predictions(features)
        weights, labelled = self.hyperparameters, labels != IGNORE
        presence = presence_distillation(output.logits[:, :, :num_old], logits, weights.temperature)
        where = mask_distillation(output.masks[:, :, :num_old], masks, labelled, weights.temperature)
        losses["old presence"] = weights.class_weight * presence.sum()
        losses["old masks"] = weights.mask_weight * where.sum()
        return losses

    @torch.no_grad()
    def old_predictions(self, features: list[Tokens]) -> tuple[Tensor, Tensor]:
        """(S, B, O, 2) class logits and (S, B, O, h, w) mask logits, of each class by its own step's head."""
        self.teachers.train(self.hyperparameters.noise)
        logits, masks, first = [], [], 0
        for teacher in self.teachers:
            output = cast(HeadOutput, teacher(features)).classes_from(first)
            logits.append(output.logits)
            masks.append(output.masks)
            first += output.masks.shape[2]
        return torch.cat(logits, dim=2), torch.cat(masks, dim=2)
