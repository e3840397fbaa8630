"""The partitioned setting: every training image belongs to exactly one step (MiB's ADE20K split)."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

from protocols.datasets import Dataset
from protocols.presence import Presence
from protocols.protocol import Protocol

NEVER = -1
OFFICIAL_FILE = Path(__file__).parent / "datasets" / "ade_partition.json"
OFFICIAL_SIZE = 20210

Assignment = npt.NDArray[np.int64]


def assign_steps(protocol: Protocol, dataset: Dataset, present: Presence) -> Assignment:
    """(N,) int64: the step of each training image, -1 for an image without any class of the protocol.

    On ADE20K itself and for the divisions that MiB published, its own lists: they cannot be regenerated
    (MiB issue 15). Elsewhere the rule of `by_score`.
    """
    official = official_assignment(protocol.name)
    if official is not None and not dataset.is_synthetic and len(present) == OFFICIAL_SIZE:
        joint = len(protocol.steps) == 1
        return np.minimum(official, 0) if joint else official
    if official is not None and not dataset.is_synthetic:
        warnings.warn(
            f"{dataset.root} has {len(present)} training images instead of {OFFICIAL_SIZE}: the official "
            "partition does not fit, images are assigned by MiB's rule",
            stacklevel=2,
        )
    return by_score(protocol, present)


def official_assignment(name: str) -> Assignment | None:
    """(20210,) int64, what MiB's `data/ade/<task>/train-<t>.npy` say, or None for other protocols."""
    division, _, order = name.partition("@")
    division = division.removesuffix("+mib")
    if division not in ("ade-100-50-partitioned", "ade-100-10-partitioned", "ade-50-50-partitioned"):
        return None
    key = "50-50" if "-50-50-" in division else "100-10"
    digits = json.loads(OFFICIAL_FILE.read_text()).get(f"{key}@{order}" if order else key)
    if digits is None:
        return None
    steps = np.array([NEVER if digit == "-" else int(digit) for digit in digits], dtype=np.int64)
    # MiB's 100-50 is its 100-10 with the five later steps taken together.
    return np.minimum(steps, 1) if "-100-50-" in division else steps


def by_score(protocol: Protocol, present: Presence) -> Assignment:
    """MiB's rule (`ADE-Split.ipynb`) made deterministic: images in list order, ties to the lowest label id.

    With n_j images of class j and a_j of them assigned so far, an image goes to the step that learns
    argmax_j 120 (1 - a_j / n_j) + sum_k n_k / n_j over its classes j, k; then a_k grows by one for each of
    its classes in that step.
    """
    step_of = np.full(256, NEVER, dtype=np.int64)
    for step in protocol.steps:
        step_of[list(step.classes)] = step.index
    total = present.sum(axis=0)
    assigned = np.zeros(256, dtype=np.int64)
    result = np.full(len(present), NEVER, dtype=np.int64)
    for i, row in enumerate(present & (step_of != NEVER)):
        classes = np.flatnonzero(row)
        if not len(classes):
            continue
        images = total[classes]
        score = 120 * (1 - assigned[classes] / images) + images.sum() / images
        result[i] = step_of[classes[score.argmax()]]
        assigned[classes[step_of[classes] == result[i]]] += 1
    return result
