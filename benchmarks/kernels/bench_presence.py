"""First build of the presence index: two workers against a plain loop with Pillow, over a folder of masks.

`MASKS=DIR pytest benchmarks/kernels/bench_presence.py --benchmark-enable --benchmark-only -n0`, where DIR
holds a VOC2012 folder with its masks; without it, the bench is skipped.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from protocols.datasets import open_dataset
from protocols.presence import count


def plain_loop(masks: list[Path]) -> None:
    for mask in masks:
        np.unique(np.array(Image.open(mask)))


@pytest.mark.skipif("MASKS" not in os.environ, reason="MASKS names no folder")
@pytest.mark.parametrize("way", ["plain", "one-worker", "two-workers"])
def test_first_build(benchmark: BenchmarkFixture, way: str) -> None:
    dataset = open_dataset("voc", Path(os.environ["MASKS"]))
    samples = dataset.samples("train")
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_loop([sample.mask for sample in samples]),
        "one-worker": lambda: count(dataset, samples, workers=1),
        "two-workers": lambda: count(dataset, samples, workers=2),
    }
    benchmark.group = f"{len(samples)} masks"
    benchmark.pedantic(ways[way], rounds=3, warmup_rounds=1)
