"""Look-up tables from label ids to what a step trains on and is tested on.

The tables follow the official repositories ("Label mapping per split": MiB `dataset/voc.py` and
`dataset/ade.py`, PLOP and RCIL the same files); where they differ, `Protocol.rules` says which.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from protocols.protocol import BACKGROUND, IGNORE, Protocol

Table = npt.NDArray[np.uint8]


def training_lut(protocol: Protocol, step_index: int) -> Table:
    """(256,) uint8: label id -> channel index, 0 (background) or 255 (ignored) in the training of a step.

    Only the step's own classes are labelled: old and future ones look like background, which is the
    background shift. Without a background channel they are ignored.
    """
    lut = _table(protocol)
    step = protocol.steps[step_index]
    if protocol.background:
        lut[BACKGROUND] = BACKGROUND
        lut[_learnt(protocol)] = BACKGROUND
        lut[IGNORE] = protocol.rules.void_in_training
    return _with_channels(lut, protocol, step_index, step.classes)


def test_lut(protocol: Protocol, step_index: int) -> Table:
    """(256,) uint8: label id -> channel index, 0 (background) or 255 (ignored) in the test after a step.

    All classes seen so far are labelled. Without a background channel all else is ignored.
    """
    lut = _table(protocol)
    if protocol.background:
        true_zero = protocol.zero_is_background
        lut[BACKGROUND] = BACKGROUND if true_zero else protocol.rules.unlabelled_at_test
        lut[_learnt(protocol)] = protocol.rules.future_at_test
    return _with_channels(lut, protocol, step_index, protocol.channels(step_index))


test_lut.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it where a test imports it


def replay_lut(protocol: Protocol, step_index: int, labels: Iterable[int]) -> Table:
    """(256,) uint8: as `training_lut`, for an image of the memory whose annotation holds `labels` alone.

    These label ids, of this step or of earlier ones, keep their channels; all other classes that some step
    learns look as old ones do. Source: BalConpas `continual/memory_generator`.
    """
    lut = training_lut(protocol, step_index)
    lut[_learnt(protocol)] = BACKGROUND if protocol.background else IGNORE
    return _with_channels(lut, protocol, step_index, tuple(labels))


def with_next_class(lut: Table, protocol: Protocol, step_index: int) -> Table:
    """`lut` with the first class of the next step labelled already, by the channel that it will have.

    Known fault of BalConpas and SimCIS, continual/continual_semantic_dataset_mapper.py, which keep the labels
    up to and with the first one beyond the step's. Nothing changes at the last step, or city by city.
    """
    following = protocol.steps[step_index + 1 :][:1]
    if not following or protocol.is_domain_incremental:
        return lut
    return _with_channels(lut.copy(), protocol, step_index + 1, following[0].classes[:1])


def _table(protocol: Protocol) -> Table:
    """(256,) uint8, all 255 except the classes that no step learns."""
    lut = np.full(256, IGNORE, dtype=np.uint8)
    if protocol.background:
        lut[protocol.left_out] = protocol.other_classes
    return lut


def _learnt(protocol: Protocol) -> list[int]:
    """The label ids that some step learns."""
    return [label for step in protocol.steps for label in step.classes]


def _with_channels(lut: Table, protocol: Protocol, step_index: int, labels: tuple[int, ...]) -> Table:
    channels = protocol.channels(step_index)
    for label in labels:
        if label != BACKGROUND:
            lut[label] = channels.index(label)
    return lut
