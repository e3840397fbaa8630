"""CoMFormer's network: the masks of an image's queries share its pixels, by a softmax over the queries."""

from __future__ import annotations

from torch import Tensor

from methods.networks.mask2former.decoder import MaskedDecoder, Memory
from methods.networks.mask2former.network import Mask2Former


class SoftMemory(Memory):
    """Source: CoMFormer mask2former_transformer_decoder.py@forward_prediction_heads, `softmask`."""

    def inside(self, masks: Tensor) -> Tensor:
        return masks.softmax(dim=1) >= 0.5


class SoftMaskDecoder(MaskedDecoder):
    memory = SoftMemory


class SoftMask2Former(Mask2Former):
    decoder = SoftMaskDecoder
