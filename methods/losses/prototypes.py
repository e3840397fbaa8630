"""SDR's losses on the backbone's features: pixels are held at class prototypes, and classes apart."""

from __future__ import annotations

from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from protocols.protocol import BACKGROUND, IGNORE

EPSILON = 1e-15
ClassPixels = dict[int, Tensor]


class Layout(StrEnum):
    """How the features of a class's pixels are taken out of a batch.

    The official code selects them by a mask, in the order image, channel, pixel, and reshapes the list. This
    mixes channels unless one image alone has the class (ROWS), or each image has one pixel of it (COLUMNS).
    """

    TRUE = "true"
    ROWS = "rows"
    """The list cut into C equal parts, one for each channel: prototypes, attraction, repulsion."""
    COLUMNS = "columns"
    """The list cut into parts of C values, one for each pixel: matching."""


def nearest(labels: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W) -> (B, `height`, `width`), pixel ⌊iH/h⌋, ⌊jW/w⌋: the top left one of each cell."""
    rows = torch.arange(height, device=labels.device) * labels.shape[1] // height
    columns = torch.arange(width, device=labels.device) * labels.shape[2] // width
    return labels[:, rows][:, :, columns]


def class_pixels(features: Tensor, labels: Tensor, layout: Layout = Layout.TRUE) -> ClassPixels:
    """(N_c, C) features of the pixels of each class c that is there, in ascending order; 255 is left out.

    features (B, C, h, w), labels (B, h, w). Source: SDR train.py@Trainer._update_running_stats,
    utils/loss.py@FeaturesClusteringSeparationLoss, @DistillationEncoderPrototypesLoss.
    """
    values, num_channels = features, features.shape[1]
    of_class = labels[:, None].expand_as(features)
    if layout is Layout.TRUE:
        values, of_class = values.movedim(1, -1), of_class.movedim(1, -1)
    order = of_class.flatten().argsort(stable=True)
    classes, counts = labels.unique(return_counts=True)
    parts = values.flatten()[order].split((counts * num_channels).tolist())
    return {
        c: part.view(num_channels, -1).T if layout is Layout.ROWS else part.view(-1, num_channels)
        for c, part in zip(classes.tolist(), parts, strict=True)
        if c != IGNORE
    }


def class_sums(pixels: ClassPixels, prototypes: Tensor, keeps_background: bool) -> tuple[Tensor, Tensor]:
    """Sums (K, C) of the classes' pixels, of the prototypes' shape and kind, and their numbers, int64 (K,).

    `keeps_background` says whether label 0 counts. The official code leaves out the smallest label that
    is there instead, whatever it is, and fails where that is the only one.
    Source: SDR train.py@Trainer._update_running_stats.
    """
    sums = torch.zeros_like(prototypes)
    numbers = torch.zeros(len(prototypes), dtype=torch.int64, device=prototypes.device)
    for c, values in pixels.items():
        if c != BACKGROUND or keeps_background:
            sums[c], numbers[c] = values.sum(dim=0), len(values)
    return sums, numbers


def updated_prototypes(
    prototypes: Tensor, counts: Tensor, sums: Tensor, numbers: Tensor
) -> tuple[Tensor, Tensor]:
    """The means (K, C) of all pixels so far, `counts` (K,) of them, with the `class_sums` of one more batch.

    Source: SDR train.py@Trainer._update_running_stats, whose form loses digits in float32.
    """
    counts = counts + numbers
    change = (sums - numbers[:, None] * prototypes) / counts.clamp(min=1)[:, None]
    return prototypes + change, counts


def attraction(pixels: ClassPixels, prototypes: Tensor, repeated_division: bool = False) -> Tensor:
    """Mean over the classes of the mean squared distance of their pixels to their prototypes: a scalar.

    With `repeated_division` the sum is divided by the number of classes after each class, so that all but the
    highest index hardly count: as the official code has it. 0 where there is no class.
    Source: SDR utils/loss.py@FeaturesClusteringSeparationLoss.
    """
    if not pixels:
        return prototypes.new_zeros(())
    distances = _distances(pixels, prototypes)
    if not repeated_division:
        return distances.mean()
    divisions = torch.arange(len(pixels), 0, -1, device=distances.device)
    return (distances / distances.new_tensor(float(len(pixels))) ** divisions).sum()


def repulsion(pixels: ClassPixels) -> Tensor:
    """Mean over the pairs of classes of one by the distance of the means of their pixels: a scalar.

    0 where no two classes differ. The official code's `cdist` is exact up to 25 classes only.
    Source: SDR utils/loss.py@FeaturesClusteringSeparationLoss.
    """
    if len(pixels) < 2:
        return torch.zeros(())
    means = torch.stack([values.mean(dim=0) for values in pixels.values()])
    one, other = torch.triu_indices(len(means), len(means), offset=1, device=means.device)
    squared = (means[one] - means[other]).square().sum(dim=1)
    squared = squared[squared > 0]
    return squared.rsqrt().mean() if len(squared) else means.new_zeros(())


def prototype_matching(pixels: ClassPixels, prototypes: Tensor, match_means: bool = True) -> Tensor:
    """Mean over the classes of the mean squared distance of their pixels' mean to their prototype: a scalar.

    Without `match_means`, the sum over the classes of the distances of the single pixels. 0 where there is
    no class. Source: SDR utils/loss.py@DistillationEncoderPrototypesLoss.
    """
    if not pixels:
        return prototypes.new_zeros(())
    if match_means:
        means = torch.stack([values.mean(dim=0) for values in pixels.values()])
        return F.mse_loss(means, prototypes[list(pixels)])
    return _distances(pixels, prototypes).sum()


def _distances(pixels: ClassPixels, prototypes: Tensor) -> Tensor:
    """Of each class the mean squared distance of its pixels to its prototype."""
    return torch.stack([F.mse_loss(values, prototypes[c].expand_as(values)) for c, values in pixels.items()])


def sparsity(features: Tensor, labels: Tensor) -> Tensor:
    """Mean over the pixels of Σ exp(f) / Σ f, summed over channels: a scalar.

    f are the features divided by the largest one of all pixels of the class.
    features (B, C, h, w), none negative; labels (B, h, w), of which 255 is a class too. 0 where every label
    is 0. A pixel without any positive feature counts 0; the official code divides by 1e-15 there. The loss
    is least where all features are at the maximum: it makes them dense. Paper and code agree in it.
    Source: SDR section 4.4; utils/loss.py@FeaturesSparsificationLoss, `max_maskedforclass`,
    `exponential`, `ratio`.
    """
    classes, of_class = labels.unique(return_inverse=True)
    largest = features.new_zeros(len(classes)).scatter_reduce(
        0, of_class.flatten(), features.amax(dim=1).flatten(), "amax"
    )
    normalised = features / (largest[of_class] + EPSILON)[:, None]
    total = normalised.sum(dim=1)
    counted = (total > 0) & bool((labels != BACKGROUND).any())
    ratio = normalised.exp().sum(dim=1) / total.masked_fill(~counted, 1.0)
    return ratio.masked_fill(~counted, 0.0).mean()
