"""EWF: "Endpoints Weight Fusion for Class Incremental Semantic Segmentation", CVPR 2023."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.deeplab_recipe import DeepLabRecipe, source_in
from methods.local_pod import LocalPODMethod
from methods.losses.unbiased import unbiased_losses
from methods.method import Info
from protocols.loading import Batch, StepData
from protocols.protocol import Protocol, Step

#: Divisions with a script: schuy1er/EWF_official@560382d, folder `scripts`.
SCRIPTS = {
    "voc-19-1": "voc/*+ours_19-1.sh",
    "voc-15-1": "voc/*+ours_15-1.sh",
    "voc-10-1": "voc/*+ours_10-1.sh",
    "voc-5-3": "voc/*+ours_5-3.sh",
    "ade-100-50": "ade/mib+ours_100-50.sh",
    "ade-100-10": "ade/mib_ade_100-10.sh",
    "ade-100-5": "ade/mib_ade_100-5.sh",
}
BASES = ("mib", "plop")


class EWF(LocalPODMethod):
    """After each later step the network becomes a mean of what it was before and of what it has learnt.

    The step itself is MiB's or PLOP's, with the classifiers of earlier steps frozen. Where no class is new
    (domains), the mean is the learnt network alone, by the same formula.
    """

    key = "ewf"
    info = Info(
        "EWF",
        venue="CVPR",
        year=2023,
        provenance="port of schuy1er/EWF_official@560382d",
        url="https://openaccess.thecvf.com/content/CVPR2023/html/"
        "Xiao_Endpoints_Weight_Fusion_for_Class_Incremental_Semantic_Segmentation_CVPR_2023_paper.html",
    )

    @dataclass(frozen=True)
    class Hyperparameters(LocalPODMethod.Hyperparameters):
        base: str = "plop"
        """Whose loss a step has, "mib" or "plop": scripts/voc has both, the README's command is PLOP's;
        scripts/ade has MiB alone."""
        kd_weight: float = 10.0
        """Of base "mib": factor of its distillation, `argparser.py@modify_command_options`, `loss_kd`."""
        kd_alpha: float = 1.0
        """Of base "mib": factor of the old logits before their softmax, `--alpha`."""
        freeze_old_classifiers: bool = True
        """Whether the classifiers of earlier steps keep their weights: `--fix_pre_cls`, in all scripts."""

        def __post_init__(self) -> None:
            if self.base not in BASES:
                raise ValueError(f"ewf: base = {self.base!r} must be one of {', '.join(BASES)}")

    hyperparameters: Hyperparameters

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> Hyperparameters:
        values = super().default_hyperparameters(protocol, scale)
        assert isinstance(values, cls.Hyperparameters)
        if protocol.dataset != "ade":
            return values
        # scripts/ade: 10 in 100-50, 100 in the longer ones.
        kd_weight = 10.0 if protocol.is_division("ade-100-50") else 100.0
        return dataclasses.replace(values, base="mib", kd_weight=kd_weight)

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> DeepLabRecipe:
        recipe = super().default_recipe(protocol, scale)
        if scale != "paper" or not any(map(protocol.is_division, SCRIPTS)):
            return recipe
        recipe = dataclasses.replace(recipe, source=source_in("EWF", SCRIPTS, protocol))
        if protocol.is_division("ade-100-50"):
            return dataclasses.replace(recipe, batch=48)  # 12 on each of 4 GPUs; 6 in all other scripts
        # 30 epochs in the later steps of 10-1 too, where PLOP has 10.
        return recipe if protocol.dataset == "ade" else dataclasses.replace(recipe, later_epochs=30)

    def begin_later_step(self, step: Step, data: StepData) -> None:
        if self.hyperparameters.freeze_old_classifiers:
            for classifier in self.network.cls.steps[:-1]:
                classifier.requires_grad_(False)
        if self.hyperparameters.base == "plop":
            super().begin_later_step(step, data)

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        if self.hyperparameters.base == "plop":
            return super().later_loss(batch)
        old_logits = self.teacher_output(batch.images).logits
        logits, kd = self.network(batch.images).logits, self.hyperparameters
        shift = self.protocol.has_background_shift
        return unbiased_losses(logits, old_logits, batch.labels, kd.kd_weight, kd.kd_alpha, shift)

    def end_later_step(self, step: Step, data: StepData) -> None:
        assert self.teacher is not None
        weight = math.sqrt(len(step.classes) / self.network.cls.num_classes)
        self.network.load_state_dict(fused(self.teacher.state_dict(), self.network.state_dict(), weight))


@torch.no_grad()
def fused(old: Mapping[str, Tensor], new: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    """`weight` of the new tensors and the rest of the old ones; what the old lack stays as it is.

    Running statistics are averaged as all else. A counter, which is of integers, is the new one.
    Source: EWF section 3.3; run.py@run_step, without `--threshold_choice`, which the paper has not.
    """
    floating = {name: tensor for name, tensor in old.items() if tensor.is_floating_point()}
    return {**new, **{name: (1 - weight) * old + weight * new[name] for name, old in floating.items()}}
