"""Normalisation layers that stay frozen, and those whose statistics several processes share."""

from typing import Self

from torch import Tensor, nn

from ops.inplace_abn import InPlaceABN, synchronised_batch_norm


class _StaysInEval(nn.Module):
    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class FrozenBatchNorm2d(_StaysInEval, nn.BatchNorm2d):
    pass


class FrozenInPlaceABN(_StaysInEval, InPlaceABN):
    pass


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Trains on the statistics of all processes' batches together."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked += 1
        return synchronised_batch_norm(
            x, self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps
        )


_FROZEN: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: FrozenBatchNorm2d,
    SynchronisedBatchNorm2d: FrozenBatchNorm2d,
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


def synchronise_batch_norm(module: nn.Module) -> None:
    """Every `nn.BatchNorm2d` inside `module` from now on shares its batch statistics with all processes.

    `InPlaceABN` does so by itself. Works in place, as `freeze_batch_norm` does, and leaves frozen layers
    alone.
    Source: Mask2Former's configs have SyncBN wherever batch normalisation is trained.
    """
    for layer in module.modules():
        if type(layer) is nn.BatchNorm2d and layer.affine and layer.track_running_stats and layer.momentum:
            layer.__class__ = SynchronisedBatchNorm2d


def has_batch_statistics(module: nn.Module) -> bool:
    """Whether training would normalise some map by the statistics of its batch."""
    kinds = (nn.modules.batchnorm._BatchNorm, InPlaceABN)
    return any(isinstance(m, kinds) and not isinstance(m, _StaysInEval) for m in module.modules())
