"""State dicts as official checkpoints have them, filled by formula, and numbers that sum a tensor up."""

import torch
from torch import Tensor

from tests.golden import wave

WIDTH, HEAD, CLASSES, CROP = 24, 12, 5, 64
"""Of a small encoder and its head; three classes are shown, and a grid of 4 x 4."""

Shapes = dict[str, tuple[int, ...]]


def _linear(name: str, out: int, width: int) -> Shapes:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _packed_attention(name: str, width: int) -> Shapes:
    packed = {f"{name}.in_proj_weight": (3 * width, width), f"{name}.in_proj_bias": (3 * width,)}
    return packed | _linear(f"{name}.out_proj", width, width)


def _decoder(name: str, width: int, mask_attention: bool, self_attention: bool = True) -> Shapes:
    shapes: Shapes = {}
    for i in range(3):
        layer = f"{name}.layers.{i}"
        if self_attention:
            shapes |= _packed_attention(f"{layer}.self_attn", width) | _norm(f"{layer}.norm1", width)
        if mask_attention:
            for part in ("q", "k", "v", "proj"):
                shapes |= _linear(f"{layer}.multihead_attn.{part}", width, width)
        else:
            shapes |= _packed_attention(f"{layer}.multihead_attn", width)
        shapes |= _linear(f"{layer}.linear1", 4 * width, width) | _linear(
            f"{layer}.linear2", width, 4 * width
        )
        shapes |= _norm(f"{layer}.norm2", width) | _norm(f"{layer}.norm3", width)
    return shapes


def encoder_shapes(width: int = WIDTH, depth: int = 4, places: int = 16, patch: int = 16) -> Shapes:
    shapes: Shapes = {"backbone.cls_token": (1, 1, width), "backbone.pos_embed": (1, places + 1, width)}
    shapes["backbone.patch_embed.projection.weight"] = (width, 3, patch, patch)
    shapes["backbone.patch_embed.projection.bias"] = (width,)
    for i in range(depth):
        layer = f"backbone.layers.{i}"
        shapes |= _norm(f"{layer}.ln1", width) | _norm(f"{layer}.ln2", width)
        shapes |= _packed_attention(f"{layer}.attn.attn", width)
        shapes |= _linear(f"{layer}.ffn.layers.0.0", 4 * width, width)
        shapes |= _linear(f"{layer}.ffn.layers.1", width, 4 * width)
    return shapes


def head_shapes(
    kind: str, width: int = WIDTH, head: int = HEAD, classes: int = CLASSES, places: int = 16
) -> Shapes:
    """`kind`: "v1" (ATMHead), "v2" (ATMHeadV2) or "shrunk" (TPNATMHead)."""
    top, shapes = "decode_head", dict[str, tuple[int, ...]]()
    for level in range(1, 3 if kind == "shrunk" else 4):
        shapes |= _linear(f"{top}.input_proj_{level}", head, width) | _norm(f"{top}.proj_norm_{level}", head)
        shapes |= _decoder(f"{top}.decoder_{level}", head, kind != "shrunk", kind != "v2")
    if kind == "shrunk":
        shapes[f"{top}.q.weight"] = (places, head)
        top += ".atm"
        shapes |= _decoder(f"{top}.decoder_1", head, mask_attention=True)
    shapes[f"{top}.q.weight"] = (classes, head)
    return shapes | _linear(f"{top}.class_embed", 2 if kind == "v2" else classes + 1, head)


def state(shapes: Shapes) -> dict[str, Tensor]:
    """float64; different for each parameter; scales of layer norms are about 1."""
    filled = {}
    for i, (name, shape) in enumerate(sorted(shapes.items())):
        value = wave(shape, 0.7 + 0.013 * i, 0.1 * i, 0.3)
        scale = any(part in name for part in ("norm", ".ln")) and name.endswith("weight")
        filled[name] = value + 1 if scale else value
    return filled


def summary(tensor: Tensor) -> float:
    """A sum that every element takes part in with another weight."""
    return float((tensor.detach() * wave(tuple(tensor.shape), 1.7, 0.4, 1)).sum())


def labels() -> Tensor:
    """(2, 64, 64) in 0..4 and 255: an ignored band, an image with three classes, padding below."""
    cells = (3 * torch.arange(2 * 8 * 8)) % CLASSES
    maps = cells.view(2, 8, 8).repeat_interleave(8, 1).repeat_interleave(8, 2)
    maps[0, :, :10] = 255
    maps[1][maps[1] > 2] = 255
    maps[1, 50:] = 255
    return maps
