"""The card of a protocol: everything that a reader must know to compare numbers measured under it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from protocols.protocol import BACKGROUND, Protocol, Step
from protocols.splits import StepSamples

_SETTINGS = {
    "overlapped": "a step trains on every image with one of its classes; old and future classes may be in it",
    "disjoint": "a step trains on the images that show one of its classes and no class of a later step",
    "partitioned": "every training image is given to exactly one step; old and future classes may be in it",
    "domain": "every step brings new cities and all classes; train and val are pooled and split 80/20 a step",
    "domain-clean": "every step brings new cities and all classes; each city holds out a fifth for the test",
}
_WIDTH = 100


def card(protocol: Protocol, samples: Sequence[StepSamples] | None = None) -> dict[str, Any]:
    """The card as plain data for JSON. Image counts are None where there are no `samples`."""
    return {
        "name": protocol.name,
        "dataset": protocol.dataset,
        "task": protocol.task,
        "setting": protocol.setting,
        "background": protocol.background,
        "rules": {
            "name": protocol.rules.name,
            "void_in_training": _fate(protocol, protocol.rules.void_in_training),
            "future_at_test": _fate(protocol, protocol.rules.future_at_test),
            "unlabelled_at_test": _fate(protocol, _zero_at_test(protocol)),
            "other_classes": _fate(protocol, protocol.other_classes),
        },
        "notes": list(protocol.notes),
        "steps": [
            _step(protocol, i, samples[i] if samples is not None else None)
            for i in range(len(protocol.steps))
        ],
    }


def card_text(protocol: Protocol, samples: Sequence[StepSamples] | None = None) -> str:
    """The card for the terminal."""
    content = card(protocol, samples)
    counted = "" if samples is not None else " (no data here: images not counted)"
    lines = [f"{protocol.name}: {protocol.task} segmentation on {protocol.dataset}{counted}", ""]
    lines += _wrap(f"Setting  {protocol.setting}: {_SETTINGS[protocol.setting]}.")
    for sentence in _explain(protocol):
        lines += _wrap(f"Labels   {sentence}.")
    for note in protocol.notes:
        lines += _wrap(f"Note     {note}.")
    lines.append("")
    for step in content["steps"]:
        lines += _step_lines(step)
    return "\n".join(lines)


def _step(protocol: Protocol, index: int, samples: StepSamples | None) -> dict[str, Any]:
    step = protocol.steps[index]
    return {
        "index": index,
        "classes": [protocol.class_names[label] for label in step.classes],
        **({"domains": list(step.domains)} if step.domains else {}),
        **({"things": _things(protocol, step)} if protocol.task == "panoptic" else {}),
        "train_images": len(samples.train) if samples else None,
        "val_images": len(samples.test) if samples else None,
    }


def _things(protocol: Protocol, step: Step) -> list[str]:
    return [protocol.class_names[label] for label in step.classes if label in protocol.things]


def _step_lines(step: dict[str, Any]) -> list[str]:
    what = step.get("domains") or step["classes"]
    one, many = ("city", "cities") if "domains" in step else ("class", "classes")
    things = f" ({len(step['things'])} things)" if "things" in step else ""
    counts = ""
    if step["train_images"] is not None:
        counts = f", {step['train_images']} training and {step['val_images']} validation images"
    return [
        f"Step {step['index']}: {len(what)} {many if len(what) > 1 else one}{things}{counts}",
        *_wrap(", ".join(what), "  "),
    ]


def _zero_at_test(protocol: Protocol) -> int:
    return BACKGROUND if protocol.zero_is_background else protocol.rules.unlabelled_at_test


def _fate(protocol: Protocol, value: int) -> str:
    if protocol.has_segments:
        return "in no segment"
    return "background" if value == BACKGROUND and protocol.background else "ignored"


def _explain(protocol: Protocol) -> list[str]:
    """The rules in plain words."""
    rules = protocol.rules
    if protocol.is_domain_incremental:
        return ["all classes are labelled at every step; there is no background class, the rest is ignored"]
    if protocol.has_segments:
        return [
            "in training an image shows its segments of the step's classes alone; the pixels of others are "
            "in no target, which is neither background nor ignored",
            "at test an image shows its segments of all classes seen so far; what is predicted on a future "
            "class is wrong"
            + ("; on pixels without any segment it does not count" if protocol.task == "panoptic" else ""),
        ]
    if not protocol.background:
        return [
            "there is no background class: whatever a step does not learn is ignored in training and test"
        ]
    zero = "background" if protocol.zero_is_background else "pixels without a class"
    sentences = [
        "in training only the step's own classes are labelled; old and future ones look like background",
        f"in training void pixels (255) are {_plural(_fate(protocol, rules.void_in_training))}",
        f"at test future classes are {_plural(_fate(protocol, rules.future_at_test))}, {zero} "
        f"{'is' if protocol.zero_is_background else 'are'} {_scored(protocol)}; void is ignored",
    ]
    if protocol.left_out:
        fate = _plural(_fate(protocol, protocol.other_classes))
        sentences.append(f"classes that no step learns are {fate} in training and test")
    return sentences


def _plural(fate: str) -> str:
    return "counted as background" if fate == "background" else fate


def _scored(protocol: Protocol) -> str:
    return "ignored" if _fate(protocol, _zero_at_test(protocol)) == "ignored" else "scored as class 0"


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent or " " * 9)
