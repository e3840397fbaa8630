"""Backbones by name."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol, cast

from torch import Tensor, nn

from methods.networks.checkpoints import load_strictly, read_state
from methods.networks.features import FeatureMaps
from methods.networks.mobilenet import MobileNetV2
from methods.networks.resnet import RESNETS, NormFactory, ResNet
from ops.inplace_abn import InPlaceABN


class Backbone(Protocol):
    """What a head needs of a body. Every backbone is also an `nn.Module`."""

    pixel_mean: ClassVar[tuple[float, float, float]]
    pixel_std: ClassVar[tuple[float, float, float]]

    @property
    def out_channels(self) -> int: ...
    @property
    def output_stride(self) -> int: ...
    def __call__(self, images: Tensor) -> Tensor: ...
    def feature_maps(self, images: Tensor) -> FeatureMaps: ...
    def adapt_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]: ...


def _mobilenet(output_stride: int, norm: NormFactory) -> nn.Module:
    # Its blocks are batch normalisation + ReLU6, which cannot be inverted: `norm` has no say.
    return MobileNetV2(output_stride)


BACKBONES: dict[str, Callable[[int, NormFactory], nn.Module]] = {
    **{name: partial(ResNet, config) for name, config in RESNETS.items()},
    "mobilenet-v2": _mobilenet,
}


def check_backbone(name: str) -> None:
    """Raises ValueError, with the nearest known names, for an unknown backbone."""
    if name not in BACKBONES:
        near = get_close_matches(name, BACKBONES, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"unknown backbone {name!r}: {hint}known are {', '.join(BACKBONES)}")


def build_backbone(name: str, output_stride: int = 16, norm: NormFactory = InPlaceABN) -> Backbone:
    """The backbone `name`, randomly initialised; ValueError if unknown or the stride is out of reach."""
    check_backbone(name)
    return cast(Backbone, BACKBONES[name](output_stride, norm))


def load_backbone_weights(backbone: Backbone, path: str | Path) -> None:
    """Loads ImageNet weights of any format that `read_state` knows, without their classifier.

    Raises ValueError, in one line that names the file, for what does not fit.
    """
    state = backbone.adapt_state(read_state(path))
    load_strictly(cast(nn.Module, backbone), state, source=str(path))
