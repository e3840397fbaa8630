"""The published number that a measured one may stand beside: same data, task, setting and conventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.papers import ORIGINS, PublishedValue, published
from reports.record import ProtocolCard, Record

HEADLINES = ("all", "all_labelled", "all_assigned", "all_no_background")
"""The columns of which a table shows one a row: the first in which the paper has a number."""
TEST_IMAGES = {"voc": 1449, "ade": 2000, "cityscapes": 500}
"""Validation images of the published data sets."""
HARMLESS = {"weights", "checkpoint"}
"""What may be set by hand and the row still be the published method: where the ImageNet weights lie, or a
network that was read from a file, of which a remark tells."""


@dataclass(frozen=True)
class Comparison:
    """One measured number beside a published one, in per cent."""

    column: str
    """The leaderboard's column that measures what the paper printed."""
    published: PublishedValue
    difference: float
    """Measured minus published, in points."""
    remarks: tuple[str, ...]
    """What a reader must know before he believes the difference; () if nothing."""


def compare(records: Sequence[Record], row: dict[str, float | None]) -> list[Comparison]:
    """The published counterparts of a row's columns, headline columns first; [] where nothing is comparable.

    `records` are the row's finished runs. The first-hand number is taken where there is one, else the one
    against which the least is known.
    """
    if not records or not all(_is_published_setup(record) for record in records):
        return []
    record = records[0]
    candidates = [value for value in _candidates(record) if row.get(value.column) is not None]
    best: dict[str, PublishedValue] = {}
    for value in sorted(candidates, key=_doubt):
        best.setdefault(value.column, value)
    order = dict.fromkeys(name for name in (*HEADLINES, *row) if name in best)
    return [
        Comparison(name, best[name], measured - best[name].value, _remarks(record, best[name]))
        for name in order
        if (measured := row[name]) is not None
    ]


def _is_published_setup(record: Record) -> bool:
    """Whether this run may be held against papers: the real, whole data and the method as published."""
    protocol, data = record.protocol, record.data
    if data.synthetic or record.method.origin != "built-in" or record.overrides.keys() - HARMLESS:
        return False
    if any(note.startswith(f"{protocol.dataset_title} has ") for note in protocol.notes):
        return False  # `Dataset.differences`: images are missing, or there are more
    return protocol.task == "instance" or data.val_images == TEST_IMAGES.get(protocol.dataset)


def _candidates(record: Record) -> list[PublishedValue]:
    protocol = record.protocol
    name = protocol.name
    order = name.partition("@")[2] or "a"
    found = list(published(name))
    if record.is_offline:
        task = "" if protocol.task == "semantic" else f"-{protocol.task}"
        found += [value for value in published(f"{protocol.dataset}-offline{task}") if value.group == "all"]
    return [
        value
        for value in found
        if value.column
        and not value.variant
        and value.orders == (order,)
        and value.method == _published_key(record)
        and _same_void(value, protocol)
    ]


def _published_key(record: Record) -> str:
    """Papers on panoptic and instance segmentation have one network and do not name it."""
    key = record.method.key
    return key if record.protocol.task == "semantic" else key.removesuffix("@mask2former")


def _same_void(value: PublishedValue, protocol: ProtocolCard) -> bool:
    """`labelled` and `assigned` have columns of their own; else void pixels must go where ours go."""
    if value.void in ("labelled", "assigned"):
        return True
    scored = protocol.zero_is_unlabelled and protocol.rules.unlabelled_at_test == 0
    return protocol.task == "semantic" and value.void == ("background" if scored else "ignored")


def _doubt(value: PublishedValue) -> tuple[int, int]:
    return list(ORIGINS).index(value.origin), len(value.flags)


def _remarks(record: Record, value: PublishedValue) -> tuple[str, ...]:
    remarks = [] if value.first_hand else [f"second-hand, {ORIGINS[value.origin]}"]
    remarks += [flag.replace("-", " ") for flag in value.flags]
    remarks += [value.note] if value.note else []
    if record.scale != "paper":
        remarks.append(f"measured at {record.scale} scale, not with the published network and schedule")
    elif "checkpoint" in record.overrides:
        remarks.append(f"measured with {record.overrides['checkpoint']}, wherever that was trained")
    elif "weights" in record.recipe and not record.recipe["weights"]:
        remarks.append("measured from random weights, published from pretrained ones")
    return tuple(remarks)
