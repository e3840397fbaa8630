"""Normalisation layers that stay frozen."""

from typing import Self

from torch import nn

from ops.inplace_abn import InPlaceABN


class _StaysInEval(nn.Module):
    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class FrozenBatchNorm2d(_StaysInEval, nn.BatchNorm2d):
    pass


class FrozenInPlaceABN(_StaysInEval, InPlaceABN):
    pass


_FROZEN: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: FrozenBatchNorm2d,
    InPlaceABN: FrozenInPlaceABN,
}


def freeze_batch_norm(module: nn.Module) -> None:
    """Freezes statistics and affine parameters of every normalisation layer inside `module`, for good.

    `module.train()` does not thaw them (MiB's `--fix_bn` does, its next epoch calls `train()`), copies
    stay frozen and state-dict keys stay the same. Works in place, by giving each layer the class of its
    frozen twin.
    """
    for layer in module.modules():
        frozen = _FROZEN.get(type(layer))
        if frozen is not None:
            layer.__class__ = frozen
            layer.eval()
            layer.requires_grad_(False)
