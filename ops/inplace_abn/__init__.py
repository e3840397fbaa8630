"""Activated batch normalisation that keeps one map for its backward instead of two."""

from ops.inplace_abn.function import inplace_abn
from ops.inplace_abn.layer import InPlaceABN

__all__ = ["InPlaceABN", "inplace_abn"]
