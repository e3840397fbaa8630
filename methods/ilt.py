"""ILT: "Incremental Learning Techniques for Semantic Segmentation", ICCV workshops 2019, as in MiB."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from methods.deeplab import DeepLabMethod
from methods.deeplab_recipe import kd_weight_at
from methods.losses.distillation import knowledge_distillation
from methods.losses.segmentation import cross_entropy
from methods.method import Info
from protocols.loading import Batch
from protocols.protocol import Protocol


class ILT(DeepLabMethod):
    key = "ilt"
    info = Info(
        "ILT",
        venue="ICCVW",
        year=2019,
        provenance="port of fcdl94/MiB@1c58983",
        url="https://arxiv.org/abs/1907.13372",
    )
    keeps_teacher = True

    @dataclass(frozen=True)
    class Hyperparameters:
        kd_weight: float = 100.0
        """Factor of the distillation loss: MiB `argparser.py@modify_command_options`, ILT."""
        kd_alpha: float = 1.0
        """Factor of the old logits before their softmax: MiB `argparser.py`, `--alpha`."""
        feature_weight: float = 100.0
        """Factor of the squared difference of the body's outputs: the same, `loss_de`."""

    hyperparameters: Hyperparameters

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> Hyperparameters:
        return cls.Hyperparameters(kd_weight=kd_weight_at(scale, protocol))

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        # The paper's frozen encoder is the official code's `--freeze`, off by default.
        old = self.teacher_output(batch.images, return_features=True)
        new = self.network(batch.images, return_features=True)
        weights = self.hyperparameters
        kd = knowledge_distillation(new.logits, old.logits, weights.kd_alpha)
        assert old.features is not None
        return {
            "cross_entropy": cross_entropy(new.logits, batch.labels),
            "distillation": weights.kd_weight * kd,
            "features": weights.feature_weight * F.mse_loss(new.features.out, old.features.out),
        }
