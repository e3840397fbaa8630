"""Official checkpoints of Mask2Former and of the methods on it: their parameter names -> ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from methods.networks.checkpoints import load_strictly
from methods.networks.mask2former.names import torchvision_name

#: Weights of the criterion; SimCIS's one box head again, once for each layer.
_NOT_OURS = re.compile(r"criterion\.|sem_seg_head\.predictor\.bbox_embed\.")
#: Mask2Former's one linear class head: the first of those that grow.
_CLASS_HEAD = re.compile(r"predictor\.class_embed\.(?=weight$|bias$)")


def _our_name(key: str) -> str:
    """Our name of an official parameter: torchvision's in the body, the official one in the rest."""
    if key.startswith("backbone."):
        return "backbone." + torchvision_name(key.removeprefix("backbone."))
    return key.removeprefix("sem_seg_head.").replace("predictor._bbox_embed.", "predictor.bbox_embed.")


def adapt_official_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of an official checkpoint, without the weights of its criterion, by our names."""
    renamed = {_our_name(key): value for key, value in state.items() if not _NOT_OURS.match(key)}
    if "predictor.enc_output.weight" in renamed:
        return renamed  # SimCIS, whose class head does not grow
    return {_CLASS_HEAD.sub("predictor.class_embeds.0.", k): value for k, value in renamed.items()}


def load_official_state(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads the `model` of a checkpoint of Mask2Former or BalConpas into a `Mask2Former` grown alike, or of
    one of SimCIS into a `SimCISNetwork`.

    Strict: raises ValueError, naming `source`, for keys or shapes that differ.
    """
    load_strictly(network, adapt_official_state(state), source)
