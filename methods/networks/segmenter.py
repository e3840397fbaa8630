"""DeepLabv3 with a growing classifier: the network of FT, LwF, ILT, MiB, PLOP and others."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.networks.backbones import Backbone, build_backbone
from methods.networks.classifier import IncrementalClassifier
from methods.networks.deeplab import DeepLabHead, HeadConfig
from methods.networks.features import FeatureMaps
from methods.networks.resnet import NormFactory
from ops.inplace_abn import InPlaceABN


@dataclass(frozen=True)
class SegmenterOutput:
    """What a forward pass gives; K is the number of channels now, background included.

    `logits` (B, K, H, W) at the size of the images (classification and KD losses), `small_logits` (B,
    K, h, w) as the classifier gives them (POD), `pre_logits` (B, C, h, w) the head's output after its
    activation, and `features` of the backbone where they were asked for.
    """

    logits: Tensor
    small_logits: Tensor
    pre_logits: Tensor
    features: FeatureMaps | None = None


class DeepLabV3(nn.Module):
    """Body, head and classifier; parameters `body.*`, `head.*`, `cls.{t}.*` are named as in MiB's
    checkpoints.

    Source: MiB segmentation_module.py@IncrementalSegmentationModule.
    """

    cls: IncrementalClassifier

    def __init__(self, body: Backbone, head: DeepLabHead, classes_per_step: Sequence[int]) -> None:
        super().__init__()
        self.body = cast(nn.Module, body)
        self.head = head
        self.cls = IncrementalClassifier(head.out_channels, classes_per_step)

    def forward(self, images: Tensor, return_features: bool = False) -> SegmenterOutput:
        """(B, 3, H, W) normalised images -> `SegmenterOutput`; the features only if `return_features`."""
        body = cast(Backbone, self.body)
        if images.device.type == "cpu":
            # Depthwise convolutions and batch statistics are several times faster so.
            images = images.contiguous(memory_format=torch.channels_last)
        features = body.feature_maps(images) if return_features else None
        pre_logits = self.head(body(images) if features is None else features.out)
        small_logits = self.cls(pre_logits)
        height, width = images.shape[-2:]
        return SegmenterOutput(upsample(small_logits, height, width), small_logits, pre_logits, features)


def upsample(logits: Tensor, height: int, width: int) -> Tensor:
    """(B, K, h, w) -> (B, K, `height`, `width`), bilinear with `align_corners=False`, at least float32.

    What `F.interpolate` gives, as two products: these are faster with many classes, and their gradients
    have one order of summation on a GPU too.
    """
    with torch.autocast(logits.device.type, enabled=False):
        wide = logits if logits.dtype == torch.float64 else logits.float()
        rows = _interpolation(logits.shape[2], height).to(wide)
        columns = _interpolation(logits.shape[3], width).to(wide)
        return rows @ wide.contiguous() @ columns.T


@lru_cache(maxsize=16)
def _interpolation(size: int, target: int) -> Tensor:
    """(target, size) float64: the weight of each of `size` values in each of the interpolated ones."""
    identity = torch.eye(size, dtype=torch.float64)[None]
    return F.interpolate(identity, size=target, mode="linear", align_corners=False)[0].T


def build_deeplab(
    backbone: str,
    classes_per_step: Sequence[int],
    output_stride: int = 16,
    head: HeadConfig | None = None,
    norm: NormFactory = InPlaceABN,
) -> DeepLabV3:
    """A `DeepLabV3` on the backbone of that name, randomly initialised. ValueError as in `build_backbone`."""
    body = build_backbone(backbone, output_stride, norm)
    return DeepLabV3(body, DeepLabHead(body.out_channels, head, norm), classes_per_step)
