"""MobileNetV2 of torchvision as a backbone: the last strided block is dilated instead."""

from typing import ClassVar, cast

from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from methods.networks.features import FeatureMaps

#: Index in torchvision's `features` of the last block at each of the strides 4, 8, 16 and 32; what
#: follows them, the 1×1 convolution to 1280 channels, belongs to the classifier (as DeepLab on
#: MobileNetV2 has it).
STAGE_ENDS = (3, 6, 13, 17)


class MobileNetV2(nn.Module):
    """(B, 3, H, W) images -> (B, 320, H / stride, W / stride), rounded up; keys are torchvision's.

    `output_stride` is 8, 16 or 32, else ValueError. A depthwise convolution that no longer strides
    keeps its own dilation and those after it double theirs, so ImageNet weights see what they saw, on a
    denser grid.
    """

    #: The weights we know of were trained on RGB in [-1, 1].
    pixel_mean: ClassVar = (0.5, 0.5, 0.5)
    pixel_std: ClassVar = (0.5, 0.5, 0.5)
    out_channels: ClassVar = 320

    def __init__(self, output_stride: int = 16) -> None:
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"output stride {output_stride} is out of reach: choose 8, 16, 32")
        self.output_stride = output_stride
        self.features = mobilenet_v2().features[: STAGE_ENDS[-1] + 1]
        dilate(self.features, output_stride)

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.features(images))

    def feature_maps(self, images: Tensor) -> FeatureMaps:
        """The last block of each stride. Blocks end linear: there is nothing to take before an activation."""
        x, stages = images, []
        for index, block in enumerate(self.features):
            x = block(x)
            if index in STAGE_ENDS:
                stages.append(x)
        return FeatureMaps(tuple(stages), tuple(stages))

    @staticmethod
    def adapt_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parameters of torchvision's classifier -> those of this body."""
        dropped = ("classifier.", f"features.{STAGE_ENDS[-1] + 1}.")
        return {key: value for key, value in state.items() if not key.startswith(dropped)}


def dilate(features: nn.Module, output_stride: int) -> None:
    """Turns strides beyond `output_stride` into dilations, in place."""
    stride, dilation = 1, 1
    for conv in (m for m in features.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)):
        conv.dilation = (dilation, dilation)
        conv.padding = (dilation, dilation)
        if conv.stride == (2, 2):
            if stride == output_stride:
                conv.stride = (1, 1)
                dilation *= 2
            else:
                stride *= 2
    assert stride == output_stride
