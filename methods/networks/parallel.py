"""RCIL's DeepLabv3: two parallel branches in every block and in the head, one of which is merged and frozen.

Parameters are named as in RCIL's checkpoints: `conv2_new`, `bn2_new`, `map_convs_new`, `map_bn_new`, and,
after a merge, biases of `conv2` and `map_convs`.
Source: RCIL modules/residual.py, modules/deeplab.py, run.py@convert_model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.networks.deeplab import DeepLabHead, HeadConfig, pyramid_convolutions
from methods.networks.norm import freeze_batch_norm
from methods.networks.resnet import RESNETS, SLOPE, Bottleneck, NormFactory, ResNet
from methods.networks.segmenter import DeepLabV3
from ops.inplace_abn import InPlaceABN

#: Below the first, a channel is the first branch's alone; below the second, the second's; else their mean.
DROP_PATH = (0.33, 0.66)


class Branches(NamedTuple):
    """What is merged: convolutions whose outputs are concatenated and normalised, twice in parallel."""

    convs: list[nn.Conv2d]
    norm: InPlaceABN
    new_convs: list[nn.Conv2d]
    new_norm: InPlaceABN


def mix(first: Tensor, second: Tensor, training: bool) -> Tensor:
    """The mean of two branches (B, C, h, w); in training each channel may drop one of them.

    The draw is the same for all images and places, from torch's CPU generator, in the first step too.
    """
    if not training:
        return torch.lerp(second, first, 0.5)
    draw = torch.rand(first.shape[1])
    share = torch.full_like(draw, 0.5)
    share[draw < DROP_PATH[1]] = 0.0
    share[draw < DROP_PATH[0]] = 1.0
    return torch.lerp(second, first, share.to(first).view(1, -1, 1, 1))


class ParallelBottleneck(Bottleneck):
    """A `Bottleneck` whose 3×3 convolution and its normalisation are there twice."""

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int, norm: NormFactory) -> None:
        super().__init__(in_channels, width, stride, dilation, norm)
        self.convs.bn2 = norm(width, activation="identity")
        self.convs.conv2_new = nn.Conv2d(
            width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
        )
        self.convs.bn2_new = norm(width, activation="identity")

    def residual_sum(self, x: Tensor) -> Tensor:
        convs = cast(Any, self.convs)
        shortcut = self.shortcut(x)
        x = convs.bn1(convs.conv1(x))
        mixed = mix(convs.bn2(convs.conv2(x)), convs.bn2_new(convs.conv2_new(x)), self.training)
        return cast(Tensor, convs.bn3(convs.conv3(F.leaky_relu_(mixed, SLOPE)))) + shortcut

    def branches(self) -> Branches:
        convs = cast(Any, self.convs)
        return Branches([convs.conv2], convs.bn2, [convs.conv2_new], convs.bn2_new)


class ParallelResNet(ResNet):
    """A `ResNet` of such blocks. Its stem has no activation, though the pretrained one had: known fault."""

    block = ParallelBottleneck
    stem_activation = "identity"

    @staticmethod
    def adapt_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parameters of the mapillary ImageNet classifier, both branches starting alike."""
        state = ResNet.adapt_state(state)
        for layer in ("conv2", "bn2"):
            state |= {
                k.replace(f".{layer}.", f".{layer}_new."): v for k, v in state.items() if f".{layer}." in k
            }
        return state


class ParallelHead(DeepLabHead):
    """A `DeepLabHead` whose pyramid is there twice; its initialisation is that for linear layers."""

    slope: ClassVar[float] = 1.0

    def __init__(
        self, in_channels: int, config: HeadConfig | None = None, norm: NormFactory = InPlaceABN
    ) -> None:
        config = config or HeadConfig()
        super().__init__(in_channels, config, norm)
        width = config.hidden_channels * len(self.map_convs)
        self.map_bn = norm(width, activation="identity")
        self.map_convs_new = pyramid_convolutions(in_channels, config)
        self.map_bn_new = norm(width, activation="identity")
        self.init_convolutions(self.map_convs_new)

    def pyramid(self, x: Tensor) -> Tensor:
        first = self.map_bn(torch.cat([conv(x) for conv in self.map_convs], dim=1))
        second = self.map_bn_new(torch.cat([conv(x) for conv in self.map_convs_new], dim=1))
        return F.leaky_relu_(mix(first, second, self.training), SLOPE)

    def branches(self) -> Branches:
        convs, new_convs = (cast(list[nn.Conv2d], list(c)) for c in (self.map_convs, self.map_convs_new))
        return Branches(convs, cast(InPlaceABN, self.map_bn), new_convs, cast(InPlaceABN, self.map_bn_new))


def build_parallel_deeplab(
    backbone: str, num_channels: int, output_stride: int = 16, head: HeadConfig | None = None
) -> DeepLabV3:
    """RCIL's network, randomly initialised. Raises ValueError for a backbone that is no ResNet."""
    if backbone not in RESNETS:
        raise ValueError(f"RCIL doubles the blocks of a ResNet: backbone {backbone!r} is none of "
                         f"{', '.join(RESNETS)}")  # fmt: skip
    body = ParallelResNet(RESNETS[backbone], output_stride)
    return DeepLabV3(body, ParallelHead(body.out_channels, head), [num_channels])


@torch.no_grad()
def merge_branches(network: nn.Module) -> None:
    """Turns the mean of both branches into the first one alone, exactly, and freezes that for good.

    The second branch keeps its parameters and goes on training, so the step does not start from the old
    function but from half of it and half of the second branch: RCIL run.py@init_right changes nothing.
    """
    for branches in _all_branches(network):
        merged = _merged_convolutions(branches)
        _make_frozen(branches)
        for conv, (weight, bias) in zip(branches.convs, merged, strict=True):
            conv.weight.copy_(weight)
            assert conv.bias is not None
            conv.bias.copy_(bias)


def as_merged(network: nn.Module) -> None:
    """Gives a network of the first step the parameters that one after a merge has, frozen; zeros yet."""
    for branches in _all_branches(network):
        _make_frozen(branches)


def half_convolution(
    weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor, mean: Tensor, std: Tensor
) -> tuple[Tensor, Tensor]:
    """Weight and bias of half of a convolution followed by (y − mean) / std · scale + shift.

    weight (C, D, k, k); bias and the normalisation's vectors (C,). Source: RCIL run.py@merge.
    """
    factor = scale / 2 / std
    offset = shift / 2 - mean * factor
    if bias is not None:
        offset = offset + factor * bias
    return weight * factor.view(-1, 1, 1, 1), offset


def _merged_convolutions(branches: Branches) -> list[tuple[Tensor, Tensor]]:
    merged, first = [], 0
    for conv, new_conv in zip(branches.convs, branches.new_convs, strict=True):
        part = slice(first, first + conv.out_channels)
        weight, bias = _half(conv, branches.norm, part)
        new_weight, new_bias = _half(new_conv, branches.new_norm, part)
        merged.append((weight + new_weight, bias + new_bias))
        first = part.stop
    return merged


def _half(conv: nn.Conv2d, norm: InPlaceABN, part: slice) -> tuple[Tensor, Tensor]:
    scale, std = norm.weight.abs() + norm.eps, (norm.running_var + norm.eps).sqrt()
    return half_convolution(
        conv.weight, conv.bias, scale[part], norm.bias[part], norm.running_mean[part], std[part]
    )


@torch.no_grad()
def _make_frozen(branches: Branches) -> None:
    norm = branches.norm
    # The official code loses this 0 when it loads the next step, a change of 5e-6: not kept, as a run that
    # is interrupted has to be the one that is not.
    norm.eps = 0.0
    norm.weight.fill_(1.0), norm.bias.zero_(), norm.running_mean.zero_(), norm.running_var.fill_(1.0)
    freeze_batch_norm(norm)
    for conv in branches.convs:
        if conv.bias is None:
            conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels))
        conv.requires_grad_(False)


def _all_branches(network: nn.Module) -> Iterator[Branches]:
    return (m.branches() for m in network.modules() if isinstance(m, ParallelBottleneck | ParallelHead))
