"""PLOP's pseudo-labels: the old network fills in the background where its entropy is low for the class."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from protocols.protocol import IGNORE


def pixel_entropy(probabilities: Tensor, averaged: bool = True) -> Tensor:
    """(B, O, H, W) probabilities -> (B, H, W): entropy over ln O; with `averaged`, over O·ln O.

    In 0..1, or in 0..1/O: the official code takes the mean over the classes where the sum is due. PLOP
    train.py@entropy.
    """
    terms = probabilities * (probabilities + 1e-8).log()
    total = terms.mean(dim=1) if averaged else terms.sum(dim=1)
    return -total / math.log(probabilities.shape[1] + 1e-8)


def entropy_histogram(
    uncertainties: Iterable[tuple[Tensor, Tensor]], num_classes: int, num_bins: int
) -> np.ndarray:
    """int64 (K, bins): how many pixels of each class have an uncertainty in each bin of 0..1.

    Takes pairs of uncertainties in 0..1 and class indices below K, of the same shape.
    Source: PLOP train.py@Trainer.find_median.
    """
    histogram = np.zeros((num_classes, num_bins), np.int64)
    for values, classes in uncertainties:
        bins = (values * num_bins).long().clamp(max=num_bins - 1)
        cells = torch.bincount((classes * num_bins + bins).flatten(), minlength=histogram.size)
        histogram += cells.view(num_classes, num_bins).cpu().numpy()
    return histogram


def official_medians(histogram: np.ndarray) -> np.ndarray:
    """float64 (K,): what PLOP's code takes for each class's median; 0 for a class without pixels.

    Known fault, kept since the published numbers were made with it: the running sum adds the bin's index
    instead of its count, so the search ends at the first bin that holds half of the pixels by itself, or
    else at the last one, which, when empty, gives ±infinity. PLOP train.py@Trainer.find_median.
    """
    return np.array([_median(counts, running_counts=False) for counts in histogram])


def medians(histogram: np.ndarray) -> np.ndarray:
    """float64 (K,): each class's median, interpolated within its bin; 0 for a class without pixels."""
    return np.array([_median(counts, running_counts=True) for counts in histogram])


def _median(counts: np.ndarray, running_counts: bool) -> float:
    half, running, last = counts.sum() / 2, 0.0, len(counts) - 1
    if half == 0:
        return 0.0
    for index, count in enumerate(counts):
        if index == last or running <= half <= running + count:
            break
        running += count if running_counts else index
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((index + np.float64(half - running) / count) / len(counts))


def complete_labels(
    labels: Tensor, predictions: Tensor, certain: Tensor, num_old_channels: int
) -> tuple[Tensor, Tensor]:
    """Labels (B, H, W) with the old network's `predictions` in the background, and ν (B, 1, 1).

    Where a label is below O: the prediction if `certain` (bool), else 255. ν, float64 in 0..1, is the share
    of those pixels that are certain, by which PLOP weighs an image's loss.
    Source: PLOP paper section 3.3; train.py@Trainer.train.
    """
    old = labels < num_old_channels
    kept = old & certain
    completed = torch.where(kept, predictions, labels.masked_fill(old, IGNORE))
    num_kept, num_old = (mask.sum(dim=(1, 2), keepdim=True).double() for mask in (kept, old))
    return completed, num_kept / (num_old + 1e-6)
