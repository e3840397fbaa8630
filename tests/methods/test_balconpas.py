"""BalConpas on tiny images: what enters its losses, and that they stay finite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from methods.balconpas import BalConpas, BalConpasFixed, BalConpasReplay
from methods.finetune import FineTuneMask2Former
from methods.losses import matching
from methods.mask2former import Mask2FormerMethod
from methods.replay import class_proportional_memory
from protocols.datasets import Ade
from protocols.datasets.synthetic import draw_standin
from protocols.loading import Batch, StepData
from protocols.names import parse
from protocols.segments import Segments
from protocols.splits import step_samples
from protocols.transforms import IMAGENET
from tests.methods.teaching import SIDE, batch, rectangle, teach
from tests.methods.test_methods import TINY_MASK2FORMER, batch_of, built, train_a_little

PROTOCOL = parse("ade-100-10", "panoptic")


def in_second_step(**settings: float) -> BalConpas:
    method = built(BalConpas, PROTOCOL, **settings)
    assert isinstance(method, BalConpas)
    for step in PROTOCOL.steps[:2]:
        method.begin_step(step, None)  # type: ignore[arg-type]
    return method


def segments(*found: tuple[int, Tensor]) -> Segments:
    empty = torch.zeros(0, SIDE, SIDE, dtype=torch.bool)
    classes = torch.tensor([index for index, _ in found], dtype=torch.int64)
    return Segments(classes, torch.stack([mask for _, mask in found]) if found else empty)


CURRENT = segments((104, rectangle(0, 16, 0, 16)), (109, rectangle(0, 0, 0, 0)))
REPLAYED = segments((3, rectangle(0, 16, 0, 16)), (99, rectangle(16, 32, 8, 24)))
NOTHING = segments()


@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize(
    "images",
    [(CURRENT, REPLAYED, NOTHING), (NOTHING, NOTHING), (REPLAYED, REPLAYED), (CURRENT, CURRENT)],
    ids=["mixed", "no targets", "only replayed", "only current"],
)
def test_every_loss_and_gradient_is_finite(images: tuple[Segments, ...], taught: bool) -> None:
    method = in_second_step()
    known = [(7, rectangle(16, 32, 0, 16)), (50, rectangle(0, 16, 16, 32))] if taught else []
    teach(method, *known)
    losses = train_a_little(method, batch(*images))
    assert set(losses) == {"class", "mask", "dice", "tokens"}
    assert all(loss.isfinite() for loss in losses.values())
    gradients = [p.grad for p in method.network.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert all(p.grad is None for p in method.teacher.parameters())  # type: ignore[union-attr]
    if not taught:
        assert losses["tokens"].item() == 0.0  # officially NaN: nothing is matched with a pseudo-label


def test_pseudo_labels_come_first_and_labels_cover_them() -> None:
    method = in_second_step()
    whole, corner = rectangle(16, 32, 0, 32), rectangle(0, 16, 0, 16)
    teach(method, (50, whole), (7, corner))
    seen: list[list[Segments]] = []
    match = method.match

    def spy(output: object, targets: list[Segments]) -> matching.Matching:
        seen.append(targets)
        return match(output, targets)  # type: ignore[arg-type]

    method.match = spy  # type: ignore[method-assign, assignment]
    method.training_loss(batch(CURRENT, REPLAYED, NOTHING))
    current, replayed, nothing = seen[0]
    assert current.classes.tolist() == [50, 104, 109]  # class 7 lies where 104 is labelled
    assert torch.equal(current.masks[1:], CURRENT.masks)
    assert current.masks[0].sum() >= 0.8 * whole.sum()
    assert replayed is REPLAYED
    assert nothing.classes.tolist() == [50, 7]


def test_queries_matched_with_the_first_targets_are_distilled() -> None:
    method = in_second_step()
    pairs = matching.Matching(
        images=torch.tensor([0, 0, 1, 1]),
        queries=torch.tensor([[0, 1, 2, 3], [1, 4, 0, 2]]),
        targets=torch.tensor([[0, 1, 3, 4], [2, 0, 4, 3]]),
        counts=(2, 2),
    )
    targets = [segments(*[(0, rectangle(0, 1, 0, 1))] * 3), REPLAYED]
    pseudo = [segments(*[(0, rectangle(0, 1, 0, 1))] * number) for number in (1, 1)]
    chosen = method.backtraced(pairs, targets, pseudo)
    assert chosen.nonzero().tolist() == [[0, 4], [1, 2]]  # of the replayed image too: the published fault


def test_factors_scale_their_terms() -> None:
    plain, strong = in_second_step(), in_second_step(token_weight=50.0)
    losses = []
    for method in (plain, strong):
        teach(method, (7, rectangle(16, 32, 0, 16)))
        with torch.no_grad():
            method.network.predictor.query_feat.weight += 0.1
        torch.manual_seed(0)
        losses.append(method.training_loss(batch(CURRENT, NOTHING)))
    assert losses[1]["tokens"].item() == pytest.approx(10 * losses[0]["tokens"].item(), rel=1e-5)
    assert losses[0]["tokens"] > 0 and torch.equal(losses[0]["class"], losses[1]["class"])


@pytest.mark.parametrize(
    "change",
    [lambda images: images, lambda images: images.flip(0)],
    ids=["as they are", "in another order"],
)
def test_replayed_images_are_recognised_by_their_labels(change: Callable[[Tensor], Tensor]) -> None:
    method = in_second_step()
    leaked = segments((110, rectangle(0, 8, 0, 8)))
    shown = [
        CURRENT,
        REPLAYED,
        NOTHING,
        leaked,
        segments((104, rectangle(0, 8, 0, 8)), (5, rectangle(0, 0, 0, 0))),
    ]
    order = change(torch.arange(5)).tolist()
    flags = method.shows_other_steps([shown[i] for i in order]).tolist()
    assert flags == [[False, True, False, True, True][i] for i in order]


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
@pytest.mark.parametrize("method", [BalConpas, BalConpasReplay, BalConpasFixed])
def test_first_step_is_shared_with_fine_tuning_where_no_label_differs(
    method: type[BalConpas], task: str
) -> None:
    protocol = parse("ade-50-10", task)
    hyperparameters = method.default_hyperparameters(protocol, "paper")
    own = task == "semantic" and method is not BalConpasFixed
    expected = BalConpas if own else Mask2FormerMethod
    assert method.first_step_of(protocol, hyperparameters) is expected
    assert method.first_step_of(protocol.joint(), hyperparameters) is Mask2FormerMethod


@pytest.mark.parametrize("method", [BalConpasReplay, BalConpasFixed, FineTuneMask2Former])
def test_that_first_step_is_bit_identical(method: type[Mask2FormerMethod]) -> None:
    """Of `balconpas-r` with that of `balconpas`, whose labels differ; of the others with fine-tuning's."""
    protocol = parse("ade-100-10", "semantic" if method is not FineTuneMask2Former else "panoptic")
    networks = []
    for each in (method, FineTuneMask2Former if method is BalConpasFixed else BalConpas):
        instance = built(each, protocol)
        instance.begin_step(protocol.steps[0], None)  # type: ignore[arg-type]
        for seed in range(2):
            train_a_little(instance, batch_of(101, seed))
        networks.append(instance.tensors())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


def test_the_next_class_is_labelled_in_the_published_form_alone() -> None:
    protocol = parse("ade-100-10")
    labels = torch.zeros(2, SIDE, SIDE, dtype=torch.int64)
    labels[:, :16], labels[0, 16:] = 3, 101  # channel 101 is the next class: index 100, that of "no object"
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(2, 3, SIDE, SIDE, generator=generator)
    losses = []
    for method in (BalConpas, BalConpasFixed):
        instance = built(method, protocol)
        instance.begin_step(protocol.steps[0], None)  # type: ignore[arg-type]
        assert isinstance(instance, BalConpas)
        shown = instance.shows_other_steps(instance.targets(Batch(images, labels)))
        assert shown.tolist() == [True, False]
        torch.manual_seed(0)
        losses.append(instance.training_loss(Batch(images, labels)))
    assert torch.equal(losses[0]["mask"], losses[1]["mask"])
    assert not torch.equal(losses[0]["class"], losses[1]["class"])


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_what_a_step_trains_on(task: str, tmp_path: Path) -> None:
    dataset = Ade(draw_standin("ade", tmp_path, train=40, val=8, workers=1))
    protocol = parse("ade-50-10", task)
    samples = step_samples(protocol, dataset, tmp_path / "cache", workers=1)
    for method in (BalConpas, BalConpasReplay):
        instance = built(method, protocol, **({"memory": 10} if method is BalConpasReplay else {}))
        assert isinstance(instance, BalConpas)
        data = StepData(
            dataset=dataset,
            protocol=protocol,
            index=1,
            train=samples[1].train,
            test=samples[1].test,
            augmentation=TINY_MASK2FORMER.augmentation(),
            batch=len(samples[1].train) + 10,
            statistics=IMAGENET,
            seed=0,
            workers=0,
            device=torch.device("cpu"),
            earlier=samples[:1],
        )
        seen = instance.training_data(protocol.steps[1], data)
        assert seen.next_class_labelled == (task == "semantic")
        instance.step = protocol.steps[1]
        targets = instance.targets(next(seen.training_batches(1)))
        if method is BalConpas:
            assert not seen.replay
            continue
        assert seen.replay == class_proportional_memory(protocol, dataset, samples[:1], 10)
        assert len(seen.replay) == 10 == instance.replay_images
        if task != "semantic":  # whose crops may show no labelled pixel
            assert instance.shows_other_steps(targets).sum() == 10


def test_a_negative_memory() -> None:
    with pytest.raises(ValueError, match="memory = -1 images"):
        BalConpasReplay.Hyperparameters(memory=-1)
