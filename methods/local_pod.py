"""What PLOP and EWF share: local POD of the features, and labels that the old network completes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from methods.deeplab import DeepLabMethod
from methods.losses.features import schedule
from methods.losses.pod import local_pod, pod_distillation
from methods.losses.pseudo_labels import (
    complete_labels,
    entropy_histogram,
    medians,
    official_medians,
    pixel_entropy,
)
from methods.losses.segmentation import cross_entropy
from methods.networks.segmenter import SegmenterOutput
from ops.processes import of_first_process
from protocols.loading import Batch, StepData
from protocols.protocol import BACKGROUND, Protocol, Step


class LocalPODMethod(DeepLabMethod):
    """PLOP's loss of the later steps: cross-entropy on completed labels and local POD."""

    keeps_teacher = True
    background_initialisation = True

    @dataclass(frozen=True)
    class Hyperparameters:
        pod_weight: float = 0.01
        """Factor of the feature maps' distances: PLOP `argparser.py@modify_command_options`, `pod_factor`."""
        pod_logits_weight: float = 0.0005
        """Factor of the small logits' distance: the same, `pod_options`."""
        pod_scales: tuple[int, ...] = (1, 2, 4)
        """Tiles a side: paper section 4.1, `--spp_scales`."""
        pseudo_labels: bool = True
        """Whether the old network completes the labels: `--pseudo entropy`."""
        adaptive_factor: bool = True
        """Whether ν weighs each image's loss: paper section 3.3, `--classif_adaptive_factor`."""
        threshold: float = 0.001
        """Lower bound of the entropy thresholds: `--threshold`. The paper has it as an upper bound."""
        bins: int = 100
        """Bins of the entropy histograms: `train.py@Trainer.find_median`."""
        averaged_entropy: bool = True
        """Whether the entropy is a mean over the classes, in 0..1/O, as in `train.py@entropy`. On ADE all
        pixels then fall into one bin and every one is certain."""
        true_medians: bool = False
        """Whether the medians are found by counts; `train.py@Trainer.find_median` adds bin indices."""

    hyperparameters: Hyperparameters

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> Hyperparameters:
        values = cls.Hyperparameters()
        if protocol.dataset == "ade":  # PLOP scripts/ade/*.sh
            return dataclasses.replace(values, pod_weight=1e-3, pod_logits_weight=1e-5)
        if protocol.is_domain_incremental:  # PLOP scripts/cityscapesDomain/*.sh; none for 11-5
            logits = 1e-3 if protocol.is_division("cityscapes-domain-1-1") else 1e-4
            return dataclasses.replace(values, pod_weight=1e-4, pod_logits_weight=logits)
        return values

    def begin_later_step(self, step: Step, data: StepData) -> None:
        if self._completes_labels:
            self.thresholds = self._class_thresholds(data)

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        old = self.teacher_output(batch.images, return_features=True)
        new = self.network(batch.images, return_features=True)
        if not self._completes_labels:
            return {"cross_entropy": cross_entropy(new.logits, batch.labels), "pod": self._pod(old, new)}
        uncertainty, predictions = self._uncertainty(old.logits)
        certain = uncertainty < self.thresholds[predictions]
        labels, share = complete_labels(batch.labels, predictions, certain, self.num_old_channels)
        weights = share if self.hyperparameters.adaptive_factor else None
        return {"cross_entropy": cross_entropy(new.logits, labels, weights), "pod": self._pod(old, new)}

    @property
    def _completes_labels(self) -> bool:
        # On Cityscapes' domains there is nothing to complete: PLOP scripts/cityscapesDomain, method FT.
        return self.hyperparameters.pseudo_labels and self.protocol.has_background_shift

    def _pod(self, old: SegmenterOutput, new: SegmenterOutput) -> Tensor:
        """Local POD of the groups before their activation, the head's output and the small logits."""
        assert old.features is not None and new.features is not None
        weights = self.hyperparameters
        pod = pod_distillation(
            [*old.features.residuals, old.pre_logits, old.small_logits],
            [*new.features.residuals, new.pre_logits, self.as_old_channels(new.small_logits)],
            [weights.pod_weight] * (len(old.features.residuals) + 1) + [weights.pod_logits_weight],
            partial(local_pod, scales=weights.pod_scales),
        )
        return schedule(self.network.cls.num_classes, len(self.step.classes)) * pod

    def _uncertainty(self, old_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Entropy in 0..1 and the predicted class, each (B, H, W)."""
        probabilities = old_logits.softmax(dim=1)
        entropy = pixel_entropy(probabilities, self.hyperparameters.averaged_entropy)
        # Normalised by ln O already, and here by ln K again: train.py@Trainer.find_median, `max_value`.
        return entropy / math.log(self.network.cls.num_classes), probabilities.argmax(dim=1)

    def _class_thresholds(self, data: StepData) -> Tensor:
        """(K,) entropies below which a prediction of that class is believed, from one pass over the data."""
        choice, num_channels = self.hyperparameters, self.network.cls.num_classes
        histogram = entropy_histogram(self._background_uncertainties(data), num_channels, choice.bins)
        found = medians(histogram) if choice.true_medians else official_medians(histogram)
        thresholds = torch.from_numpy(found).clamp(min=choice.threshold).float().to(data.device)
        # Each process sees all data, where each official one has thresholds of its own share.
        return of_first_process(thresholds)

    def _background_uncertainties(self, data: StepData) -> Iterator[tuple[Tensor, Tensor]]:
        # The batches that the training is about to see first, as the official loader's first pass.
        for batch in data.first_epoch():
            uncertainty, predictions = self._uncertainty(self.teacher_output(batch.images).logits)
            background = batch.labels == BACKGROUND
            yield uncertainty[background], predictions[background]
