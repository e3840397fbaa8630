"""RCIL: "Representation Compensation Networks for Continual Semantic Segmentation", CVPR 2022."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from methods.deeplab import DeepLabMethod
from methods.deeplab_recipe import DeepLabRecipe, source_in
from methods.losses.distillation import unbiased_distillation
from methods.losses.features import schedule
from methods.losses.pooled_cube import pooled_cube_channel, pooled_cube_space
from methods.losses.segmentation import cross_entropy, unbiased_cross_entropy
from methods.method import Info, UnsuitableRecipe
from methods.networks.deeplab import HeadConfig
from methods.networks.parallel import as_merged, build_parallel_deeplab, merge_branches
from methods.networks.resnet import RESNETS
from methods.networks.segmenter import DeepLabV3, SegmenterOutput
from protocols.loading import Batch, StepData
from protocols.protocol import Protocol, Step

#: Divisions with a script: zhangchbin/RCIL@b9aad58, folder `scripts`. 15-5 is in its README alone.
SCRIPTS = {
    "voc-15-1": "voc/RCIL_15-1-*.sh",
    "voc-10-1": "voc/RCIL_10-1-*.sh",
    "ade-100-50": "ade/RCIL_ade_100-50.sh",
    "ade-100-10": "ade/RCIL_ade_100-10.sh",
    "ade-100-5": "ade/RCIL_ade_100-5.sh",
    "cityscapes-domain-11-5": "cityscapesDomain/RCIL_cityscapes_11-5.sh",
    "cityscapes-domain-11-1": "cityscapesDomain/RCIL_cityscapes_11-1.sh",
    "cityscapes-domain-1-1": "cityscapesDomain/RCIL_cityscapes_1-1.sh",
}


class RCIL(DeepLabMethod):
    key = "rcil"
    info = Info(
        "RCIL",
        venue="CVPR",
        year=2022,
        provenance="port of zhangchbin/RCIL@b9aad58",
        url="https://arxiv.org/abs/2203.05402",
    )
    first_step = "rcil cross-entropy"
    network_name = "DeepLabv3, parallel branches"
    keeps_teacher = True

    @dataclass(frozen=True)
    class Hyperparameters:
        kd_weight: float = 100.0
        """Factor of the unbiased distillation: RCIL `scripts/`, `--loss_kd`."""
        kd_alpha: float = 1.0
        """Factor of the old logits before their softmax: `argparser.py`, `--alpha`."""
        space_weight: float = 0.01
        """Factor of the maps pooled in space: `train.py@features_distillation_spatial`, VOC. The code has
        these four numbers in its losses, whatever `--pod_factor` says (RCIL issue 5)."""
        space_logits_weight: float = 0.0005
        """The same for the small logits."""
        channel_weight: float = 0.01
        """Factor of the body's maps pooled over channels: `train.py@features_distillation_channel`, VOC."""
        channel_head_weight: float = 0.0005
        """The same for the head's output; the logits take no part."""
        space_sizes: tuple[int, ...] = (4, 8, 12, 16, 20, 24)
        """Sides of the windows in space: `train.py@features_distillation_spatial`."""
        channel_width: int = 3
        """Channels pooled together: `train.py@features_distillation_channel`."""

    hyperparameters: Hyperparameters

    def __init__(self, hyperparameters: Hyperparameters, recipe: DeepLabRecipe) -> None:
        super().__init__(hyperparameters, recipe)
        if recipe.backbone not in RESNETS:
            raise UnsuitableRecipe(
                f"rcil doubles the blocks of a ResNet, and the recipe's backbone is {recipe.backbone}; "
                f"set recipe.backbone to one of {', '.join(RESNETS)}, or leave rcil out"
            )

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> Hyperparameters:
        values = cls.Hyperparameters()
        if protocol.dataset == "ade":
            return dataclasses.replace(
                values,
                space_weight=5e-6,
                space_logits_weight=5e-7,
                channel_weight=5e-6,
                channel_head_weight=5e-7,
            )
        if protocol.is_domain_incremental:
            return dataclasses.replace(
                values,
                space_weight=5e-4,
                space_logits_weight=1e-4,
                channel_weight=1e-4,
                channel_head_weight=0.0,
            )
        return values

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> DeepLabRecipe:
        recipe = super().default_recipe(protocol, scale)
        if scale != "paper":
            return recipe
        recipe = dataclasses.replace(recipe, source=source_in("RCIL", SCRIPTS, protocol))
        if protocol.dataset == "ade":
            return recipe  # lr 0.01 and 0.001, as the family
        if protocol.is_domain_incremental:
            later = 0.004 if protocol.is_division("cityscapes-domain-11-1") else 0.002
            return dataclasses.replace(recipe, lr=0.02, later_lr=later)
        # 30 epochs in the later steps of 10-1 too, where PLOP has 10.
        return dataclasses.replace(recipe, lr=0.02, later_lr=0.001, later_epochs=30)

    def make_network(self, head: HeadConfig, num_channels: int) -> DeepLabV3:
        recipe = self.recipe
        return build_parallel_deeplab(recipe.backbone, num_channels, recipe.output_stride, head)

    def begin_later_step(self, step: Step, data: StepData) -> None:
        if self.protocol.has_background_shift:
            # Weights alone: RCIL segmentation_module.py@init_new_classifier leaves the biases as they are.
            self.network.cls.init_from_background(weights_only=True)
        merge_branches(self.network)

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        old = self.teacher_output(batch.images, return_features=True)
        new = self.network(batch.images, return_features=True)
        pooled = {"pooled_cube": self._pooled_cube(old, new)}
        if not self.protocol.has_background_shift:  # RCIL scripts of Cityscapes: method FT
            return {"cross_entropy": cross_entropy(new.logits, batch.labels), **pooled}
        weights = self.hyperparameters
        kd = unbiased_distillation(new.logits, old.logits, weights.kd_alpha)
        return {
            "unbiased_cross_entropy": unbiased_cross_entropy(new.logits, batch.labels, self.num_old_channels),
            "unbiased_distillation": weights.kd_weight * kd,
            **pooled,
        }

    def _pooled_cube(self, old: SegmenterOutput, new: SegmenterOutput) -> Tensor:
        # After the activation, unlike PLOP's: the in-place leaky ReLU overwrites what the block returned.
        assert old.features is not None and new.features is not None
        weights = self.hyperparameters
        old_maps = [*old.features.stages, old.pre_logits]
        new_maps = [*new.features.stages, new.pre_logits]
        space = pooled_cube_space(
            [*old_maps, old.small_logits],
            [*new_maps, self.as_old_channels(new.small_logits)],
            [weights.space_weight] * len(old_maps) + [weights.space_logits_weight],
            weights.space_sizes,
        )
        channel = pooled_cube_channel(
            old_maps,
            new_maps,
            [weights.channel_weight] * (len(old_maps) - 1) + [weights.channel_head_weight],
            weights.channel_width,
        )
        return schedule(self.network.cls.num_classes, len(self.step.classes)) * (space + channel)

    def grow_to(self, step: Step) -> None:
        if step.index > 0:
            as_merged(self.network)
        super().grow_to(step)
