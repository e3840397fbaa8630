"""Weights that others wrote: their parameter names -> ours, their position tables -> our grid.

Encoders: timm (also BEiT-v2), mmsegmentation, Hugging Face transformers (as on the hub, and of version 5).
Whole networks: those of SegViT and CIT.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

from methods.networks.checkpoints import load_strictly, read_state
from methods.networks.segvit.encoder import PlainViT
from methods.networks.segvit.network import SegViT
from methods.networks.segvit.relative import NUM_CLASS_TOKEN_ENTRIES, num_offsets
from methods.networks.segvit.tokens import Grid, resize_table

#: Before an encoder's own names in the state of a whole model.
_PREFIX = re.compile(r"^(backbone|vit|beit|model)\.")
#: Classifiers, poolers, last norms (no tap is behind one), and buffers that follow from the grid.
_NOT_OURS = re.compile(
    r"(head|fc_norm|norm|ln1|layernorm|classifier|pooler)\.|mask_token|.*relative_position_index$"
)
#: (pattern, replacement), all that match, in this order.
_ENCODER_RULES = [
    (r"^encoder\.layer\.", "blocks."),
    (r"^layers\.", "blocks."),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^(blocks\.\d+\.)(ln1|layernorm_before)\.", r"\1norm1."),
    (r"^(blocks\.\d+\.)(ln2|layernorm_after)\.", r"\1norm2."),
    (r"\.attn\.attn\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.attention\.(attention\.)?(q|k|v)(uery|ey|alue|_proj)\.", r".attn.\2."),
    (r"\.(ffn\.layers\.0\.0|intermediate\.dense)\.", ".mlp.fc1."),
    (r"^(blocks\.\d+\.)(ffn\.layers\.1|output\.dense)\.", r"\1mlp.fc2."),
    (r"^blocks\.(\d+)\.attn\.relative_position_bias_table$", r"relative.tables.\1"),
]
_HEAD_RULES = [
    (r"^decode_head\.(atm\.)?", ""),
    (r"^q\.weight$", "tokens.0"),
    *((rf"^input_proj_{level + 1}\.", f"projections.{level}.linear.") for level in range(3)),
    *((rf"^proj_norm_{level + 1}\.", f"projections.{level}.norm.") for level in range(3)),
    *((rf"^decoder_{level + 1}\.layers\.", f"levels.{level}.") for level in range(3)),
]


_FROZEN_HEAD = re.compile(r"decode_head_freeze_\d{1,3}")


def adapt_encoder_state(state: Mapping[str, Tensor], encoder: PlainViT) -> dict[str, Tensor]:
    """The encoder's part of a state dict by our names, with position tables resized to its grid."""
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        key = _PREFIX.sub("", key)
        if not _NOT_OURS.match(key):
            for pattern, replacement in _ENCODER_RULES:
                key = re.sub(pattern, replacement, key)
            named[key] = value
    named = _packed(named)
    return {key: _on_grid(key, value, encoder) for key, value in named.items()}


def load_encoder_weights(encoder: PlainViT, path: str | Path) -> None:
    """Loads pretrained weights of any format above; ValueError, naming the file, for what does not fit."""
    load_strictly(encoder, adapt_encoder_state(read_state(path), encoder), source=str(path))


def load_official_state(network: SegViT, state: Mapping[str, Tensor], source: str) -> None:
    """Loads a checkpoint of SegViT, plain or shrunk, or of CIT's heads into a network of one head.

    Strict: raises ValueError, naming `source`, for keys or shapes that differ.
    """
    load_strictly(network, adapt_official_state(network, state), source)


def adapt_official_state(network: SegViT, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of such a checkpoint by our names, with position tables resized to the network's grid.

    CIT's frozen heads of earlier steps become `teachers.{step}`. What is no part of a network keeps its name;
    class weights of losses are left out.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        parts.setdefault(part, {})[rest] = value
    encoder = {f"backbone.{k}": v for k, v in parts.pop("backbone", {}).items()}
    ours = {f"encoder.{k}": v for k, v in adapt_encoder_state(encoder, network.encoder).items()}
    ours |= _adapt_head(parts.pop("decode_head", {}), network, "heads.0.")
    frozen = sorted((part for part in parts if _FROZEN_HEAD.fullmatch(part)), key=_by_number)
    for step, part in enumerate(frozen):
        ours |= _adapt_head(parts.pop(part), network, f"teachers.{step}.")
    left = {f"{part}.{k}".rstrip("."): v for part, named in parts.items() for k, v in named.items()}
    return ours | left


def _adapt_head(head: Mapping[str, Tensor], network: SegViT, prefix: str) -> dict[str, Tensor]:
    """One head by our names; its class tokens (C, D), which CIT has as one, are one parameter a step."""
    names = official_names([f"decode_head.{key}" for key in head], network)
    ours = {
        prefix + name.removeprefix("heads.0."): head[key.removeprefix("decode_head.")]
        for key, name in names.items()
    }
    tokens, sizes = ours.get(f"{prefix}tokens.0"), [len(table) for table in network.newest.tokens]
    for number in range(2, len(sizes) + 1):
        if tokens is not None and len(tokens) == sum(sizes[:number]):
            ours |= {f"{prefix}tokens.{i}": t for i, t in enumerate(tokens.split(sizes[:number]))}
    return ours


def _by_number(name: str) -> tuple[int, str]:
    return len(name), name


def official_names(keys: Iterable[str], network: SegViT) -> dict[str, str]:
    """Our name of each parameter of an official head; the losses' class weights are none."""
    config, names = network.config, {}
    for key in keys:
        if not key.startswith("decode_head.") or "loss_decode" in key:
            continue
        name = key
        for pattern, replacement in _HEAD_RULES:
            name = re.sub(pattern, replacement, name)
        if config.shrinks and not key.startswith("decode_head.atm."):
            name = "queries" if name == "tokens.0" else re.sub(r"^levels\.(\d)\.", r"gather.\1.layers.", name)
        elif config.shrinks:
            name = name.replace("levels.0.", "layers.")
        if not config.shared_classifier:
            name = name.replace("class_embed.", "class_embed.0.")
        names[key] = f"heads.0.{name}"
    return names


def _packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With queries, keys and values of a block as one parameter, and a bias of the keys, which BEiT lacks."""
    out = {k: v for k, v in state.items() if not re.search(r"\.attn\.([qkv]\.|[qv]_bias)", k)}
    for key, value in state.items():
        if ".attn.q." in key:
            parts = [state[key.replace(".attn.q.", f".attn.{part}.")] for part in "qkv"]
            out[key.replace(".attn.q.", ".attn.qkv.")] = torch.cat(parts)
        elif key.endswith(".attn.q_bias"):
            # A bias of the keys adds the same to all products of a query, which softmax takes out.
            parts = [value, torch.zeros_like(value), state[key.replace("q_bias", "v_bias")]]
            out[key.replace("q_bias", "qkv.bias")] = torch.cat(parts)
    return out


def _on_grid(key: str, value: Tensor, encoder: PlainViT) -> Tensor:
    if key == "pos_embed" and value.ndim == 3 and encoder.pos_embed is not None:
        side = isqrt(value.shape[1] - 1)
        places = resize_table(value[0, 1:], (side, side), encoder.grid)
        return torch.cat([value[:, :1], places[None]], dim=1)
    if key.startswith("relative.tables.") and encoder.relative is not None:
        return resize_offsets(value, encoder.grid)
    return value


def resize_offsets(table: Tensor, grid: Grid) -> Tensor:
    """A table of a square grid, (offsets + 3, heads), for another: cubic splines through places whose
    distance grows geometrically from the middle, so that near offsets keep their resolution.

    Source: BEiT `run_class_finetuning.py`, mmsegmentation `beit.py@resize_rel_pos_embed`, whose interp2d is a
    bivariate spline without smoothing.
    """
    offsets, rest = table[:-NUM_CLASS_TOKEN_ENTRIES], table[-NUM_CLASS_TOKEN_ENTRIES:]
    old = isqrt(len(offsets))
    rows, columns = num_offsets(grid)
    if (old, old) == (rows, columns):
        return table
    if rows != columns:
        raise ValueError(f"relative positions can be resized to square grids alone, not to {grid}")
    known = _geometric_places(old, rows)
    wanted = np.arange(rows) - (rows - 1) / 2
    squares = offsets.T.unflatten(1, (old, old)).double().numpy()
    resized = np.stack([RectBivariateSpline(known, known, square)(wanted, wanted) for square in squares])
    return torch.cat([torch.from_numpy(resized).flatten(1).T.to(table), rest])


def _geometric_places(old: int, new: int) -> np.ndarray:
    """(old,) symmetric places 0, ±1, ±(1 + q), ... of which the outermost reach the new border."""
    half, target = old // 2, new // 2
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        total = (1 - ratio**half) / (1 - ratio)
        low, high = (low, ratio) if total > target else (ratio, high)
    distances = np.cumsum(ratio ** np.arange(half))
    return np.concatenate([-distances[::-1], [0.0], distances])
