"""A data set of four coloured classes that trains in a second, and the protocol on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = np.array([[90, 90, 90], [220, 40, 40], [40, 220, 40], [40, 40, 220], [220, 220, 40]], np.uint8)
NAMES = ["red", "green", "blue", "yellow"]


def write_tiny_dataset(root: Path, train: int = 12, val: int = 6) -> None:
    """Images of 36 x 40 pixels with two coloured rectangles each."""
    generator = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for split, count in (("train", train), ("val", val)):
        stems = [f"{split}_{i}" for i in range(count)]
        (root / f"{split}.txt").write_text("\n".join(stems) + "\n")
        for i, stem in enumerate(stems):
            mask = np.zeros((36, 40), np.uint8)
            mask[4:20, 4:36] = 1 + i % 4
            mask[20:32, 6:30] = 1 + (i // 2 + 1) % 4
            noise = generator.integers(-20, 20, (36, 40, 3))
            image = np.clip(COLOURS[mask].astype(int) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(mask).save(root / "masks" / f"{stem}.png")
            Image.fromarray(image).save(root / "images" / f"{stem}.png")


def write_tiny_protocol(folder: Path, iterations: int = 5) -> Path:
    write_tiny_dataset(folder / "tiny")
    path = folder / "tiny-2-1.toml"
    path.write_text(
        f"""
name = "tiny-2-1"
steps = [["red", "green"], ["blue"], ["yellow"]]
[dataset]
layout = "folder"
root = "tiny"
images = "images"
masks = "masks"
train = "train.txt"
val = "val.txt"
classes = ["background", "red", "green", "blue", "yellow"]
background = true
[recipe]
backbone = "resnet-mini"
output_stride = 4
head_hidden_channels = 8
head_channels = 8
dilations = [1, 2, 3]
crop = 32
batch = 4
iterations = {iterations}
later_iterations = {iterations}
lr = 0.05
later_lr = 0.02
"""
    )
    return path
