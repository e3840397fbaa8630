"""What two processes tell each other, and batch statistics that they share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.networks.norm import freeze_batch_norm, has_batch_statistics, synchronise_batch_norm
from ops import processes
from ops.inplace_abn import InPlaceABN, inplace_abn
from tests.pair import Pair

SIZES = (3, 2)
"""Images of each process."""


def test_sums_of_many_kinds(pair: Pair) -> None:
    first, second = pair.call(sums)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    assert [t.dtype for t in first] == [t.dtype for t in kinds(0)]
    expected = [a + b for a, b in zip(kinds(0), kinds(1), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(first, expected, strict=True))


def kinds(rank: int) -> list[Tensor]:
    """Several dtypes, shapes, an empty one, and one that is larger than a bucket."""
    generator = torch.Generator().manual_seed(rank)
    random = torch.rand(5, 3, generator=generator)
    counts = torch.tensor([[rank + 1, 2**60]])
    large = torch.full((700,), float(rank), dtype=torch.float64)
    channels_last = torch.rand(2, 3, 4, 5, generator=generator).contiguous(memory_format=torch.channels_last)
    return [random, torch.zeros(0), torch.tensor(2.5), counts, large, large[:3], channels_last]


def sums() -> list[Tensor]:
    processes.BUCKET_BYTES, kept = 1000, processes.BUCKET_BYTES
    found = processes.sum_over_processes(kinds(torch.distributed.get_rank()))
    processes.BUCKET_BYTES = kept
    return found


def test_gathering(pair: Pair) -> None:
    first, second = pair.call(gather)
    assert first == second == ([[[0, 0]] * 3, [], [[7, 7]]], [1, 2], 4.5)


def gather() -> object:
    rank = torch.distributed.get_rank()
    uneven = processes.gathered(torch.full((0 if rank else 3, 2), rank))
    one = processes.gathered(torch.full((rank, 2), 7))
    assert one[0].shape == (0, 2)
    told = processes.of_first_process(torch.tensor([1, 2]) + 5 * rank)
    mean = processes.mean_number(4 + rank)
    return [part.tolist() for part in (*uneven, one[1])], told.tolist(), mean


def test_alone_nothing_happens() -> None:
    tensor = torch.rand(3)
    assert processes.sum_over_processes([tensor])[0] is tensor
    assert processes.gathered(tensor)[0] is tensor
    assert processes.of_first_process(tensor) is tensor
    assert processes.mean_number(3) == 3


def layer(activation: str) -> nn.Module:
    torch.manual_seed(1)
    norm: nn.Module = nn.BatchNorm2d(4) if activation == "plain" else InPlaceABN(4, activation=activation)
    weight = torch.tensor([1.5, -0.7, -2.0, 0.0], dtype=torch.float64)
    with torch.no_grad():
        norm.double()
        norm.weight.copy_(weight)  # type: ignore[operator,union-attr]
        norm.bias.copy_(torch.tensor([0.2, -0.4, 0.0, 1.0]))  # type: ignore[operator,union-attr]
    return norm


def whole_batch(sizes: tuple[int, ...] = SIZES) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(sum(sizes), 4, 5, 2, generator=generator, dtype=torch.float64) * 2 + 1


def named(norm: nn.Module, x: Tensor, seed: Tensor) -> dict[str, Tensor]:
    x = x.requires_grad_()
    for _ in range(2):  # running statistics move twice
        y = norm(x)
    grad_x, grad_weight, grad_bias = torch.autograd.grad(y, [x, norm.weight, norm.bias], seed)
    running = dict(norm.named_buffers())
    return {"y": y.detach(), "dx": grad_x, "dweight": grad_weight, "dbias": grad_bias, **running}


def share_of_layer(activation: str) -> dict[str, Tensor]:
    norm, rank = layer(activation), torch.distributed.get_rank()
    synchronise_batch_norm(norm)
    x = whole_batch().split(SIZES)[rank]
    return named(norm, x.clone(), seed_of(whole_batch()).split(SIZES)[rank])


def seed_of(x: Tensor) -> Tensor:
    return torch.sin(torch.arange(x.numel(), dtype=x.dtype)).view_as(x)


def test_statistics_of_all_processes_and_every_gradient(pair: Pair) -> None:
    """As one process with the total batch; the parameters' gradients are each process's own, and add up."""
    for activation in ("leaky_relu", "identity", "plain"):
        parts = pair.call(share_of_layer, activation)
        whole = named(layer(activation), whole_batch(), seed_of(whole_batch()))
        for name, expected in whole.items():
            if name in ("y", "dx"):
                found = torch.cat([part[name] for part in parts])
            elif name in ("dweight", "dbias"):
                found = parts[0][name] + parts[1][name]
            else:
                assert torch.equal(parts[0][name], parts[1][name])
                found = parts[0][name]
            torch.testing.assert_close(
                found, expected, rtol=1e-11, atol=1e-11, msg=lambda m, n=name, a=activation: f"{a} {n}: {m}"
            )


def one_image_each() -> Tensor:
    """One value a channel in each process is enough: PLOP's pooled map at one image a GPU."""
    rank = torch.distributed.get_rank()
    x = torch.tensor([[1.0, 4.0]]) * (1 + 2 * rank)
    one, zero = torch.ones(2), torch.zeros(2)
    return inplace_abn(x, one, zero.clone(), zero.clone(), one.clone(), training=True, activation="identity")


def test_one_value_a_channel_each(pair: Pair) -> None:
    first, second = pair.call(one_image_each)
    torch.testing.assert_close(first, -second)
    torch.testing.assert_close(first.abs(), torch.ones(1, 2), rtol=1e-4, atol=1e-4)


def bfloat16_map() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(torch.distributed.get_rank())
    x = (torch.randn(2, 3, 8, 8, generator=generator) + 100).bfloat16().requires_grad_()
    norm = InPlaceABN(3)
    y = norm(x)
    y.float().square().sum().backward()
    assert x.grad is not None and y.dtype == x.grad.dtype == torch.bfloat16
    return norm.running_mean, norm.running_var


def test_bfloat16_statistics_are_float32(pair: Pair) -> None:
    """Their sums would have lost the variance."""
    (mean, var), _ = pair.call(bfloat16_map)
    torch.testing.assert_close(mean, torch.full((3,), 10.0), rtol=0.01, atol=0)
    torch.testing.assert_close(var, torch.full((3,), 1.0), rtol=0.1, atol=0)


def test_frozen_layers_stay_frozen() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    freeze_batch_norm(network[0])
    synchronise_batch_norm(network)
    assert has_batch_statistics(network)
    freeze_batch_norm(network)
    network.train()
    assert not has_batch_statistics(network) and not network[1].training
