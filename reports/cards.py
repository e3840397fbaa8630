"""Who took part in a run: protocol, method, data and network, as a record states them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from reports.codec import FieldError

TASKS = ("semantic", "panoptic", "instance")
LONGEST_NAME = 200
"""Characters of a name that becomes that of a file."""


@dataclass(frozen=True, kw_only=True)
class ProtocolStep:
    """What one step of the protocol learns: label ids, and the domains (cities) where there are any."""

    classes: tuple[int, ...]
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RulesCard:
    """Where labels go that a step does not learn: 0 = background, 255 = ignored."""

    name: str
    void_in_training: int
    future_at_test: int
    unlabelled_at_test: int
    other_classes: int


@dataclass(frozen=True, kw_only=True)
class ProtocolCard:
    """The protocol as asked for; `steps` are the protocol's, also for a method that trains them as one."""

    name: str
    title: str = ""
    dataset: str
    dataset_title: str
    task: str
    setting: str
    rules: RulesCard
    background: bool
    class_names: tuple[str, ...]
    steps: tuple[ProtocolStep, ...]
    things: tuple[int, ...] = ()
    """Label ids of the countable classes, in a panoptic protocol; the others are stuff."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self, "name")
        if self.task not in TASKS:
            raise FieldError("task", f"found {self.task!r}, expected {', '.join(TASKS)}; correct it or rerun")
        if self.background and self.task != TASKS[0]:
            raise FieldError("background", f"true, but a {self.task} protocol has none; write false or rerun")
        if not self.steps:
            raise FieldError("steps", "[] is empty; a protocol has at least one step")
        if not self.class_names:
            raise FieldError("class_names", "[] is empty; name every label id, the background first")
        check_labels("things", self.things, len(self.class_names))
        for index, step in enumerate(self.steps):
            check_labels(f"steps[{index}].classes", step.classes, len(self.class_names))
        self._check_what_is_taught()

    def _check_what_is_taught(self) -> None:
        taught: set[int] = {0} if self.background else set()
        for index, step in enumerate(self.steps):
            if not step.classes:
                raise FieldError(f"steps[{index}].classes", "[] is empty; a step teaches at least one class")
            again = taught.intersection(step.classes)
            if again and not self.is_domain_incremental:
                before = "is the background" if again == {0} else "was taught by an earlier step"
                raise FieldError(f"steps[{index}].classes", f"{min(again)} {before}; leave it out")
            taught.update(step.classes)

    def labels_known_after(self, step: int) -> set[int]:
        """The label ids of the output channels that a network has then."""
        known = {0} if self.background else set()
        return known.union(*(each.classes for each in self.steps[: step + 1]))

    @property
    def is_domain_incremental(self) -> bool:
        return any(step.domains for step in self.steps)

    @property
    def zero_is_unlabelled(self) -> bool:
        """Whether the background channel is what nobody labelled (ADE), not a background of its own (VOC)."""
        return self.background and self.class_names[0] != "background"


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """Who the method is. `name` is the row's, overrides included (`mib[kd_weight=100]`); `key` is `mib`."""

    name: str
    key: str
    title: str
    venue: str
    year: int | None
    provenance: str
    """`port of REPO@commit`, `paper only` or `baseline`."""
    origin: str
    """`built-in` or `file: my_method.py`."""
    url: str

    def __post_init__(self) -> None:
        check_name(self, "name", "key")


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """What was read. `root` is the folder's display name, never an absolute path."""

    synthetic: bool
    root: str
    train_images: int
    val_images: int

    def __post_init__(self) -> None:
        check_not_negative(self, "train_images", "val_images")
        absolute = PurePosixPath(self.root).is_absolute() or PureWindowsPath(self.root).is_absolute()
        if absolute or self.root.startswith("~"):
            problem = f"{self.root!r} is an absolute path of one machine; write the folder's name only"
            raise FieldError("root", problem)

    @property
    def kind(self) -> str:
        return "synthetic" if self.synthetic else "real"


@dataclass(frozen=True, kw_only=True)
class NetworkCard:
    """The network after the last step."""

    name: str
    backbone: str
    parameters: int

    def __post_init__(self) -> None:
        check_not_negative(self, "parameters")


def check_name(card: object, *names: str) -> None:
    """Raise `FieldError` for the first of the named texts that cannot name a row or a file."""
    for name in names:
        value = getattr(card, name)
        if not value or len(value) > LONGEST_NAME or not value.isprintable():
            shown = value[:LONGEST_NAME]
            problem = f"{shown!r} has {len(value)} characters, expected 1..{LONGEST_NAME} printable ones"
            raise FieldError(name, f"{problem}; choose another name")


def check_labels(field: str, labels: tuple[int, ...], num_labels: int) -> None:
    if labels and not (min(labels) >= 0 and max(labels) < num_labels):
        position, label = next((i, label) for i, label in enumerate(labels) if not 0 <= label < num_labels)
        problem = f"{label} is no label id, expected 0..{num_labels - 1} (class_names); correct it or rerun"
        raise FieldError(f"{field}[{position}]", problem)
    if len(set(labels)) != len(labels):
        raise FieldError(field, "a label id occurs twice; correct it or rerun the benchmark")


def check_not_negative(record: object, *names: str) -> None:
    """Raise `FieldError` for the first of the named numbers that is below zero."""
    for name in names:
        value = getattr(record, name)
        if value < 0:
            raise FieldError(name, f"{value} is negative, expected a number >= 0; correct it or rerun")
