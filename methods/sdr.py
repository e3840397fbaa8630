"""SDR: "Continual Semantic Segmentation via Repulsion-Attraction of Sparse and Disentangled Latent
Representations", CVPR 2021."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.deeplab import DeepLabMethod
from methods.deeplab_recipe import DeepLabRecipe
from methods.losses.prototypes import (
    ClassPixels,
    Layout,
    attraction,
    class_pixels,
    class_sums,
    nearest,
    prototype_matching,
    repulsion,
    sparsity,
    updated_prototypes,
)
from methods.losses.segmentation import cross_entropy
from methods.losses.unbiased import unbiased_losses
from methods.method import Info, split_off
from methods.networks.backbones import Backbone
from methods.networks.segmenter import SegmenterOutput
from ops.processes import sum_over_processes
from protocols.loading import Batch, StepData
from protocols.protocol import BACKGROUND, IGNORE, Protocol, Step

PREFIX = "prototypes."
COUNTS = f"{PREFIX}counts"


class SDR(DeepLabMethod):
    """MiB's losses, and four small ones on the backbone's features and the running means of the classes.

    The network is the family's; the official one has plain batch normalisation, with a momentum of 0.0003 in
    the backbone, and no activation in the head. Features are taken as its ReLU would leave them.
    In overlapped protocols the background's prototype stays zero, and its pixels are attracted to it, as in
    the official code.
    """

    key = "sdr"
    info = Info(
        "SDR",
        venue="CVPR",
        year=2021,
        provenance="port of LTTM/SDR@8638296",
        url="https://arxiv.org/abs/2103.06342",
    )
    first_step = "sdr cross-entropy"
    keeps_teacher = True
    carried = (PREFIX,)

    @dataclass(frozen=True)
    class Hyperparameters:
        kd_weight: float = 100.0
        """Factor of the unbiased distillation: SDR `argparser.py@modify_command_options`, `loss_kd`. Its
        README starts from 10; searched there: 1 to 100."""
        kd_alpha: float = 1.0
        """Factor of the old logits before their softmax: `argparser.py`, `--alpha`."""
        matching_weight: float = 1e-2
        """Factor of the prototype matching: the same function, `loss_de_prototypes`."""
        attraction_weight: float = 1e-3
        """Factor of the pixels' distances to their prototypes: the same, `loss_fc`."""
        repulsion_weight: float = 1e-3
        """Factor of the inverse distances between classes: the same, `lfc_sep_clust`."""
        sparsity_weight: float = 1e-3
        """Factor of the sparsification: the same, `loss_featspars`."""
        match_means: bool = True
        """Whether a class's mean is matched, and not each pixel: `--loss_de_prototypes_sumafter`."""
        mixed_channels: bool = True
        """Whether features are reshaped as in `train.py@Trainer._update_running_stats` and `utils/loss.py`,
        which mixes channels and pixels wherever a class is in several images."""
        repeated_division: bool = True
        """Whether the attraction is divided by the number of classes after each one, as in
        `utils/loss.py@FeaturesClusteringSeparationLoss`."""

    hyperparameters: Hyperparameters

    def __init__(self, hyperparameters: Any, recipe: DeepLabRecipe) -> None:
        super().__init__(hyperparameters, recipe)
        self.prototypes: dict[Layout, Tensor] = {}
        """(K, C) means of the classes' features over all iterations. The first step, which all variants
        share, gathers them in both layouts."""
        self.counts = torch.zeros(0, dtype=torch.int64)
        """(K,) pixels that each mean is of."""

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> DeepLabRecipe:
        recipe = super().default_recipe(protocol, scale)
        if scale != "paper" or protocol.dataset not in ("voc", "ade"):
            return recipe
        # Its scripts have 19-1 alone; learning rates by data set are the author's, LTTM/SDR issue 1.
        recipe = dataclasses.replace(recipe, amp=False, source="SDR README, scripts of 19-1, issue 1")
        if protocol.dataset == "ade":
            return dataclasses.replace(recipe, batch=4)
        return dataclasses.replace(recipe, batch=8, lr=1e-3, later_lr=1e-4, later_epochs=30)

    def begin_step(self, step: Step, data: StepData) -> None:
        super().begin_step(step, data)
        if step.index == 0:
            empty = next(self.network.parameters()).new_zeros(
                0, cast(Backbone, self.network.body).out_channels
            )
            self.prototypes = {Layout.ROWS: empty, Layout.TRUE: empty}
            self.counts = torch.zeros(0, dtype=torch.int64, device=empty.device)
        else:
            self.prototypes = {self._layout: self.prototypes[self._layout]}
        new = len(self.protocol.channels(step.index)) - len(self.counts)
        self.prototypes = {layout: F.pad(means, (0, 0, 0, new)) for layout, means in self.prototypes.items()}
        self.counts = F.pad(self.counts, (0, new))

    def first_step_loss(self, batch: Batch) -> dict[str, Tensor]:
        output = self.network(batch.images, return_features=True)
        features, labels = self._features_and_labels(output, batch)
        self._gather({layout: class_pixels(features.detach(), labels, layout) for layout in self.prototypes})
        return {"cross_entropy": cross_entropy(output.logits, batch.labels)}

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        old_logits = self.teacher_output(batch.images).logits
        output = self.network(batch.images, return_features=True)
        features, labels = self._features_and_labels(output, batch)
        pixels = class_pixels(features, labels, self._layout)
        self._gather({self._layout: pixels})
        choice, prototypes = self.hyperparameters, self.prototypes[self._layout]
        matching_layout = Layout.COLUMNS if choice.mixed_channels else Layout.TRUE
        old_pixels = class_pixels(features, self._old_labels(old_logits, labels), matching_layout)
        shift = self.protocol.has_background_shift
        return {
            **unbiased_losses(
                output.logits, old_logits, batch.labels, choice.kd_weight, choice.kd_alpha, shift
            ),
            "matching": choice.matching_weight
            * prototype_matching(old_pixels, prototypes, choice.match_means),
            "attraction": choice.attraction_weight * attraction(pixels, prototypes, choice.repeated_division),
            "repulsion": choice.repulsion_weight * repulsion(pixels).to(features),
            "sparsity": choice.sparsity_weight * sparsity(features, labels),
        }

    @property
    def _layout(self) -> Layout:
        return Layout.ROWS if self.hyperparameters.mixed_channels else Layout.TRUE

    def _features_and_labels(self, output: SegmenterOutput, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, C, h, w), at least float32 and not negative, and the labels at their size."""
        assert output.features is not None
        features = output.features.out.relu()
        features = features if features.dtype == torch.float64 else features.float()
        return features, nearest(batch.labels, features.shape[2], features.shape[3])

    @torch.no_grad()
    def _gather(self, pixels: Mapping[Layout, ClassPixels]) -> None:
        """Update the prototypes with a batch, of all processes, before its losses are taken."""
        counts = self.counts
        for layout, means in self.prototypes.items():
            batch = class_sums(pixels[layout], means, self._background_is_reliable)
            sums, numbers = sum_over_processes(batch)
            self.prototypes[layout], self.counts = updated_prototypes(means, counts, sums, numbers)

    @property
    def _background_is_reliable(self) -> bool:
        """Whether no other class hides in label 0: without a background, and in a disjoint first step."""
        first_of_disjoint = self.step.index == 0 and self.protocol.setting != "overlapped"
        return first_of_disjoint or not self.protocol.has_background_shift

    def _old_labels(self, old_logits: Tensor, labels: Tensor) -> Tensor:
        """(B, h, w): the old class of a pixel as far as one is known, without the background; else 255."""
        if self.protocol.has_background_shift:
            predicted = nearest(old_logits.argmax(dim=1), labels.shape[1], labels.shape[2])
            return predicted.masked_fill((labels != BACKGROUND) | (predicted == BACKGROUND), IGNORE)
        return labels.masked_fill(labels >= self.num_old_channels, IGNORE)

    def tensors(self) -> dict[str, Tensor]:
        means = {f"{PREFIX}{layout}": tensor for layout, tensor in self.prototypes.items()}
        return {**super().tensors(), **means, COUNTS: self.counts}

    def restore(self, step: Step, tensors: dict[str, Tensor]) -> None:
        network, kept = split_off(tensors, PREFIX)
        super().restore(step, network)
        device = next(self.network.parameters()).device
        self.counts = tensors.get(COUNTS, self.counts).to(device)
        self.prototypes = {layout: kept[layout].to(device) for layout in Layout if layout in kept}

    def lacks(self, step: Step, tensors: Mapping[str, Tensor]) -> str:
        return "" if COUNTS in tensors else "the prototypes of the classes"


class SDRFixed(SDR):
    """SDR with the features of a pixel kept together, and the attraction a mean over the classes."""

    key = "sdr-fixed"
    info = dataclasses.replace(SDR.info, title="SDR, reshapes repaired")

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> SDR.Hyperparameters:
        published = super().default_hyperparameters(protocol, scale)
        return dataclasses.replace(published, mixed_channels=False, repeated_division=False)
