"""MiB: "Modeling the Background for Incremental Learning in Semantic Segmentation", CVPR 2020."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from methods.deeplab import DeepLabMethod
from methods.losses.unbiased import unbiased_losses
from methods.method import Info
from protocols.loading import Batch
from protocols.protocol import Protocol


class MiB(DeepLabMethod):
    key = "mib"
    info = Info(
        "MiB",
        venue="CVPR",
        year=2020,
        provenance="port of fcdl94/MiB@1c58983",
        url="https://arxiv.org/abs/2002.00718",
    )
    keeps_teacher = True
    background_initialisation = True

    @dataclass(frozen=True)
    class Hyperparameters:
        kd_weight: float = 10.0
        """Factor of the distillation loss: MiB `argparser.py@modify_command_options`, paper section 4.1."""
        kd_alpha: float = 1.0
        """Factor of the old logits before their softmax: MiB `argparser.py`, `--alpha`."""

    hyperparameters: Hyperparameters

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> Hyperparameters:
        # 100 on VOC 15-1: the author in fcdl94/MiB issues 22 and 43, and MiBv2.
        return cls.Hyperparameters(kd_weight=100.0 if protocol.is_division("voc-15-1") else 10.0)

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        old_logits = self.teacher_output(batch.images).logits
        logits, kd = self.network(batch.images).logits, self.hyperparameters
        shift = self.protocol.has_background_shift
        return unbiased_losses(logits, old_logits, batch.labels, kd.kd_weight, kd.kd_alpha, shift)
