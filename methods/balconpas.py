"""BalConpas: "Strike a Balance in Continual Panoptic Segmentation", ECCV 2024."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.losses.mask_pseudo_labels import joined, pseudo_segments
from methods.losses.matching import Matching
from methods.losses.token_distillation import token_distillation
from methods.mask2former import Mask2FormerMethod
from methods.method import Info
from methods.networks.mask2former.decoder import Mask2FormerOutput
from methods.networks.mask2former.inference import confident_queries
from protocols.loading import Batch
from protocols.protocol import TASKS
from protocols.segments import Segments


class BalConpas(Mask2FormerMethod):
    key = "balconpas"
    info = Info(
        "BalConpas",
        venue="ECCV",
        year=2024,
        provenance="port of jinpeng0528/BalConpas@3b76142",
        url="https://arxiv.org/abs/2407.16354",
        tasks=TASKS,
    )
    keeps_teacher = True

    @dataclass(frozen=True)
    class Hyperparameters:
        token_weight: float = 5.0
        """Factor of the distillation of the decoder's queries: `configs`, `CONT.MED_TOKENS_WEIGHT`."""
        overlap_threshold: float = 0.8
        """Least share of a pseudo-label's pixels that labels and surer ones leave it: `configs`,
        `MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD`."""

    hyperparameters: Hyperparameters

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        labelled, old_output = self.targets(batch), self.teacher_output(batch.images)
        replayed = self.shows_other_steps(labelled)
        is_replayed = replayed.tolist()
        pseudo = self.pseudo_labels(old_output, labelled, is_replayed)
        targets = [
            label if replay else joined(found, label)
            for found, label, replay in zip(pseudo, labelled, is_replayed, strict=True)
        ]
        output = self.network(batch.images)
        matching = self.match(output, targets)
        chosen = self.backtraced(matching, targets, pseudo)
        tokens = token_distillation(output.tokens, old_output.tokens, chosen)
        return {
            **self.set_losses(output, targets, matching, replayed),
            "tokens": self.hyperparameters.token_weight * tokens.sum(),
        }

    def pseudo_labels(
        self, old_output: Mask2FormerOutput, labelled: Sequence[Segments], is_replayed: Sequence[bool]
    ) -> list[Segments]:
        """The old network's segments of each image; labels cover them, except in replayed images.

        Source: maskformer_model.py@MaskFormer.forward(psd_label=True), without a threshold on the score.
        """
        threshold, found = self.hyperparameters.overlap_threshold, []
        for image, (label, replay) in enumerate(zip(labelled, is_replayed, strict=True)):
            index, scores, classes = confident_queries(old_output.logits[image], threshold=0.0)
            masks, covered = old_output.masks[image][index], None if replay else label.masks.any(dim=0)
            size = (label.masks.shape[1], label.masks.shape[2])
            found.append(pseudo_segments(scores, classes, masks, size, covered, threshold))
        return found

    def backtraced(
        self, matching: Matching, targets: Sequence[Segments], pseudo: Sequence[Segments]
    ) -> Tensor:
        """bool (B, Q): queries matched, by the final prediction, with one of the first P targets of their
        image, P being the number of its pseudo-labels, which come first.

        Known fault, kept since the published numbers were made with it: a replayed image has no pseudo-label
        among its targets, and yet its first P labels count. criterion.py@SetCriterion.forward.
        """
        places = matching.targets_in_image([len(target.classes) for target in targets])[-1]
        number = torch.tensor([len(found.classes) for found in pseudo], device=places.device)
        chosen = torch.zeros(len(targets), self.recipe.num_queries, dtype=torch.bool, device=places.device)
        chosen[matching.images, matching.queries[-1]] = places < number[matching.images]
        return chosen
