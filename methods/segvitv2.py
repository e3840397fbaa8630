"""SegViTv2: every step gets a head of its own, and all that was learnt before is frozen."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from methods.method import Info
from methods.segvit import SegViTMethod
from protocols.loading import Batch
from protocols.protocol import Step


class SegViTv2(SegViTMethod):
    """Old scores cannot change; an old class loses a pixel only where a new one scores higher.

    The continual code was never released. This is the procedure of the overview figure. What that leaves
    open can be set: what grows (`grow`), how it starts (`start`), whether frozen parts are noisy (`noise`),
    which head (`recipe.self_attention`, `recipe.shared_classifier`), which encoder (`recipe.backbone`,
    `recipe.weights`) and whether the first step trains it (`recipe.backbone_lr_factor`, 0: no), iterations
    and learning rates (CIT's). Not open to setting are that scores of the heads stand side by side without
    calibration, and that pixels of other classes and of none are negatives of the new masks. A head sees
    only images with its own classes, so that it finds them too often elsewhere: the shorter a step, the more.
    In a domain-incremental protocol the only head goes on learning on the frozen encoder.
    """

    key = "segvitv2"
    info = Info(
        "SegViTv2",
        venue="IJCV",
        year=2023,
        provenance="paper only",
        url="https://arxiv.org/abs/2306.06289",
    )

    @dataclass(frozen=True)
    class Hyperparameters:
        grow: str = "head"
        """ "head": a cascade and a classifier a step, as in the paper's figure; "tokens": class tokens alone,
        in the first step's head, as its text on class proxies can be read."""
        start: str = "random"
        """ "random", or "copy" of the head before, as in CIT. Nothing is known of the paper's."""
        noise: bool = False
        """Whether the frozen encoder keeps its stochastic depth in training, as in CIT."""

        def __post_init__(self) -> None:
            for name, known in (("grow", ("head", "tokens")), ("start", ("random", "copy"))):
                if getattr(self, name) not in known:
                    raise ValueError(
                        f"segvitv2: {name} = {getattr(self, name)!r} must be {' or '.join(known)}"
                    )

    hyperparameters: Hyperparameters

    def check(self) -> None:
        alone = self.recipe.shared_classifier and not self.recipe.self_attention
        if self.hyperparameters.grow == "tokens" and not alone:
            raise ValueError(
                "segvitv2: with grow = 'tokens' new classes must not change old ones; set "
                "recipe.self_attention = false and recipe.shared_classifier = true"
            )

    def begin_later_step(self, step: Step) -> None:
        self.network.requires_grad_(False)
        self.network.noisy_when_frozen = self.hyperparameters.noise
        previous, num_classes = self.network.newest, len(step.classes)
        if self.protocol.is_domain_incremental:
            previous.requires_grad_(True)
        elif self.hyperparameters.grow == "tokens":
            previous.grow(num_classes)
        else:
            self.network.add_head(num_classes)
            if self.hyperparameters.start == "copy":
                self.network.newest.start_from(previous)

    def later_loss(self, batch: Batch) -> dict[str, Tensor]:
        output = self.network(batch.images)
        if self.hyperparameters.grow == "tokens":
            output = output.classes_from(self.num_old_classes)
        return self.losses(output, self.class_numbers(batch.labels, self.num_old_classes))
