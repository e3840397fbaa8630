"""Bodies that give four maps, at strides 4, 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, ClassVar, cast

import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from methods.networks.mask2former.names import as_torchvision
from methods.networks.mobilenet import MobileNetV2

#: ImageNet statistics of RGB in [0, 1]; officially 123.675 / 58.395 and so on of RGB in [0, 255].
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def convolve(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """Convolution and normalisation; a frozen one is folded into the weights, which saves two passes over
    the map."""
    if not isinstance(norm, FrozenBatchNorm2d):
        return cast(Tensor, norm(conv(x)))
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    weight = conv.weight * scale[:, None, None, None]
    return F.conv2d(x, weight, bias.to(weight), conv.stride, conv.padding)


class FoldingBottleneck(Bottleneck):  # type: ignore[misc]
    """torchvision's block (stride in the 3×3 convolution, as in the official configs) on `convolve`."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else convolve(x, *self.downsample)
        x = F.relu_(convolve(x, self.conv1, self.bn1))
        x = F.relu_(convolve(x, self.conv2, self.bn2))
        return F.relu_(convolve(x, self.conv3, self.bn3) + shortcut)


class ResNet(torchvision.models.ResNet):  # type: ignore[misc]
    """(B, 3, H, W) images -> maps of 256, 512, 1024 and 2048 channels; keys are torchvision's.

    `train_norm`: batch normalisation learns and keeps statistics; else its four vectors are buffers.
    Source: detectron2, modeling/backbone/resnet.py with the configs' `MODEL.RESNETS`.
    """

    pixel_mean: ClassVar = MEAN
    pixel_std: ClassVar = STD
    out_channels: ClassVar = (256, 512, 1024, 2048)

    def __init__(self, blocks: tuple[int, int, int, int], train_norm: bool) -> None:
        super().__init__(
            FoldingBottleneck, list(blocks), norm_layer=nn.BatchNorm2d if train_norm else FrozenBatchNorm2d
        )
        del self.avgpool, self.fc

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.maxpool(F.relu_(convolve(images, self.conv1, self.bn1)))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def adapt_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parameters of an ImageNet classifier, of torchvision or detectron2 -> those of this body."""
        state = as_torchvision(state)
        frozen = isinstance(self.bn1, FrozenBatchNorm2d)
        return {
            key: value
            for key, value in state.items()
            if not key.startswith("fc.") and not (frozen and key.endswith("num_batches_tracked"))
        }


class MobileNetLevels(MobileNetV2):
    """MobileNetV2's maps of 24, 32, 96 and 320 channels; keys are torchvision's."""

    out_channels: ClassVar = (24, 32, 96, 320)  # type: ignore[assignment]

    def __init__(self, train_norm: bool) -> None:
        super().__init__(output_stride=32)

    def forward(self, images: Tensor) -> list[Tensor]:  # type: ignore[override]
        return list(self.feature_maps(images).stages)


class MiniBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation and a projected shortcut; halves the map."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False)
        self.shortcut_bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu_(self.bn1(self.conv1(x)))
        return F.relu_(self.bn2(self.conv2(out)) + self.shortcut_bn(self.shortcut(x)))


class Mini(nn.Module):
    """A residual network of about 300 000 parameters, for runs of minutes."""

    pixel_mean: ClassVar = MEAN
    pixel_std: ClassVar = STD
    out_channels: ClassVar = (32, 48, 64, 96)

    def __init__(self, train_norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        widths = (24, *self.out_channels)
        self.blocks = nn.ModuleList(map(MiniBlock, widths[:-1], widths[1:]))

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = F.relu_(self.bn1(self.conv1(images))), []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps

    @staticmethod
    def adapt_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return state


#: name -> constructor, which is told whether batch normalisation is to learn (only ResNets can freeze it).
BACKBONES: dict[str, Callable[[bool], Any]] = {
    "resnet50": lambda train_norm: ResNet((3, 4, 6, 3), train_norm),
    "resnet101": lambda train_norm: ResNet((3, 4, 23, 3), train_norm),
    "mobilenet-v2": MobileNetLevels,
    "mini": Mini,
}


def build_backbone(name: str, train_norm: bool = False) -> Any:
    """The body of that name, randomly initialised: an `nn.Module` of (B, 3, H, W) images with H and W
    multiples of 32, with `out_channels`, `pixel_mean`, `pixel_std` and `adapt_state`.

    Raises ValueError, with the nearest known names, for an unknown one.
    """
    if name not in BACKBONES:
        near = get_close_matches(name, BACKBONES, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"unknown backbone {name!r} for Mask2Former: {hint}known are {', '.join(BACKBONES)}")
    return BACKBONES[name](train_norm)
