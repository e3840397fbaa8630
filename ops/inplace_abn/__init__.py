"""Activated batch normalisation that keeps one map for its backward instead of two."""

from ops.inplace_abn.function import inplace_abn
from ops.inplace_abn.layer import InPlaceABN
from ops.inplace_abn.synchronised import synchronised_batch_norm

__all__ = ["InPlaceABN", "inplace_abn", "synchronised_batch_norm"]
