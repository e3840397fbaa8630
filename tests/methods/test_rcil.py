from __future__ import annotations

import dataclasses

import pytest
import torch

from methods.losses.segmentation import cross_entropy
from methods.method import UnsuitableRecipe
from methods.rcil import RCIL
from protocols.names import parse
from tests.methods.test_methods import TINY, TwoBatches, batch_of, built, train_a_little


def started(name: str = "voc-15-5", steps: int = 2) -> RCIL:
    protocol = parse(name)
    rcil = built(RCIL, protocol)
    assert isinstance(rcil, RCIL)
    for step in protocol.steps[:steps]:
        if step.index > 1:
            train_a_little(rcil, batch_of(len(protocol.channels(step.index - 1))))
        rcil.begin_step(step, TwoBatches())  # type: ignore[arg-type]
    return rcil


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("voc-15-1", (0.01, 0.0005, 0.01, 0.0005)),
        ("ade-100-10", (5e-6, 5e-7, 5e-6, 5e-7)),
        ("cityscapes-domain-11-1", (5e-4, 1e-4, 1e-4, 0.0)),
    ],
)
def test_published_factors(name: str, factors: tuple[float, ...]) -> None:
    values = RCIL.default_hyperparameters(parse(name), "paper")
    assert (
        values.space_weight,
        values.space_logits_weight,
        values.channel_weight,
        values.channel_head_weight,
    ) == factors


@pytest.mark.parametrize(
    ("name", "lr", "later_lr", "epochs", "later_epochs"),
    [
        ("voc-15-1", 0.02, 0.001, 30, 30),
        ("voc-10-1", 0.02, 0.001, 30, 30),
        ("ade-100-5", 0.01, 0.001, 60, 60),
        ("cityscapes-domain-11-5", 0.02, 0.002, 50, 50),
        ("cityscapes-domain-11-1", 0.02, 0.004, 50, 50),
        ("cityscapes-domain-1-1", 0.02, 0.002, 50, 50),
    ],
)
def test_published_schedules(name: str, lr: float, later_lr: float, epochs: int, later_epochs: int) -> None:
    recipe = RCIL.default_recipe(parse(name), "paper")
    assert (recipe.lr, recipe.later_lr) == (lr, later_lr)
    assert (recipe.epochs, recipe.later_epochs) == (epochs, later_epochs)
    assert recipe.source.startswith("RCIL scripts/")
    assert RCIL.default_recipe(parse("voc-15-5"), "paper").source.startswith("no script")


def test_new_classes_take_the_background_weights_and_keep_their_biases() -> None:
    rcil = started()
    cls, old = rcil.network.cls.state_dict(), rcil.teacher.cls.state_dict()  # type: ignore[union-attr]
    assert torch.equal(cls["1.weight"], old["0.weight"][:1].expand(5, -1, -1, -1))
    assert torch.equal(cls["0.bias"], old["0.bias"])
    assert cls["1.bias"].unique().numel() == 5


def test_the_teacher_is_not_merged_with_the_network() -> None:
    rcil = started()
    assert rcil.teacher is not None
    assert rcil.teacher.head.map_convs[0].bias is None
    assert rcil.network.head.map_convs[0].bias is not None


@pytest.mark.parametrize("steps", [2, 3])
def test_what_trains(steps: int) -> None:
    """Spec 7.2.7: all but the merged branch, running statistics included."""
    rcil = started("voc-15-1", steps)
    before = {name: t.clone() for name, t in rcil.tensors().items()}
    train_a_little(rcil, batch_of(15 + steps))
    same = {name for name, t in rcil.tensors().items() if torch.equal(t, before[name])}
    frozen = {n for n in before if any(part in n for part in (".conv2.", ".bn2.", ".map_convs.", ".map_bn."))}
    assert same == frozen


def test_domains_are_distilled_without_unbiased_losses() -> None:
    rcil = started("cityscapes-domain-11-5")
    batch = batch_of(19)
    rcil.network.eval()
    losses = rcil.training_loss(batch)
    assert set(losses) == {"cross_entropy", "pooled_cube"}
    torch.testing.assert_close(
        losses["cross_entropy"], cross_entropy(rcil.network(batch.images).logits, batch.labels)
    )


def test_losses_of_a_class_incremental_step() -> None:
    losses = started().training_loss(batch_of(21))
    assert set(losses) == {"unbiased_cross_entropy", "unbiased_distillation", "pooled_cube"}


def test_a_backbone_that_is_no_resnet() -> None:
    with pytest.raises(UnsuitableRecipe, match="leave rcil out"):
        RCIL(RCIL.Hyperparameters(), dataclasses.replace(TINY, backbone="mobilenet-v2"))


def test_restoring_a_later_step_twice_gives_the_same_bits() -> None:
    rcil = started("voc-15-1", 3)
    tensors = {name: t.clone() for name, t in rcil.tensors().items()}
    step = parse("voc-15-1").steps[2]
    fresh = built(RCIL, parse("voc-15-1"))
    images = batch_of(2).images
    for _ in range(2):
        fresh.restore(step, tensors)
        assert torch.equal(fresh.network.eval()(images).logits, rcil.network.eval()(images).logits)  # type: ignore[operator]
