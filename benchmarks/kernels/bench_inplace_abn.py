"""Forward and backward of activated batch normalisation against BatchNorm2d + LeakyReLU.

`pytest benchmarks/kernels/bench_inplace_abn.py --benchmark-enable --benchmark-only -n0`
"""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from ops.inplace_abn import InPlaceABN

LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "inplace_abn": InPlaceABN,
    "batch_norm": lambda c: nn.Sequential(nn.BatchNorm2d(c), nn.LeakyReLU(0.01, inplace=True)),
}
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


@pytest.mark.parametrize("mode", ["train", "frozen"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(16, 64, 32, 32), (16, 256, 16, 16)], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_forward_backward(
    benchmark: BenchmarkFixture, name: str, shape: tuple[int, ...], layout: str, mode: str
) -> None:
    torch.set_num_threads(2)
    layer = LAYERS[name](shape[1])
    if mode == "frozen":
        layer.eval().requires_grad_(False)
    x = torch.randn(shape).contiguous(memory_format=LAYOUTS[layout]).requires_grad_()
    seed = torch.randn_like(x)
    benchmark.group = f"{mode} {layout} {shape}"

    def step() -> None:
        x.grad = None
        layer(x).backward(seed)

    benchmark(step)
