"""What is learnt and when: the frozen description of a continual segmentation protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace

BACKGROUND = 0
IGNORE = 255
SETTINGS = ("overlapped", "disjoint", "partitioned")
TASKS = ("semantic", "panoptic", "instance")


@dataclass(frozen=True)
class LabelRules:
    """What happens to the labels that a step does not learn.

    Each field holds the value written to the target: `BACKGROUND` (0) or `IGNORE` (255). The two presets
    follow the official repositories (MiB `dataset/voc.py`, `dataset/ade.py`; PLOP the same files):
    `plop` is also RCIL's; see spec table "Label mapping per split".
    """

    name: str
    void_in_training: int
    """Where a raw 255 (the VOC object border) goes in training."""
    future_at_test: int
    """Where the classes of later steps go in the test targets of a step."""
    unlabelled_at_test: int
    """Where ADE's raw 0 ("other objects") goes in the test targets. VOC's raw 0 is background: always 0."""


RULES = {
    "plop": LabelRules(
        "plop", void_in_training=IGNORE, future_at_test=BACKGROUND, unlabelled_at_test=BACKGROUND
    ),
    "mib": LabelRules("mib", void_in_training=BACKGROUND, future_at_test=IGNORE, unlabelled_at_test=IGNORE),
}


@dataclass(frozen=True)
class Step:
    """One step: the classes learnt now and those learnt before, as label ids in channel order.

    Background is in neither tuple. In a domain-incremental protocol `classes` repeats all classes at each
    step, `old_classes` holds them again from the second step on, and `domains` names the cities learnt now.
    """

    index: int
    classes: tuple[int, ...]
    old_classes: tuple[int, ...] = ()
    domains: tuple[str, ...] = ()
    old_domains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """A data set, a task, a class order cut into steps, a setting and its rules. Frozen and hashable."""

    name: str
    dataset: str
    task: str
    setting: str
    steps: tuple[Step, ...]
    class_names: tuple[str, ...]
    """Indexed by label id; entry 0 is the background (or the unlabelled rest)."""
    background: bool = True
    """Whether channel 0 of the network is a background class."""
    rules: LabelRules = RULES["plop"]
    other_classes: int = IGNORE
    """Where the classes that are in no step go, in training and test."""
    things: tuple[int, ...] = ()
    """Label ids of the countable classes (the others are stuff); only where there are segments."""
    notes: tuple[str, ...] = ()
    """What a reader of the card must know, such as a known leak."""

    @property
    def is_domain_incremental(self) -> bool:
        return bool(self.steps[0].domains)

    @property
    def has_segments(self) -> bool:
        """Whether images have segments (panoptic, instance) instead of one class a pixel."""
        return self.task != "semantic"

    @property
    def has_background_shift(self) -> bool:
        """Whether the background of a step hides the classes of other steps, which is what MiB names so."""
        return self.background and not self.is_domain_incremental

    @property
    def zero_is_background(self) -> bool:
        """Whether label id 0 is true background (VOC), not what nobody labelled (ADE, Cityscapes)."""
        return self.class_names[BACKGROUND] == "background"

    @property
    def left_out(self) -> list[int]:
        """Label ids of the classes that no step learns, ascending."""
        last = self.steps[-1]
        return sorted(set(range(1, len(self.class_names))) - set(last.old_classes + last.classes))

    def is_division(self, division: str) -> bool:
        """Whether this is the named division of its data set, such as "voc-15-1", in any setting or order."""
        return self.name == division or self.name.startswith(tuple(division + mark for mark in "-+@"))

    def channels(self, step: int) -> tuple[int, ...]:
        """The label id of each output channel after `step`, background (0) first where there is one."""
        learnt = self.steps[step]
        old = () if self.is_domain_incremental else learnt.old_classes
        return ((BACKGROUND,) if self.background else ()) + old + learnt.classes

    def num_old_channels(self, step: int) -> int:
        """Channels that the network had before `step`: O in the papers, 0 at the first step."""
        return len(self.channels(step - 1)) if step else 0

    def joint(self) -> Protocol:
        """The same classes and domains in a single step: what `joint` trains on ("offline")."""
        last = self.steps[-1]
        if self.is_domain_incremental:
            only = Step(0, last.classes, domains=last.old_domains + last.domains)
        else:
            only = Step(0, last.old_classes + last.classes)
        return replace(self, steps=(only,))
