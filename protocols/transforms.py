"""Augmentation of the official DeepLab recipes: MiB, PLOP, RCIL `run.py@get_dataset`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

BILINEAR = F.InterpolationMode.BILINEAR
NEAREST = F.InterpolationMode.NEAREST

PixelStatistics = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of R, G, B in 0..1."""
IMAGENET: PixelStatistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

ASPECT_RATIO = [3 / 4, 4 / 3]


@dataclass(frozen=True)
class BoxCrop:
    """Draw a box, squash it to a square, flip it left-right half of the time."""

    crop: int
    """Side of the square."""
    area_factor: tuple[float, ...]
    """Least and most area of the box, relative to the image."""

    def __call__(self, image: Image.Image, labels: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
        """Returns a uint8 image (3, crop, crop) and uint8 labels (crop, crop).

        Everything random comes from `seed` alone, so the number of loader workers changes nothing.
        """
        target = Image.fromarray(labels)
        with torch.random.fork_rng(devices=[]):
            # The CPU's alone: torch.manual_seed, which seeds GPUs too, takes longer than the crop.
            torch.default_generator.manual_seed(seed)
            box = RandomResizedCrop.get_params(image, list(self.area_factor), ASPECT_RATIO)
            flip = bool(torch.rand(()) < 0.5)
        image = F.resized_crop(image, *box, [self.crop, self.crop], BILINEAR)
        target = F.resized_crop(target, *box, [self.crop, self.crop], NEAREST)
        if flip:
            image, target = F.horizontal_flip(image), F.horizontal_flip(target)
        return _as_tensors(image, target)

    def for_test(self, image: Image.Image, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Resize the shorter side to `crop` and cut the central square: what the papers evaluate on.

        Returns a uint8 image (3, crop, crop) and uint8 labels (crop, crop).
        """
        target = Image.fromarray(labels)
        image = F.center_crop(F.resize(image, [self.crop], BILINEAR), [self.crop, self.crop])
        target = F.center_crop(F.resize(target, [self.crop], NEAREST), [self.crop, self.crop])
        return _as_tensors(image, target)


def normalise(images: Tensor, statistics: PixelStatistics) -> Tensor:
    """uint8 (B, 3, H, W) in 0..255 -> float32, less the mean and over the standard deviation."""
    mean, deviation = statistics
    shift = torch.tensor(mean, device=images.device).view(3, 1, 1) * 255
    scale = torch.tensor(deviation, device=images.device).view(3, 1, 1) * 255
    return (images.float() - shift) / scale


def _as_tensors(image: Image.Image, target: Image.Image) -> tuple[Tensor, Tensor]:
    return F.pil_to_tensor(image), F.pil_to_tensor(target)[0]
