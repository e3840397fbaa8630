"""The domain setting: Cityscapes city by city, split 80/20 anew (PLOP `dataset/cityscapes_domain.py`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protocols.protocol import Protocol

Indices = npt.NDArray[np.int64]


def hold_out(members: Indices) -> tuple[Indices, Indices]:
    """The published 80/20 split of a list: shuffled by RandomState(1), the first int(0.8 n) train."""
    shuffled = members.copy()
    np.random.RandomState(1).shuffle(shuffled)
    cut = int(0.8 * len(shuffled))
    return np.sort(shuffled[:cut]), np.sort(shuffled[cut:])


def domain_indices(protocol: Protocol, cities: Sequence[str]) -> list[tuple[Indices, Indices]]:
    """Train and test positions, ascending, of every step in the pool of train + val, whose cities are given.

    Published: the test images of a step are a fifth of all images seen so far, drawn anew, so most of them
    were training images of an earlier step. Clean: every city holds out its own fifth, once and for all, so
    that 11-5, 11-1, 1-1 and joint training end on the same test images and nobody trains on one.
    """
    names = np.asarray(cities)
    split = _split_by_city if protocol.setting == "domain-clean" else _split_as_published
    result = []
    for step in protocol.steps:
        train, _ = split(names, step.domains)
        _, test = split(names, step.old_domains + step.domains)
        result.append((train, test))
    return result


def _split_as_published(names: npt.NDArray[np.str_], cities: Sequence[str]) -> tuple[Indices, Indices]:
    return hold_out(np.flatnonzero(np.isin(names, cities)))


def _split_by_city(names: npt.NDArray[np.str_], cities: Sequence[str]) -> tuple[Indices, Indices]:
    parts = [hold_out(np.flatnonzero(names == city)) for city in cities]
    train, test = (np.sort(np.concatenate(part)) for part in zip(*parts, strict=True))
    return train, test
