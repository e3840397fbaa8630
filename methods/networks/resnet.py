"""Bottleneck ResNet with activated batch normalisation, dilated to an output stride; named as in MiB."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from methods.networks.features import FeatureMaps
from ops.inplace_abn import InPlaceABN

#: Makes a normalisation layer with its activation, leaky ReLU or, with `activation="identity"`, none.
NormFactory = Callable[..., nn.Module]

SLOPE = 0.01
EXPANSION = 4


@dataclass(frozen=True)
class ResNetConfig:
    """Depth and width. The defaults are ResNet-101's: MiB models/resnet.py@_NETS."""

    blocks: tuple[int, int, int, int] = (3, 4, 23, 3)
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    stem_width: int = 64
    stem_kernel: int = 7
    stem_pool: bool = True


RESNET101 = ResNetConfig()
RESNET50 = ResNetConfig(blocks=(3, 4, 6, 3))
RESNET_MINI = ResNetConfig(
    blocks=(1, 1, 1, 1), widths=(24, 48, 48, 48), stem_width=32, stem_kernel=3, stem_pool=False
)
RESNETS = {"resnet101": RESNET101, "resnet50": RESNET50, "resnet-mini": RESNET_MINI}


def strides_and_dilations(config: ResNetConfig, output_stride: int) -> list[tuple[int, int]]:
    """(stride of the first block, dilation of every block) of each of the four groups.

    A group that may not stride any more doubles the dilation instead: at 16, mod5 has dilation 2
    throughout; at 8, mod4 has 2 and mod5 has 4 (MiB models/resnet.py@ResNet.__init__). Raises
    ValueError for strides out of reach.
    """
    stride, dilation = (4 if config.stem_pool else 2), 1
    reachable = [stride * 2**k for k in range(4)]
    if output_stride not in reachable:
        raise ValueError(f"output stride {output_stride} is out of reach: choose one of {reachable}")
    plan = [(1, 1)]
    for _ in range(3):
        if stride < output_stride:
            stride *= 2
            plan.append((2, dilation))
        else:
            dilation *= 2
            plan.append((1, dilation))
    return plan


class Bottleneck(nn.Module):
    """1×1, 3×3 (stride, dilation), 1×1, plus shortcut, leaky ReLU; MiB modules/residual.py@ResidualBlock."""

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int, norm: NormFactory) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        conv = partial(nn.Conv2d, bias=False)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=conv(in_channels, width, 1),
            bn1=norm(width),
            conv2=conv(width, width, 3, stride=stride, padding=dilation, dilation=dilation),
            bn2=norm(width),
            conv3=conv(width, out_channels, 1),
            bn3=norm(out_channels, activation="identity"),
        )
        self.convs = nn.Sequential(layers)
        self.projects = stride != 1 or in_channels != out_channels
        if self.projects:
            self.proj_conv = conv(in_channels, out_channels, 1, stride=stride)
            self.proj_bn = norm(out_channels, activation="identity")

    def shortcut(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.proj_bn(self.proj_conv(x))) if self.projects else x

    def residual_sum(self, x: Tensor) -> Tensor:
        """The block without its last activation."""
        shortcut = self.shortcut(x)
        return cast(Tensor, self.convs(x)) + shortcut

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(self.residual_sum(x), SLOPE)


class ResNet(nn.Module):
    """(B, 3, H, W) images -> (B, `out_channels`, H / stride, W / stride), rounded up, activated."""

    block: ClassVar[type[Bottleneck]] = Bottleneck
    stem_activation: ClassVar[str] = "leaky_relu"
    #: Statistics of RGB in [0, 1] that images are normalised with.
    pixel_mean: ClassVar = (0.485, 0.456, 0.406)
    pixel_std: ClassVar = (0.229, 0.224, 0.225)

    def __init__(
        self, config: ResNetConfig = RESNET101, output_stride: int = 16, norm: NormFactory = InPlaceABN
    ) -> None:
        super().__init__()
        self.output_stride = output_stride
        channels, kernel = config.stem_width, config.stem_kernel
        stem: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(3, channels, kernel, stride=2, padding=kernel // 2, bias=False),
            bn1=norm(channels, activation=self.stem_activation),
        )
        if config.stem_pool:
            stem["pool1"] = nn.MaxPool2d(3, stride=2, padding=1)
        self.mod1 = nn.Sequential(stem)

        plan = strides_and_dilations(config, output_stride)
        for index, (depth, width) in enumerate(zip(config.blocks, config.widths, strict=True)):
            stride, dilation = plan[index]
            group: OrderedDict[str, nn.Module] = OrderedDict()
            for block in range(1, depth + 1):
                group[f"block{block}"] = self.block(channels, width, stride, dilation, norm)
                channels, stride = width * EXPANSION, 1
            self.add_module(f"mod{index + 2}", nn.Sequential(group))
        self.out_channels = channels

    @property
    def groups(self) -> list[nn.Sequential]:
        return [cast(nn.Sequential, self.get_submodule(f"mod{m}")) for m in range(2, 6)]

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.mod1(images)
        for group in self.groups:
            x = group(x)
        return x

    def feature_maps(self, images: Tensor) -> FeatureMaps:
        """All groups, before and after their last activation (PLOP modules/residual.py@ResidualBlock)."""
        x: Tensor = self.mod1(images)
        stages, residuals = [], []
        for group in self.groups:
            *blocks, last = cast(list[Bottleneck], list(group))
            for block in blocks:
                x = block(x)
            residuals.append(last.residual_sum(x))
            x = F.leaky_relu(residuals[-1], SLOPE)
            stages.append(x)
        return FeatureMaps(tuple(stages), tuple(residuals))

    @staticmethod
    def adapt_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parameters of the mapillary ImageNet classifier -> those of this body."""
        return {key: value for key, value in state.items() if not key.startswith("classifier.")}
