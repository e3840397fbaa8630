"""EWF: how networks are fused, what a step trains, and what each protocol gives it."""

from __future__ import annotations

import math

import pytest
import torch

from methods.deeplab import DeepLabMethod
from methods.ewf import EWF, fused
from methods.losses.unbiased import unbiased_losses
from methods.plop import PLOP
from protocols.loading import Batch
from protocols.names import parse
from tests.golden import wave
from tests.methods.test_methods import TINY, TwoBatches, batch_of, built, train_a_little

DRAWN = batch_of(3, seed=5)
LATER_BATCH = Batch(DRAWN.images, torch.where(DRAWN.labels % 255 > 0, DRAWN.labels + 15, 0))


def in_second_step(name: str = "voc-15-5", **settings: object) -> EWF:
    protocol = parse(name)
    instance = built(EWF, protocol, **settings)  # type: ignore[arg-type]
    assert isinstance(instance, EWF)
    instance.begin_step(protocol.steps[0], TwoBatches())  # type: ignore[arg-type]
    train_a_little(instance, batch_of(10))
    instance.end_step(protocol.steps[0], TwoBatches())  # type: ignore[arg-type]
    instance.begin_step(protocol.steps[1], TwoBatches())  # type: ignore[arg-type]
    return instance


@pytest.mark.parametrize(
    ("new", "old", "weights", "variances", "biases", "element"),
    [
        (1, 16, 1.861603986139, 1.547127264812, 1.871697817549, -0.704466023589),
        (3, 4, 1.229094911227, 1.860701161738, 2.525535975893, -0.861826339764),
        (50, 101, 1.350677343945, 1.800425224621, 2.399853614883, -0.831578157069),
    ],
)
def test_golden_fusion(
    new: int, old: int, weights: float, variances: float, biases: float, element: float
) -> None:
    """Sums and an element by the lines below `opts.weight_fusion` of EWF_official@560382d run.py@run_step."""
    before = {
        "body.weight": wave((2, 3), 0.7, 0.3, 1),
        "body.running_var": wave((3,), 0.4, 0.1, 1),
        "cls.0.bias": wave((4,), 1.1, 0.2, 1),
    }
    after = {
        "body.weight": wave((2, 3), 0.9, 0.1, 1),
        "body.running_var": wave((3,), 0.2, 0.6, 1),
        "cls.0.bias": wave((4,), 0.3, 0.5, 1),
        "cls.1.bias": wave((3,), 0.8, 0.2, 1),
    }
    found = fused(before, after, math.sqrt(new / (new + old)))
    sums = [found[name].sum().item() for name in ("body.weight", "body.running_var", "cls.0.bias")]
    assert sums == pytest.approx([weights, variances, biases], abs=1e-11)
    assert found["body.weight"][1, 2].item() == pytest.approx(element, abs=1e-11)
    assert torch.equal(found["cls.1.bias"], after["cls.1.bias"])


def test_counters_are_not_averaged() -> None:
    found = fused({"n": torch.tensor(3)}, {"n": torch.tensor(8)}, 0.5)
    assert found["n"] == 8 and found["n"].dtype == torch.int64


@pytest.mark.parametrize("base", ["mib", "plop"])
def test_a_later_step_ends_in_the_mean(base: str) -> None:
    ewf = in_second_step(base=base)
    assert ewf.teacher is not None
    before = {name: t.clone() for name, t in ewf.teacher.state_dict().items()}
    train_a_little(ewf, LATER_BATCH)
    after = {name: t.clone() for name, t in ewf.tensors().items()}
    ewf.end_step(ewf.step, TwoBatches())  # type: ignore[arg-type]
    weight = math.sqrt(5 / 21)
    for name, tensor in ewf.tensors().items():
        averaged = name in before and tensor.is_floating_point()
        expected = torch.lerp(before[name], after[name], weight) if averaged else after[name]
        torch.testing.assert_close(tensor, expected)
    assert "cls.1.weight" in after and "cls.1.weight" not in before


def test_the_first_step_is_as_it_was_trained() -> None:
    protocol = parse("voc-15-5")
    ewf = built(EWF, protocol)
    ewf.begin_step(protocol.steps[0], TwoBatches())  # type: ignore[arg-type]
    train_a_little(ewf, batch_of(10))
    before = {name: t.clone() for name, t in ewf.tensors().items()}
    ewf.end_step(protocol.steps[0], TwoBatches())  # type: ignore[arg-type]
    assert all(torch.equal(before[name], tensor) for name, tensor in ewf.tensors().items())
    assert EWF.first_step_of(protocol, ewf.hyperparameters) is DeepLabMethod


@pytest.mark.parametrize("freezes", [True, False])
def test_old_classifiers_stand_still(freezes: bool) -> None:
    ewf = in_second_step(freeze_old_classifiers=freezes)
    before = {name: t.clone() for name, t in ewf.tensors().items()}
    train_a_little(ewf, LATER_BATCH)
    moved = {name for name, t in ewf.tensors().items() if not torch.equal(t, before[name])}
    assert {"cls.1.weight", "cls.1.bias"} <= moved
    assert ({"cls.0.weight", "cls.0.bias"} <= moved) == (not freezes)


def test_steps_are_those_of_the_base() -> None:
    ewf = in_second_step(base="mib", kd_weight=7.0)
    losses = ewf.training_loss(LATER_BATCH)
    logits, old = ewf.network(LATER_BATCH.images).logits, ewf.teacher_output(LATER_BATCH.images).logits
    expected = unbiased_losses(logits, old, LATER_BATCH.labels, 7.0)
    assert losses.keys() == expected.keys()
    assert all(torch.equal(losses[name], expected[name]) for name in losses)
    on_plop = in_second_step(base="plop")
    plop = built(PLOP, parse("voc-15-5"))
    for step in parse("voc-15-5").steps:
        plop.begin_step(step, TwoBatches())  # type: ignore[arg-type]
    assert on_plop.training_loss(LATER_BATCH).keys() == plop.training_loss(LATER_BATCH).keys()


def test_domains_are_not_fused() -> None:
    ewf = in_second_step("cityscapes-domain-11-5")
    train_a_little(ewf, batch_of(19))
    before = {name: t.clone() for name, t in ewf.tensors().items()}
    ewf.end_step(ewf.step, TwoBatches())  # type: ignore[arg-type]
    assert all(torch.equal(before[name], tensor) for name, tensor in ewf.tensors().items())


@pytest.mark.parametrize(
    ("name", "base", "kd_weight", "batch", "later_epochs", "source"),
    [
        ("voc-15-1", "plop", 10, 24, 30, "EWF scripts/voc/*+ours_15-1.sh"),
        ("voc-10-1", "plop", 10, 24, 30, "EWF scripts/voc/*+ours_10-1.sh"),
        ("voc-15-5", "plop", 10, 24, 30, "PLOP scripts"),
        ("ade-100-50", "mib", 10, 48, 60, "EWF scripts/ade/mib+ours_100-50.sh"),
        ("ade-100-10", "mib", 100, 24, 60, "EWF scripts/ade/mib_ade_100-10.sh"),
        ("ade-100-5", "mib", 100, 24, 60, "EWF scripts/ade/mib_ade_100-5.sh"),
    ],
)
def test_published_settings(
    name: str, base: str, kd_weight: float, batch: int, later_epochs: int, source: str
) -> None:
    values = EWF.default_hyperparameters(parse(name), "paper")
    recipe = EWF.default_recipe(parse(name), "paper")
    assert (values.base, values.kd_weight) == (base, kd_weight)
    assert (recipe.batch, recipe.later_epochs) == (batch, later_epochs)
    assert recipe.source.startswith(source)


def test_an_unknown_base_is_named() -> None:
    with pytest.raises(ValueError, match="base = 'lwf' must be one of mib, plop"):
        EWF(EWF.Hyperparameters(base="lwf"), TINY)
