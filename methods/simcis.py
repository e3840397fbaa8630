"""SimCIS: "Rethinking Query-based Transformer for Continual Image Segmentation", CVPR 2025."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.losses.boxes import box_costs, box_losses, boxes_of_masks
from methods.losses.focal import focal_class_cost, focal_classification
from methods.losses.mask_pseudo_labels import joined, merge_classes, pseudo_segments
from methods.losses.matching import Matching, match, padded_size
from methods.losses.query_distillation import selection_consistency
from methods.losses.set_prediction import mask_losses, num_masks, target_classes
from methods.mask2former import DICE_WEIGHT, MASK_WEIGHT, SetPredictionMethod
from methods.mask2former_recipe import Mask2FormerRecipe
from methods.method import Info, split_off
from methods.networks.mask2former.inference import panoptic_prediction, resize_logits
from methods.networks.mask2former.sigmoid_inference import (
    assigned_classes,
    learnt_segments,
    likely_queries,
    resize_classes,
)
from methods.networks.mask2former.simcis import SimCISNetwork, SimCISOutput, Teaching
from methods.predictions import PanopticPrediction
from methods.virtual_queries import QueryBank, sampling_weights
from ops.processes import gathered, of_first_process
from protocols.loading import Batch, StepData
from protocols.protocol import Protocol, Step
from protocols.segments import Segments

BOX_WEIGHT, GIOU_WEIGHT = MASK_WEIGHT, 2.0
"""Of the costs and of the losses: SimCIS maskformer_model.py@MaskFormer.from_config."""
BANK = "bank."
"""Before the names of the bank's tensors."""
QUERIES = re.compile(r"queries\.\d{1,4}")
"""Names of the official bank's features, (N, C) each, after conversion: the class is the number."""


class SimCIS(SetPredictionMethod):
    """The class head has all classes of the protocol from the first step on."""

    key = "simcis"
    info = Info(
        "SimCIS",
        venue="CVPR",
        year=2025,
        provenance="port of SooLab/SimCIS@28bc91e",
        url="https://arxiv.org/abs/2507.07831",
        tasks=("semantic", "panoptic"),
    )
    first_step = "simcis"
    first_step_hyperparameters = ("class_weight", "class_prior", "bank_size", "next_class_labelled")
    network_name = "SimCIS"
    knows_all_classes = True
    carried = (BANK,)
    keeps_teacher = True

    @dataclass(frozen=True)
    class Hyperparameters:
        """The defaults are those of panoptic 100-10; sources: SimCIS `configs/ade20k` and `scripts`."""

        class_weight: float = 4.0
        """Of the focal loss and of its cost in matching: `CLASS_WEIGHT`; 2 for semantic segmentation."""
        class_prior: float = 0.5
        """Probability of every class before training; 0.5: torch's default, as officially."""
        pseudo_label_threshold: float = 0.35
        """Probability above which the old network is believed: `PSD_LABEL_THRESHOLD`; 0 for semantic."""
        overlap_threshold: float = 0.8
        """Share of its pixels that others must leave a pseudo-label: `PSD_OVERLAP_THRESHOLD`."""
        distillation_weight: float = 2.0
        """Of the consistent selection loss, and of the decoder's: `KL_WEIGHT`."""
        temperature: float = 1.0
        """Of the consistent selection loss: `KD_TEMPERATURE`."""
        distils_decoder: bool = False
        """Whether the decoder's last layer is distilled too: `KD_DECODER`. Not in the paper."""
        decoder_temperature: float = 1.0
        """`KD_TEMPERATURE2`."""
        own_boxes: bool = False
        """Whether the distilled queries start from the boxes of their own places. In the official code they
        start from those of other queries, the ones that the new network selects."""
        virtual_queries: int = 1
        """For each image: `VQ_NUMBER`."""
        bank_size: int = 80
        """Features kept of each class: `LIB_SIZE`, paper table 5."""
        sampling_exponent: float = 0.5
        """α of the virtual queries' sampling weights: `DISTRIBUTION_ALPHA`, paper equation 9."""
        next_class_labelled: bool = True
        """Semantic: whether the first class of the next step is labelled already. Known fault of
        continual/continual_semantic_dataset_mapper.py, whose upper bound is one too high; images that show
        this class get no pseudo-labels besides."""

        def __post_init__(self) -> None:
            if not 0 < self.class_prior < 1:
                raise ValueError(f"simcis: class_prior = {self.class_prior} must be between 0 and 1")

    hyperparameters: Hyperparameters
    network: SimCISNetwork
    teacher: SimCISNetwork | None = None

    @classmethod
    def default_hyperparameters(cls, protocol: Protocol, scale: str) -> Hyperparameters:
        published = cls.published_hyperparameters(protocol)
        if scale == "paper":
            return published
        # Ours, chosen on the stand-in. Without the prior the first hundreds of iterations push all classes
        # down, and neither classes nor masks are learnt meanwhile. Distillation keeps its share beside the
        # class loss.
        return replace(
            published,
            class_weight=25.0,
            class_prior=0.01,
            pseudo_label_threshold=0.1,
            distillation_weight=25.0,
        )

    @classmethod
    def published_hyperparameters(cls, protocol: Protocol) -> Hyperparameters:
        """Of the published division with as many classes a step: 50 or more, 10 or more, or fewer."""
        per_step = len(protocol.steps[-1].classes)
        if protocol.task == "semantic":  # configs/ade20k/semantic-segmentation/100-{50,10,5}.yaml
            values = cls.Hyperparameters(class_weight=2.0, pseudo_label_threshold=0.0, distils_decoder=True)
            if per_step >= 50:
                return replace(values, distils_decoder=False, sampling_exponent=0.25)
            if per_step >= 10:
                return replace(values, decoder_temperature=4.0)
            return replace(values, virtual_queries=3, decoder_temperature=2.0)
        values = cls.Hyperparameters()  # configs/ade20k/panoptic-segmentation/100-{50,10,5}.yaml
        if per_step >= 50:
            return replace(values, virtual_queries=0, sampling_exponent=0.25)
        if per_step >= 10:
            return values
        return replace(values, virtual_queries=5, distils_decoder=True)

    @classmethod
    def default_recipe(cls, protocol: Protocol, scale: str) -> Mask2FormerRecipe:
        recipe = super().default_recipe(protocol, scale)
        if scale != "paper":  # queries are surer of a class after longer training
            return replace(recipe, object_threshold=0.1, iterations=700)
        per_step, semantic = len(protocol.steps[-1].classes), protocol.task == "semantic"
        long = per_step >= 50
        threshold = 0.2 if long else 0.3 if per_step >= 10 else 0.25
        return replace(
            recipe,
            train_backbone_norm=False,
            lr_drops=(135 / 160, 150 / 160),
            later_lr_drops=(0.8, 0.9) if long and not semantic else (0.85, 0.95),
            object_threshold=0.4 if semantic else threshold,  # semantic_inference, fixed
            source="SimCIS configs/ade20k; the first step by a comment in its scripts",
        )

    def build(self, protocol: Protocol) -> None:
        super().build(protocol)
        self.bank = QueryBank(self.num_classes, self.hyperparameters.bank_size, self.recipe.hidden)

    def make_network(self, protocol: Protocol) -> SimCISNetwork:
        network = SimCISNetwork(self.recipe.network(), self.num_classes)
        prior = self.hyperparameters.class_prior
        if prior != 0.5:
            nn.init.constant_(network.predictor.class_embed.bias, math.log(prior / (1 - prior)))
        return network

    def num_learnt(self, step: int) -> int:
        """Classes learnt up to and with `step`."""
        return len(self.protocol.channels(step)) - self.protocol.background

    @property
    def num_classes(self) -> int:
        """K, of the whole protocol."""
        return self.num_learnt(len(self.protocol.steps) - 1)

    @property
    def class_labels(self) -> tuple[int, ...]:
        return self.protocol.channels(len(self.protocol.steps) - 1)[int(self.protocol.background) :]

    def training_data(self, step: Step, data: StepData) -> StepData:
        if self.protocol.task != "semantic" or not self.hyperparameters.next_class_labelled:
            return data
        return data.with_next_class()

    def begin_later_step(self, step: Step, data: StepData) -> None:
        """Count the old classes among the pseudo-labels of one epoch; rare ones will be drawn more often."""
        if not self.hyperparameters.virtual_queries:
            return
        counts = torch.zeros(self.num_classes, dtype=torch.int64)
        for batch in self.training_data(step, data).first_epoch():
            for segments in self.pseudo_labels(self.teacher_output(batch.images), self.targets(batch)):
                counts += segments.classes.bincount(minlength=self.num_classes).cpu()
        counts = of_first_process(counts)  # each process sees all data
        num_old = self.num_learnt(step.index - 1)
        self.sampling_weights = sampling_weights(counts[:num_old], self.hyperparameters.sampling_exponent)

    def first_step_loss(self, batch: Batch) -> dict[str, Tensor]:
        output, targets = self.network(batch.images), self.targets(batch)
        losses = self.set_losses(output, targets)
        self.remember(output, targets)
        return losses

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        old = self.teacher_output(batch.images)
        labels, virtual = self.draw_virtual_queries(len(batch.images))
        choice = self.hyperparameters
        teaching = Teaching(old.places, choice.distils_decoder, choice.own_boxes)
        output: SimCISOutput = self.network(batch.images, virtual, teaching)
        truth = self.targets(batch)
        completed = [*map(joined, self.pseudo_labels(old, truth), truth)]
        # An image with a label of another step counts as one of a memory, which gets no pseudo-labels.
        memory = self.shows_other_steps(truth).tolist()
        targets = [t if m else c for t, c, m in zip(truth, completed, memory, strict=True)]
        losses = self.set_losses(output, targets, labels)
        self.remember(output, completed)
        return losses | self.distillation(old, output)

    def distillation(self, old: SimCISOutput, new: SimCISOutput) -> dict[str, Tensor]:
        """The consistent selection loss, and the decoder's where it is distilled."""
        assert new.distilled is not None
        choice = self.hyperparameters
        kl = selection_consistency(new.distilled.selected, old.layer_logits[0], choice.temperature)
        losses = {"selection": choice.distillation_weight * kl}
        if new.distilled.final is not None:
            kl = selection_consistency(new.distilled.final, old.logits, choice.decoder_temperature)
            losses["decoder"] = choice.distillation_weight * kl
        return losses

    @torch.no_grad()
    def pseudo_labels(self, old: SimCISOutput, truth: Sequence[Segments]) -> list[Segments]:
        """What the old network sees where no label is; in the semantic task one segment a class."""
        choice, semantic = self.hyperparameters, self.protocol.task == "semantic"
        found = []
        for logits, masks, target in zip(old.logits, old.masks, truth, strict=True):
            index, scores, classes = likely_queries(
                logits,
                choice.pseudo_label_threshold,
                sharp=not semantic,
                except_class=self.num_learnt(self.step.index - 1),
            )
            size = (target.masks.shape[1], target.masks.shape[2])
            covered = target.masks.any(dim=0)
            segments = pseudo_segments(scores, classes, masks[index], size, covered, choice.overlap_threshold)
            found.append(merge_classes(segments) if semantic else segments)
        return found

    def draw_virtual_queries(self, images: int) -> tuple[Tensor | None, Tensor | None]:
        """Classes (B, V) and features (B, V, C); None where there are none."""
        number = self.hyperparameters.virtual_queries
        if not number:
            return None, None
        classes, features = self.bank.draw(self.sampling_weights, number * images)
        if not len(classes):
            return None, None
        device = self.network.predictor.class_embed.weight.device
        return classes.view(images, -1).to(device), features.view(images, -1, features.shape[1]).to(device)

    @torch.no_grad()
    def remember(self, output: SimCISOutput, targets: Sequence[Segments]) -> None:
        """Keep what the queries matched with a target started from. Virtual queries are matched too.

        Of all processes, one after the other, where each official one has a smaller bank of its own, which
        are joined after the step.
        """
        if self.step.index and not self.hyperparameters.virtual_queries:
            return
        matching = self.match(output, targets, final=True)
        classes = torch.cat([target.classes for target in targets])[matching.targets[0]]
        features = output.queries[matching.images, matching.queries[0]]
        self.bank.add(torch.cat(gathered(classes)), torch.cat(gathered(features)))

    def match(self, output: SimCISOutput, targets: Sequence[Segments], final: bool = False) -> Matching:
        """Pairs of all predictions' selected queries and targets; or all queries of the `final` one."""
        layers = slice(-1, None) if final else slice(None)
        queries = slice(None) if final else slice(output.num_queries)
        boxes = output.layer_boxes[layers, :, queries]
        further = []
        for image, target in enumerate(targets):
            distance, overlap = box_costs(boxes[:, image], boxes_of_masks(target.masks))
            further.append(BOX_WEIGHT * distance + GIOU_WEIGHT * overlap)
        return match(
            output.layer_logits[layers, :, queries],
            output.mask_embeddings[layers, :, queries],
            output.mask_features,
            targets,
            self.recipe.num_points,
            (self.hyperparameters.class_weight, MASK_WEIGHT, DICE_WEIGHT),
            cost_of_class=focal_class_cost,
            further_costs=further,
        )

    def set_losses(
        self, output: SimCISOutput, targets: Sequence[Segments], virtual_classes: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Classes, masks, dice and boxes of all predictions, weighted and summed over them.

        Virtual queries take part in the loss of the classes alone, and do not count as targets.
        """
        matching, divisor = self.match(output, targets), num_masks(targets)
        classes = target_classes(matching, targets, output.num_queries, self.num_classes)
        if virtual_classes is not None:
            classes = torch.cat([classes, virtual_classes.expand(len(classes), -1, -1)], dim=2)
        focal = focal_classification(output.layer_logits, classes, divisor)
        masks, dice = mask_losses(
            output.mask_embeddings, output.mask_features, targets, matching, divisor, self.recipe.num_points
        )
        layers = torch.arange(len(matching.queries), device=classes.device)[:, None]
        target_boxes = torch.cat([boxes_of_masks(target.masks) for target in targets])
        distance, overlap = box_losses(
            output.layer_boxes[layers, matching.images, matching.queries],
            target_boxes[matching.targets],
            divisor,
        )
        return {
            "class": self.hyperparameters.class_weight * focal.sum(),
            "mask": MASK_WEIGHT * masks.sum(),
            "dice": DICE_WEIGHT * dice.sum(),
            "box": BOX_WEIGHT * distance.sum(),
            "giou": GIOU_WEIGHT * overlap.sum(),
        }

    def predict_image(self, image: Tensor, size: tuple[int, int]) -> Tensor | PanopticPrediction:
        """Pixels that no query gets are background, or void; so are those of classes not learnt yet."""
        output: SimCISOutput = self.network(image)
        seen = (image.shape[2], image.shape[3])
        if self.protocol.task == "semantic":
            return self.class_map(output, seen, size)
        recipe, masks = self.recipe, output.masks[0]
        index, scores, classes = likely_queries(output.logits[0], recipe.object_threshold)
        masks = resize_logits(masks[index], padded_size(masks), seen, size)
        things = self.is_thing(image.device)
        found = panoptic_prediction(scores, classes, masks, things, recipe.overlap_threshold)
        return learnt_segments(found, self.num_learnt(self.step.index))

    def class_map(self, output: SimCISOutput, seen: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """int64 `size`: channels, found on the padded image, of which the network was to see `seen`."""
        learnt, background = self.num_learnt(self.step.index), int(self.protocol.background)
        logits, padded = output.logits[0].float(), padded_size(output.masks)
        masks = F.interpolate(output.masks, padded, mode="bilinear", align_corners=False)[0]
        recipe = self.recipe
        index, scores, classes = likely_queries(logits, recipe.object_threshold, except_class=learnt)
        found = assigned_classes(scores, classes, masks[index], self.num_classes, recipe.overlap_threshold)
        if not background:  # no channel says "nothing": the likeliest learnt class does
            shares = torch.einsum("qk,qhw->khw", logits[:, :learnt].sigmoid(), masks.sigmoid())
            found = torch.where(found < learnt, found, shares.argmax(dim=0))
        found = resize_classes(found[: seen[0], : seen[1]], size)
        return torch.where(found < learnt, found + background, 0)

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | {BANK + name: tensor for name, tensor in self.bank.tensors().items()}

    def official_tensors(self, step: Step, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`model` of a checkpoint, and the queries of `fake_query.pkl` where they were converted too."""
        queries = {int(k.rpartition(".")[2]): v for k, v in state.items() if QUERIES.fullmatch(k)}
        for label, features in sorted(queries.items()):
            self.bank.add(torch.full((len(features),), label), features)
        bank = {BANK + name: tensor for name, tensor in self.bank.tensors().items()} if queries else {}
        network = {name: tensor for name, tensor in state.items() if not QUERIES.fullmatch(name)}
        return super().official_tensors(step, network) | bank

    def lacks(self, step: Step, tensors: Mapping[str, Tensor]) -> str:
        needed = self.hyperparameters.virtual_queries and not any(name.startswith(BANK) for name in tensors)
        return "the bank of queries (fake_query.pkl beside the official checkpoint)" if needed else ""

    def restore(self, step: Step, tensors: dict[str, Tensor]) -> None:
        network, bank = split_off(tensors, BANK)
        self.bank.restore(bank)
        super().restore(step, network)
