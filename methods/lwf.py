"""LwF: "Learning without Forgetting", ECCV 2016, as in MiB."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from methods.deeplab import DeepLabMethod
from methods.deeplab_recipe import kd_weight_at
from methods.losses.distillation import knowledge_distillation
from methods.losses.segmentation import cross_entropy
from methods.method import Info
from protocols.loading import Batch
from protocols.protocol import Protocol


class LwF(DeepLabMethod):
    key = "lwf"
    info = Info(
        "LwF",
        venue="ECCV",
        year=2016,
        provenance="port of fcdl94/MiB@1c58983",
        url="https://arxiv.org/abs/1606.09282",
    )
    keeps_teacher = True

    @dataclass(frozen=True)
    class Hyperparameters:
        kd_weight: float = 100.0
        """Factor of the distillation loss: MiB `argparser.py@modify_command_options`, LWF."""
        kd_alpha: float = 1.0
        """Factor of the old logits before their softmax: MiB `argparser.py`, `--alpha`."""

    hyperparameters: Hyperparameters

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> Hyperparameters:
        return cls.Hyperparameters(kd_weight=kd_weight_at(scale, protocol))

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        old_logits = self.teacher_output(batch.images).logits
        logits = self.network(batch.images).logits
        kd = self.hyperparameters
        return {
            "cross_entropy": cross_entropy(logits, batch.labels),
            "distillation": kd.kd_weight * knowledge_distillation(logits, old_logits, kd.kd_alpha),
        }
