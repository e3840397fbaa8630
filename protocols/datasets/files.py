"""Reading photographs, masks and list files so that every mistake of theirs is one clear line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# What Pillow is known to raise on a file that is cut short, empty or not an image.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def _load(path: Path, kind: str) -> Image.Image:
    try:
        # The whole file at once: Pillow would read a PNG in dozens of pieces.
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: this {kind} is in the list but not on disk: restore it") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: this {kind} is damaged (no image): fetch or extract it again") from None
    except (*_BROKEN, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: this {kind} is damaged ({reason}): fetch or extract it again") from None


def open_image(path: Path) -> Image.Image:
    """The photograph at `path` as RGB. FileNotFoundError, or ValueError when it is damaged."""
    return _load(path, "image").convert("RGB")


def open_mask(path: Path) -> Image.Image:
    """The label PNG at `path`, loaded, in mode P, L or 1: palette indices are never turned into colours."""
    mask = _load(path, "mask")
    if mask.mode not in ("P", "L", "1"):
        raise ValueError(
            f"{path}: a mask of mode {mask.mode}, where one 8-bit channel of class ids (P or L) is needed: "
            "convert its colours to ids first"
        )
    return mask


def open_id_mask(path: Path) -> npt.NDArray[np.int32]:
    """(H, W) segment ids of a COCO panoptic PNG: R + 256 G + 65536 B."""
    colours = open_colours(path, "panoptic mask").astype(np.int32)
    return colours[..., 0] | colours[..., 1] << 8 | colours[..., 2] << 16


def open_colours(path: Path, kind: str) -> npt.NDArray[np.uint8]:
    """(H, W, 3): a PNG whose three channels are numbers; `kind` is what errors call it."""
    image = _load(path, kind)
    if image.mode != "RGB":
        raise ValueError(
            f"{path}: this {kind} is of mode {image.mode} instead of RGB: make or fetch it again"
        )
    return np.asarray(image)


def photograph_size(path: Path) -> tuple[int, int]:
    """Width and height from the header alone."""
    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: this image is in the list but not on disk: restore it") from None
    except (*_BROKEN, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: this image is damaged ({reason}): fetch or extract it again") from None


def mask_array(mask: Image.Image) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 values as they stand in the file; a 1-bit mask gives 0 and 1."""
    return np.asarray(mask).astype(np.uint8)


def mask_values(mask: Image.Image) -> npt.NDArray[np.int64]:
    """The distinct values of a mask, ascending."""
    if mask.mode == "1":
        return np.unique(mask_array(mask)).astype(np.int64)
    # Pillow counts in C without a copy of the pixels: several times faster than np.unique.
    return np.flatnonzero(mask.histogram()).astype(np.int64)


def read_lines(path: Path, what: str) -> list[str]:
    """The non-empty lines of a text file, stripped. Errors name the file and say that it is `what`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise FileNotFoundError(
            f"{path}: {what} is missing: put it there or pass another data root"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: {what} cannot be read ({reason}): save it as UTF-8 text") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def list_folder(folder: Path, suffix: str, what: str) -> list[Path]:
    """The files of `folder` whose name ends in `suffix`, sorted by name as the official code does."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: {what} is missing: put it there or pass another data root")
    return sorted(path for path in folder.iterdir() if path.name.endswith(suffix))
