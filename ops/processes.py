"""What several processes that train one network tell each other; with one process nothing happens.

Every function here is called by all processes, or by none: each waits for the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_BYTES = 32 * 2**20
"""Tensors are sent so many bytes at once: fewer messages than tensors, and little memory besides."""


def num_processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_processes(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sum of each tensor over all processes, which have tensors of the same shapes and dtypes.

    Every process gets the same bits. With one process the tensors themselves come back.
    """
    if num_processes() == 1:
        return list(tensors)
    buckets = [(bucket, torch.cat([t.detach().flatten() for t in bucket])) for bucket in _buckets(tensors)]
    waiting = [dist.all_reduce(flat, async_op=True) for _, flat in buckets]
    sums: list[Tensor] = []
    for (bucket, flat), work in zip(buckets, waiting, strict=True):
        assert work is not None
        work.wait()
        parts = flat.split([t.numel() for t in bucket])
        sums += [part.view(t.shape) for part, t in zip(parts, bucket, strict=True)]
    return sums


def mean_number(value: float) -> float:
    """The mean of one number over all processes."""
    processes = num_processes()
    if processes == 1:
        return value
    (total,) = sum_over_processes([torch.tensor([value], dtype=torch.float64)])
    return float(total) / processes


def stacked(tensor: Tensor) -> Tensor:
    """The tensors of all processes, which have one shape and dtype: (processes, ...)."""
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(num_processes())]
    if len(parts) == 1:
        return tensor[None]
    dist.all_gather(parts, tensor.detach().contiguous())
    return torch.stack(parts)


def gathered(tensor: Tensor) -> list[Tensor]:
    """The tensor (n, ...) of each process, in their order; n may differ, the rest may not."""
    if num_processes() == 1:
        return [tensor]
    sizes = stacked(torch.tensor(len(tensor), device=tensor.device)).tolist()
    padded = tensor.new_zeros(max(*sizes, 1), *tensor.shape[1:])
    padded[: len(tensor)] = tensor.detach()
    return [part[:size] for part, size in zip(stacked(padded), sizes, strict=True)]


def of_first_process(tensor: Tensor) -> Tensor:
    """The tensor of process 0; all have the same shape and dtype."""
    if num_processes() == 1 or not tensor.numel():
        return tensor
    copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    dist.broadcast(copy, src=0)
    return copy


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """In order; those of one bucket have one dtype and device, and few bytes together."""
    buckets: list[list[Tensor]] = []
    free = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        kind = (tensor.dtype, tensor.device)
        if not buckets or size > free or kind != (buckets[-1][0].dtype, buckets[-1][0].device):
            buckets.append([])
            free = BUCKET_BYTES
        buckets[-1].append(tensor)
        free -= size
    return buckets
