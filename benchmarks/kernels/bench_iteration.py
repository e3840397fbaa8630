"""One training iteration as published: ResNet-101, 512 x 512, second step of voc-15-1, with its peak memory.

`pytest benchmarks/kernels/bench_iteration.py --benchmark-enable --benchmark-only -n0`
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.malloc import keep_freed_memory
from benchmarks.memory import PeakMemory
from benchmarks.training import StepTrainer
from methods.registry import builtin_methods
from protocols.loading import Batch
from protocols.names import parse

CPU = torch.device("cpu")
BATCH = 2


def batch(largest_label: int) -> Batch:
    """Random images, and labels in blocks of 16 x 16."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(largest_label + 1, (BATCH, 32, 32), generator=generator)
    labels = labels.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
    return Batch(torch.randn(BATCH, 3, 512, 512, generator=generator), labels)


class OneBatch:
    """Stands in for `StepData`, of which PLOP sees one epoch before the step."""

    device = CPU

    def first_epoch(self) -> list[Batch]:
        return [batch(0)]


@pytest.mark.parametrize("key", ["finetune", "mib", "plop", "rcil"])
def test_iteration(benchmark: BenchmarkFixture, key: str) -> None:
    torch.set_num_threads(2)
    keep_freed_memory()
    torch.manual_seed(0)
    protocol, method = parse("voc-15-1"), builtin_methods()[key]
    recipe = dataclasses.replace(method.default_recipe(protocol, "paper"), batch=BATCH)
    instance = method(method.default_hyperparameters(protocol, "paper"), recipe)
    instance.build(protocol)
    for step in protocol.steps[:2]:
        instance.begin_step(step, OneBatch())  # type: ignore[arg-type]
    instance.network.train()
    trainer = StepTrainer(instance, recipe, recipe.at_step(1), 1000, CPU)
    labelled = batch(0)
    labelled.labels[:, 128:256, 128:256] = 16
    memory = PeakMemory(CPU)
    benchmark.pedantic(trainer.iterate, (labelled,), rounds=3, warmup_rounds=1)
    benchmark.extra_info["peak MB"] = round(memory.megabytes())
