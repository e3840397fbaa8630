"""The head of DeepLabv3: atrous spatial pyramid pooling, with the pooling of the in-place ABN authors."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.networks.resnet import SLOPE, NormFactory
from ops.inplace_abn import InPlaceABN


@dataclass(frozen=True)
class HeadConfig:
    """Widths and dilations. The defaults are for output stride 16: MiB modules/deeplab.py@DeeplabV3.

    `pooling_size` is the side of the pooling window in evaluation, in feature pixels: the crop over the
    output stride (32 for 512 at 16). None pools over the whole map, as in training.
    """

    hidden_channels: int = 256
    out_channels: int = 256
    dilations: tuple[int, ...] = (6, 12, 18)
    pooling_size: int | None = 32


#: For 64-pixel images at output stride 4, with `resnet-mini`.
HEAD_MINI = HeadConfig(hidden_channels=32, out_channels=64, dilations=(2, 4, 6), pooling_size=16)


class DeepLabHead(nn.Module):
    """(B, `in_channels`, h, w) -> (B, `out_channels`, h, w) after the last activation."""

    #: Negative slope after the convolutions, for which they are initialised.
    slope: ClassVar[float] = SLOPE

    def __init__(
        self, in_channels: int, config: HeadConfig | None = None, norm: NormFactory = InPlaceABN
    ) -> None:
        super().__init__()
        config = config or HeadConfig()
        hidden, out = config.hidden_channels, config.out_channels
        self.out_channels = out
        self.pooling_size = config.pooling_size
        self.map_convs = pyramid_convolutions(in_channels, config)
        self.map_bn = norm(hidden * len(self.map_convs))
        self.global_pooling_conv = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.global_pooling_bn = norm(hidden)
        self.red_conv = nn.Conv2d(hidden * len(self.map_convs), out, 1, bias=False)
        self.pool_red_conv = nn.Conv2d(hidden, out, 1, bias=False)
        self.red_bn = norm(out)

        self.init_convolutions(self)

    def init_convolutions(self, within: nn.Module) -> None:
        gain = nn.init.calculate_gain("leaky_relu", self.slope)
        for conv in (m for m in within.modules() if isinstance(m, nn.Conv2d)):
            nn.init.xavier_normal_(conv.weight, gain)

    def pyramid(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 4·hidden, h, w): the parallel convolutions, activated."""
        return cast(Tensor, self.map_bn(torch.cat([conv(x) for conv in self.map_convs], dim=1)))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.red_conv(self.pyramid(x))
        window = None if self.training else self.pooling_size
        pooled = self.global_pooling_bn(self.global_pooling_conv(pool(x, window)))
        return cast(Tensor, self.red_bn(maps + self.pool_red_conv(pooled)))


def pyramid_convolutions(in_channels: int, config: HeadConfig) -> nn.ModuleList:
    """One 1×1 convolution, and a 3×3 one for each dilation; none has a bias."""
    hidden = config.hidden_channels
    convs = [nn.Conv2d(in_channels, hidden, 1, bias=False)]
    for rate in config.dilations:
        convs.append(nn.Conv2d(in_channels, hidden, 3, bias=False, dilation=rate, padding=rate))
    return nn.ModuleList(convs)


def pool(x: Tensor, window: int | None) -> Tensor:
    """Mean of x (B, C, h, w) over a square `window` around each place, cut to the map: (B, C, h, w).

    Where the window covers the map, or is None, that is one global mean and (B, C, 1, 1) is returned;
    otherwise means near the border are those of the nearest whole window. MiB
    modules/deeplab.py@DeeplabV3._global_pooling.
    """
    height, width = x.shape[-2:]
    if window is None or window >= max(height, width):
        return x.mean((2, 3), keepdim=True)
    size = (min(window, height), min(window, width))
    # An even window has no middle: its extra row or column goes below and to the right.
    before = [(side - 1) // 2 for side in size]
    after = [side // 2 for side in size]
    means = F.avg_pool2d(x, size, stride=1)
    return F.pad(means, (before[1], after[1], before[0], after[0]), mode="replicate")
