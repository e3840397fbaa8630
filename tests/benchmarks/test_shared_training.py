"""Two processes learn what one process learns from the same total batch, and measure it alike.

What is equal depends on what a method normalises by. Three cases hold, and with them all methods:

1. Two processes against one that sees their two halves of each batch in two passes: the same bits, where no
   layer has batch statistics (here: frozen), and as many masks lie in each half. Random draws belong to the
   half, not to the process.
2. Two processes against one that sees the whole batch at once, with batch statistics, which are shared: equal
   but for rounding, where the loss is a mean over pixels (DeepLab; officially each GPU's mean is averaged).
3. Mask losses whatever lies in each half: their divisor is the mean number of masks over processes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.evaluation import evaluate
from benchmarks.metrics.instance import MaskAP
from benchmarks.metrics.panoptic import PanopticQuality
from benchmarks.metrics.semantic import ConfusionMatrix
from benchmarks.training import StepTrainer
from methods.losses.attention_to_mask import classes_shown, mask_losses
from methods.losses.set_prediction import num_masks
from methods.networks.norm import freeze_batch_norm, synchronise_batch_norm
from methods.predictions import PanopticPrediction
from methods.registry import find_methods
from ops.processes import num_processes
from protocols.datasets import Ade
from protocols.datasets.synthetic import draw_standin
from protocols.loading import Batch, StepData
from protocols.names import parse
from protocols.segments import Segments
from protocols.shares import Share
from protocols.splits import step_samples
from reports.record import PanopticCounts, SemanticCounts
from tests.benchmarks.metrics.panoptic_cases import NUM_CHANNELS, random_pair
from tests.benchmarks.metrics.test_mask_ap import cases
from tests.methods.test_methods import TINY_OF, TwoBatches, built
from tests.pair import Pair

PROTOCOL = parse("voc-15-5")
Learnt = tuple[list[dict[str, float]], dict[str, Tensor], dict[str, Tensor]]
"""Losses of each iteration, the last gradients, and everything that the method keeps."""


def whole_batch(iteration: int, images: int = 4) -> Batch:
    """Background and every new class in each image, some pixels without a label."""
    generator = torch.Generator().manual_seed(iteration)
    labels = torch.randint(15, 21, (images, 32, 32), generator=generator)
    labels = torch.where(labels == 15, 0, labels)
    labels[:, :4] = 255
    return Batch(torch.randn(images, 3, 32, 32, generator=generator), labels)


def learnt(name: str, passes: int, norms: str, settings: dict[str, Any]) -> Learnt:
    """Two iterations of the second step, in as many processes as there are; how `norms` are used."""
    (method_class,) = find_methods(name, "semantic")
    recipe = dataclasses.replace(TINY_OF[method_class.family], batch=4)
    method = built(method_class, PROTOCOL, recipe, **settings)
    for step in PROTOCOL.steps[:2]:
        method.begin_step(step, TwoBatches())  # type: ignore[arg-type]
    if norms == "frozen":
        freeze_batch_norm(method.network)
    elif norms == "trained in float64":
        as_double(method)
    rank = 0
    if num_processes() > 1:
        synchronise_batch_norm(method.network)
        rank = torch.distributed.get_rank()
    share = Share(rank, num_processes(), passes)
    trainer = StepTrainer(method, recipe, recipe.at_step(1), 20, torch.device("cpu"), share, seed=3)
    method.network.train()
    for iteration in range(2):
        whole = whole_batch(iteration)
        whole.images = whole.images.to(next(method.network.parameters()).dtype)
        halves = zip(share.of_batch(whole.images), share.of_batch(whole.labels), strict=True)
        trainer.iterate(*[Batch(*half, is_last_pass=i == passes - 1) for i, half in enumerate(halves)])
    gradients = {n: p.grad for n, p in method.network.named_parameters() if p.grad is not None}
    return list(trainer.progress.recent), gradients, method.tensors()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mib", {}),
        ("plop", {}),
        ("rcil", {}),  # draws which branches drop out
        ("ewc", {}),  # squares gradients of the whole batch
        ("rw", {"iterations": 1}),
        ("finetune@mask2former", {}),  # draws points
        ("balconpas", {}),
        ("simcis", {"virtual_queries": 0}),  # which the second pass would draw from what the first one stored
        ("segvit-cit", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_same_bits_as_one_process_in_two_passes(pair: Pair, name: str, settings: dict[str, Any]) -> None:
    """Case 1."""
    first, second = pair.call(learnt, name, 1, "frozen", settings)
    alone = learnt(name, 2, "frozen", settings)
    for part in (0, 1, 2):
        for key, value in pairs(alone[part]):
            assert same(dict(pairs(first[part]))[key], value), f"part {part}: {key}"
            assert same(dict(pairs(second[part]))[key], value), f"part {part}: {key}"
    assert first[2].keys() == alone[2].keys()


def pairs(part: Any) -> list[tuple[Any, Any]]:
    return list(enumerate(part)) if isinstance(part, list) else list(part.items())


def same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == pytest.approx(other, rel=1e-6))


def as_double(method: Any) -> None:
    """So that a difference is more than rounding, which batch statistics of few values enlarge."""
    method.network.double()
    if method.teacher is not None:
        method.teacher.double()
    for tensors in (getattr(method, "start", {}), getattr(method, "importance", {})):
        tensors.update({name: tensor.double() for name, tensor in tensors.items()})


@pytest.mark.parametrize("name", ["finetune", "lwf", "lwf-mc", "ilt", "mib", "plop", "ewc"])
def test_batch_statistics_of_the_whole_batch(pair: Pair, name: str) -> None:
    """Case 2."""
    first, second = pair.call(learnt, name, 1, "trained in float64", {})
    losses, gradients, state = learnt(name, 1, "trained in float64", {})
    for one, other in zip(first[0], losses, strict=True):
        assert one == pytest.approx(other, rel=1e-12)
    assert [*first[1]] == [*gradients]
    for key, value in gradients.items():
        worst, largest = float((first[1][key] - value).abs().max()), float(value.abs().max())
        assert worst <= 1e-10 * largest, key
    for key, value in state.items():
        assert torch.equal(first[2][key], second[2][key]), key
        torch.testing.assert_close(first[2][key], value, rtol=1e-10, atol=1e-10, msg=key)


@pytest.mark.parametrize("name", ["balconpas", "simcis", "rcil"])
def test_processes_never_drift_apart(pair: Pair, name: str) -> None:
    """Whatever they draw, remember (SimCIS's bank of queries) and normalise by."""
    first, second = pair.call(learnt, name, 1, "trained", {})
    assert first[0] == second[0]
    assert all(torch.equal(first[2][key], tensor) for key, tensor in second[2].items())
    if name == "simcis":
        assert first[2]["bank.added"][-5:].tolist() == [2 * 4] * 5  # every class of all images, twice


def divisors() -> list[float]:
    """3 masks here and 1 there; none anywhere; none here and 5 there."""
    rank = torch.distributed.get_rank()
    counts = [(3, 1), (0, 0), (0, 5)]
    return [num_masks([segments(pair[rank])]) for pair in counts]


def segments(number: int) -> Segments:
    return Segments(torch.zeros(number, dtype=torch.int64), torch.zeros(number, 4, 4, dtype=torch.bool))


def attention_losses(start: int, end: int) -> list[Tensor]:
    """SegViT's, of some of four images of which one shows nothing."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(2, 4, 5, 8, 8, generator=generator)[:, start:end]
    labels = torch.randint(5, (4, 16, 16), generator=generator)
    labels[0, :] = 255
    labels[1, :] = 2
    labels = labels[start:end]
    return list(mask_losses(masks, labels, classes_shown(labels, 5)))


def half_of_attention_losses() -> list[Tensor]:
    rank = torch.distributed.get_rank()
    return attention_losses(rank, 3 * rank + 1)


def test_mask_losses_are_divided_by_the_mean_number_of_masks(pair: Pair) -> None:
    """Case 3: Mask2Former modeling/criterion.py@SetCriterion.forward, `num_masks`."""
    assert pair.call(divisors) == [[2, 1, 2.5]] * 2
    first, second = pair.call(half_of_attention_losses)
    for one, other, whole in zip(first, second, attention_losses(0, 4), strict=True):
        torch.testing.assert_close((one + other) / 2, whole)


def measured(rank: int, processes: int) -> list[Any]:
    """Of 25 images, each metric's counts, those of the other processes included."""
    share = Share(rank, processes)
    panoptic, instances = PanopticQuality(NUM_CHANNELS), MaskAP(NUM_CHANNELS)
    for number in share.of_tests(range(25)):
        truth, channels, ids, found = random_pair(number)
        prediction = PanopticPrediction(torch.from_numpy(ids), torch.from_numpy(found))
        if number == 3:  # an image that is left out
            channels = channels * 0 - 1
        panoptic.update(truth, torch.from_numpy(channels), prediction)
    for truth, known, found_masks in share.of_tests(cases()):
        instances.update(truth, known, found_masks)
    confusion = ConfusionMatrix(4, background=True)
    for number in share.of_tests(range(25)):
        generator = torch.Generator().manual_seed(number)
        confusion.update(*torch.randint(4, (2, 6, 7), generator=generator))
    metrics = [panoptic, instances, confusion]
    for metric in metrics:
        metric.join()
    return [metric.counts() for metric in metrics]


def measured_in_this_process() -> list[Any]:
    return measured(torch.distributed.get_rank(), 2)


def test_measured_once_each(pair: Pair) -> None:
    """25 images are no multiple of 2; sums of IoUs are equal to the last bit."""
    assert pair.call(measured_in_this_process) == [measured(0, 1)] * 2


def evaluated(root: str, name: str, task: str) -> Any:
    """What an untrained network says of 7 images of a stand-in, which is no multiple of 2."""
    protocol, dataset = parse("ade-50-50", task), Ade(Path(root))
    samples = step_samples(protocol, dataset, Path(root) / "cache", workers=1)[0]
    (method_class,) = find_methods(name, task)
    recipe = dataclasses.replace(TINY_OF[method_class.family], batch=2)
    if task != "semantic":
        recipe = dataclasses.replace(recipe, object_threshold=0.0, overlap_threshold=0.0)
    torch.manual_seed(0)
    method = method_class(method_class.default_hyperparameters(protocol, "mini"), recipe)
    method.build(protocol)
    method.begin_step(protocol.steps[0], TwoBatches())  # type: ignore[arg-type]
    data = StepData(
        dataset=dataset,
        protocol=protocol,
        index=0,
        train=samples.train,
        test=samples.test[:7],
        augmentation=recipe.augmentation(),
        batch=recipe.batch,
        statistics=method.pixel_statistics,
        seed=5,
        workers=0,
        device=torch.device("cpu"),
        share=Share(torch.distributed.get_rank() if num_processes() > 1 else 0, num_processes()),
    )
    return evaluate(method, data).counts()


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("finetune", "semantic"),
        ("finetune@segvit", "semantic"),
        ("finetune@mask2former", "panoptic"),
        ("finetune@mask2former", "instance"),
    ],
)
def test_evaluated_as_by_one_process(pair: Pair, standin: Path, name: str, task: str) -> None:
    whole = evaluated(str(standin), name, task)
    assert pair.call(evaluated, str(standin), name, task) == [whole] * 2
    if isinstance(whole, SemanticCounts):
        assert sum(whole.ground_truth) > 0
    elif isinstance(whole, PanopticCounts):
        assert sum(whole.false_positives) > 0 and sum(whole.false_negatives) > 0
    else:
        assert sum(whole.instances) > 0


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_standin("ade", tmp_path_factory.mktemp("standin"), train=40, val=12, workers=1)
