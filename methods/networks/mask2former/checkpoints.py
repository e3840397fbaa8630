"""Official checkpoints of Mask2Former, BalConpas and SimCIS: their parameter names -> ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from methods.networks.checkpoints import load_strictly

#: (pattern, replacement), the first that matches. The body is named as in torchvision, the rest officially.
_RULES = [
    (r"backbone\.stem\.conv1\.norm\.", r"backbone.bn1."),
    (r"backbone\.stem\.", r"backbone."),
    (r"backbone\.res(\d)\.(\d+)\.shortcut\.norm\.", r"backbone.layer\1.\2.downsample.1."),
    (r"backbone\.res(\d)\.(\d+)\.shortcut\.", r"backbone.layer\1.\2.downsample.0."),
    (r"backbone\.res(\d)\.(\d+)\.conv(\d)\.norm\.", r"backbone.layer\1.\2.bn\3."),
    (r"backbone\.res(\d)\.(\d+)\.", r"backbone.layer\1.\2."),
    (r"sem_seg_head\.predictor\._bbox_embed\.", r"predictor.bbox_embed."),
    (r"sem_seg_head\.", r""),
]
#: Weights of the criterion; SimCIS's one box head again, once for each layer.
_NOT_OURS = re.compile(r"criterion\.|sem_seg_head\.predictor\.bbox_embed\.")
_STAGES = {f"layer{n + 1}.": f"layer{n}." for n in range(1, 5)}  # detectron2 counts the stages from 2


def ours(key: str) -> str:
    """Our name of an official parameter."""
    for pattern, replacement in _RULES:
        renamed, found = re.subn("^" + pattern, replacement, key)
        if found:
            return re.sub(r"layer\d\.", lambda match: _STAGES[match[0]], renamed)
    return key


def adapt_official_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of an official checkpoint, without the weights of its criterion, by our names."""
    renamed = {ours(key): value for key, value in state.items() if not _NOT_OURS.match(key)}
    if "predictor.enc_output.weight" in renamed:
        return renamed  # SimCIS, whose class head does not grow
    return {k.replace(".class_embed.", ".class_embeds.0."): value for k, value in renamed.items()}


def load_official_state(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads the `model` of a checkpoint of Mask2Former or BalConpas into a `Mask2Former` grown alike, or of
    one of SimCIS into a `SimCISNetwork`.

    Strict: raises ValueError, naming `source`, for keys or shapes that differ.
    """
    load_strictly(network, adapt_official_state(state), source)
