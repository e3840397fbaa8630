"""Sample predictions of a runs folder: where they lie, and what their PNGs mean. Anybody may write them.

    <runs>/samples/<protocol>/<image>/image.jpg
    <runs>/samples/<protocol>/<image>/truth.png
    <runs>/samples/<protocol>/<image>/<method>/seed-<n>/step-<t>.png

`<method>` is the row's name as in the path of its record, `<t>` the step of the protocol after which it was
predicted, from 0; a method that trains all steps as one has the last step alone.

`truth.png` has the photograph's size and knows the classes of all steps. A prediction of any size with the
photograph's proportions covers all of it; a square one covers the central square, which is what the methods
of the DeepLab family are tested on.

Semantic: one 8-bit channel (mode L or P), the label id of each pixel, 0 background, 255 ignored or nothing.
Panoptic and instance: RGB. R is the label id, 255 where no segment lies; G + 256 B is the number of the
segment, from 1, 0 where there is none. Predicted instances are those of a score of 0.5 and more, surer ones
on top.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NOTHING = 255
"""The label id where nothing is known or said."""


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A truth or a prediction."""

    labels: NDArray[np.uint8]
    """(H, W) label ids, 255 where there is none."""
    segments: NDArray[np.uint16] | None = None
    """(H, W) n in 1..N where segment n lies, 0 where there is none; None for the semantic task."""

    def png(self) -> bytes:
        if self.segments is None:
            return _encoded(self.labels)
        low, high = self.segments & 255, self.segments >> 8
        return _encoded(np.stack([self.labels, low, high], axis=-1).astype(np.uint8))


def read_label_map(path: Path) -> LabelMap:
    """Raises ValueError, in a few words, where there is no such file, or it holds something else."""
    pixels = read_pixels(path, ("L", "P", "RGB"))
    if pixels.ndim == 2:
        return LabelMap(pixels)
    label, low, high = np.moveaxis(pixels, -1, 0)
    return LabelMap(label, (low + 256 * high.astype(np.uint16)).astype(np.uint16))


def read_pixels(path: Path, modes: tuple[str, ...] = ("RGB",)) -> NDArray[np.uint8]:
    """uint8 (H, W) or (H, W, 3) of an image in one of Pillow's `modes`; ValueError as `read_label_map`."""
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
    except FileNotFoundError:
        raise ValueError("no file") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        raise ValueError("damaged file") from None
    if image.mode not in modes:
        raise ValueError(f"image of mode {image.mode}")
    return np.asarray(image)


def image_folder(runs: Path, protocol: str, image: str) -> Path:
    return runs / "samples" / protocol / image


def image_folders(runs: Path, protocol: str) -> list[Path]:
    """Of the images of which there are samples, in the order of their names."""
    folder = runs / "samples" / protocol
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def prediction_path(folder: Path, method: str, seed: int, step: int) -> Path:
    """In an image's folder."""
    return folder / folder_of(method) / f"seed-{seed}" / f"step-{step}.png"


def folder_of(name: str) -> str:
    """A row's name as a folder: it may hold a path that the user set."""
    return re.sub(r"[^\w.=,\[\]@+-]", "_", name)


def _encoded(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
