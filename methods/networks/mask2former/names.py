"""Names of a ResNet's parameters: detectron2's and Caffe2's -> torchvision's, which are ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

#: (pattern, replacement), the first that matches.
_DETECTRON2 = [
    (r"stem\.conv1\.norm\.", r"bn1."),
    (r"stem\.", r""),
    (r"res(\d)\.(\d+)\.shortcut\.norm\.", r"res\1.\2.downsample.1."),
    (r"res(\d)\.(\d+)\.shortcut\.", r"res\1.\2.downsample.0."),
    (r"res(\d)\.(\d+)\.conv(\d)\.norm\.", r"res\1.\2.bn\3."),
]
#: As detectron2 has them after `c2_model_loading.py@convert_basic_c2_names`.
_CAFFE2 = [
    (r"^(conv1|res\d_\d+_branch(?:1|2[abc]))_w$", r"\1.weight"),
    (r"^res_(conv1)_bn_", r"\1.norm."),
    (r"^(res\d_\d+_branch(?:1|2[abc]))_bn_", r"\1.norm."),
    (r"norm\.(s|gamma)$", r"norm.weight"),
    (r"norm\.(b|beta)$", r"norm.bias"),
    (r"norm\.(rm|running_mean)$", r"norm.running_mean"),
    (r"norm\.(riv|running_var)$", r"norm.running_var"),
    (r"^conv1\.", r"stem.conv1."),
    (r"^res(\d)_(\d+)_branch1\.", r"res\1.\2.shortcut."),
    *((rf"^res(\d)_(\d+)_branch2{letter}\.", rf"res\1.\2.conv{i}.") for i, letter in enumerate("abc", 1)),
]


def torchvision_name(key: str) -> str:
    """Of a parameter of detectron2's `build_resnet_backbone`."""
    for pattern, replacement in _DETECTRON2:
        renamed, found = re.subn("^" + pattern, replacement, key)
        if found:
            key = renamed
            break
    # detectron2 counts the stages from 2
    return re.sub(r"^res([2-5])\.", lambda match: f"layer{int(match[1]) - 1}.", key)


def as_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's state dict by torchvision's names, from detectron2's, Caffe2's, or torchvision's own.

    Caffe2's normalisation has a scale and an offset alone: its statistics become those that change nothing
    but for ε, as in detectron2's batch_norm.py@FrozenBatchNorm2d for its version 1.
    """
    if "conv1_w" in state:
        state = _from_caffe2(state)
    if not any(key.startswith("stem.") for key in state):
        return dict(state)
    return {torchvision_name(key): value for key, value in state.items()}


def _from_caffe2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith(("fc1000", "pred_")) or key.endswith(("_momentum", "lr", "model_iter")):
            continue  # the classifier, and what its training left
        for pattern, replacement in _CAFFE2:
            key = re.sub(pattern, replacement, key)
        named[key] = value
    for key in [key for key in named if key.endswith("norm.weight")]:
        for statistic, number in (("running_mean", 0.0), ("running_var", 1.0)):
            value = torch.full_like(named[key], number)
            named.setdefault(key.replace("norm.weight", f"norm.{statistic}"), value)
    return named
