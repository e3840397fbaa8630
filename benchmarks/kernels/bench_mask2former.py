"""One training iteration of Mask2Former as published: ResNet-50, 640 x 640, one image with twelve segments.

`pytest benchmarks/kernels/bench_mask2former.py --benchmark-enable --benchmark-only -n0`
"""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from benchmarks.malloc import keep_freed_memory
from benchmarks.memory import PeakMemory
from methods.losses.matching import match
from methods.losses.set_prediction import class_loss, mask_losses, num_masks, target_classes
from methods.networks.mask2former import MINI, PAPER, Mask2Former, Mask2FormerConfig, Mask2FormerOutput
from protocols.segments import Segments

SEGMENTS = 12


def example(size: int) -> tuple[Tensor, list[Segments]]:
    """A random image, and segments of blocks of a twentieth of its size."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(SEGMENTS, (20, 20), generator=generator)
    ids = ids.repeat_interleave(size // 20, dim=0).repeat_interleave(size // 20, dim=1)
    numbers = torch.arange(SEGMENTS)
    return torch.randn(1, 3, size, size, generator=generator), [
        Segments(numbers, ids == numbers[:, None, None])
    ]


def loss(out: Mask2FormerOutput, targets: list[Segments], points: int) -> Tensor:
    masks_of = out.mask_embeddings, out.mask_features
    matching = match(out.layer_logits, *masks_of, targets, points)
    _, _, queries, channels = out.layer_logits.shape
    classes = target_classes(matching, targets, queries, no_object=channels - 1)
    masks, dice = mask_losses(*masks_of, targets, matching, num_masks(targets), points)
    return (2 * class_loss(out.layer_logits, classes) + 5 * masks + 5 * dice).sum()


@pytest.mark.parametrize("config, size", [(PAPER, 640), (MINI, 160)], ids=["paper", "mini"])
def test_iteration(benchmark: BenchmarkFixture, config: Mask2FormerConfig, size: int) -> None:
    torch.set_num_threads(2)
    keep_freed_memory()
    torch.manual_seed(0)
    network = Mask2Former(config, 100).train()
    images, targets = example(size)

    def iterate() -> None:
        network.zero_grad()
        loss(network(images), targets, config.num_points).backward()

    memory = PeakMemory(torch.device("cpu"))
    benchmark.pedantic(iterate, rounds=3, warmup_rounds=1)
    benchmark.extra_info["peak MB"] = round(memory.megabytes())


def test_loss(benchmark: BenchmarkFixture) -> None:
    """Matching and losses alone, with their gradients, at random predictions."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    _, targets = example(640)
    leaves = [torch.randn(10, 1, 100, 101), torch.randn(10, 1, 100, 256), torch.randn(1, 256, 160, 160)]
    logits, embeddings, features = (leaf.requires_grad_() for leaf in leaves)
    out = Mask2FormerOutput(logits, embeddings, features, tokens=embeddings)
    benchmark.pedantic(lambda: loss(out, targets, PAPER.num_points).backward(), rounds=3, warmup_rounds=1)
