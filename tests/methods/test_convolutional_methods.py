"""LwF, LwF-MC, ILT and PLOP: what their losses are made of, and what each protocol gives them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from methods.deeplab import DeepLabMethod
from methods.ilt import ILT
from methods.losses.distillation import knowledge_distillation
from methods.losses.segmentation import cross_entropy
from methods.lwf import LwF
from methods.lwf_mc import LwFMC
from methods.method import MethodClass
from methods.networks.resnet import SLOPE
from methods.plop import PLOP, PLOPFixed
from protocols.loading import Batch
from protocols.names import parse
from tests.methods.test_methods import TINY, TwoBatches, batch_of, built, train_a_little


def after_first_step(method: MethodClass, name: str = "voc-15-5", **settings: float) -> DeepLabMethod:
    """The method in its second step, after one iteration of it, so that the old network differs."""
    protocol = parse(name)
    instance = built(method, protocol, **settings)
    assert isinstance(instance, DeepLabMethod)
    for step in protocol.steps[:2]:
        instance.begin_step(step, TwoBatches())  # type: ignore[arg-type]
        train_a_little(instance, later_batch() if step.index else batch_of(10))
    return instance


def later_batch() -> Batch:
    """Background and two new classes."""
    batch = batch_of(3, seed=5)
    return Batch(
        batch.images, torch.where((batch.labels > 0) & (batch.labels < 3), batch.labels + 15, batch.labels)
    )


@pytest.mark.parametrize("method", [LwF, ILT])
def test_distillation_is_on_upsampled_logits_of_the_old_channels(method: MethodClass) -> None:
    instance = after_first_step(method)
    batch = later_batch()
    losses = instance.training_loss(batch)
    old = instance.teacher_output(batch.images).logits
    new = instance.network(batch.images).logits
    assert old.shape == (2, 16, 32, 32) and new.shape == (2, 21, 32, 32)
    torch.testing.assert_close(losses["distillation"], 100 * knowledge_distillation(new, old))


def test_ilt_compares_the_activated_output_of_the_body() -> None:
    ilt = after_first_step(ILT)
    images = later_batch().images
    losses = ilt.training_loss(later_batch())
    assert ilt.teacher is not None
    expected = F.mse_loss(ilt.network.body(images), ilt.teacher.body(images))
    torch.testing.assert_close(losses["features"], 100 * expected)


def test_lwf_mc_is_sigmoids_from_the_first_step() -> None:
    protocol = parse("voc-15-5")
    instance = built(LwFMC, protocol)
    instance.begin_step(protocol.steps[0], TwoBatches())  # type: ignore[arg-type]
    assert set(instance.training_loss(batch_of(16))) == {"binary_cross_entropy"}
    assert LwFMC.first_step != DeepLabMethod.first_step  # not shared with those that train cross-entropy


@pytest.mark.parametrize("old_targets", ["replaced", "replaced-but-background"])
def test_lwf_mc_with_replaced_targets(old_targets: str) -> None:
    instance = built(LwFMC, parse("voc-15-5"), old_targets=old_targets)  # type: ignore[arg-type]
    for step in parse("voc-15-5").steps:
        instance.begin_step(step, TwoBatches())  # type: ignore[arg-type]
    assert set(instance.training_loss(later_batch())) == {"binary_cross_entropy"}


def test_lwf_mc_refuses_unknown_targets() -> None:
    with pytest.raises(ValueError, match="old_targets"):
        LwFMC(LwFMC.Hyperparameters(old_targets="kept"), TINY)


@pytest.mark.parametrize(
    ("name", "maps", "logits"),
    [
        ("voc-15-1", 1e-2, 5e-4),
        ("ade-100-10", 1e-3, 1e-5),
        ("cityscapes-domain-11-1", 1e-4, 1e-4),
        ("cityscapes-domain-11-5", 1e-4, 1e-4),
        ("cityscapes-domain-1-1", 1e-4, 1e-3),
    ],
)
def test_plop_published_factors(name: str, maps: float, logits: float) -> None:
    for method in (PLOP, PLOPFixed):
        values = method.default_hyperparameters(parse(name), "paper")
        assert (values.pod_weight, values.pod_logits_weight) == (maps, logits)


def test_plop_maps_are_taken_before_the_activation() -> None:
    plop = after_first_step(PLOP)
    features = plop.network(later_batch().images, return_features=True).features
    assert len(features.residuals) == 4
    for before, after in zip(features.residuals, features.stages, strict=True):
        assert torch.equal(F.leaky_relu(before, SLOPE), after)
        assert before.min() < SLOPE * before.abs().max() * -1  # not activated yet


def test_plop_trains_on_completed_labels() -> None:
    """With a threshold nothing passes, old pixels are ignored and ν is 0: only the distillation is left."""
    plop = after_first_step(PLOP)
    assert isinstance(plop, PLOP)
    plop.thresholds = torch.zeros(21)
    assert plop.training_loss(later_batch())["cross_entropy"] == 0.0
    plop.thresholds = torch.full((21,), float("inf"))
    assert plop.training_loss(later_batch())["cross_entropy"] > 0.0


def test_plop_without_its_factor_weighs_all_images_alike() -> None:
    plop = after_first_step(PLOP, adaptive_factor=False)
    assert isinstance(plop, PLOP)
    plop.thresholds = torch.zeros(21)
    assert plop.training_loss(later_batch())["cross_entropy"] > 0.0


def test_thresholds_of_classes_never_predicted_are_the_least() -> None:
    plop, fixed = after_first_step(PLOP), after_first_step(PLOPFixed)
    for method in (plop, fixed):
        assert isinstance(method, PLOP)
        assert method.thresholds.shape == (21,) and method.thresholds.dtype == torch.float32
        assert (method.thresholds >= method.hyperparameters.threshold).all()
        assert (method.thresholds[16:] == torch.tensor(0.001)).all()  # new classes: the old network has none


def test_ade_entropies_share_one_bin_and_all_pixels_are_certain() -> None:
    """Spec 3.9: the averaged entropy of 101 classes never reaches the second bin."""
    plop = after_first_step(PLOP, "ade-100-10")
    assert isinstance(plop, PLOP)
    uncertainty, predictions = plop._uncertainty(torch.zeros(1, 101, 4, 4))
    assert uncertainty.max() < 0.0022
    seen = plop.thresholds > 0.001
    assert seen.any() and (plop.thresholds[seen] == 0.005).all()
    assert (uncertainty < 0.005).all() and predictions.shape == (1, 4, 4)


@pytest.mark.parametrize("method", [PLOP, PLOPFixed])
def test_plop_without_a_background_shift_distils_only(method: MethodClass) -> None:
    domains = parse("cityscapes-domain-11-5")
    bare = dataclasses.replace(parse("voc-15-5"), background=False)
    for protocol in (domains, bare):
        plop = built(method, protocol)
        for step in protocol.steps[:2]:
            plop.begin_step(step, object())  # type: ignore[arg-type]  # no data are looked at
        plop.network.eval()
        batch = batch_of(19)
        losses = plop.training_loss(batch)
        logits = plop.network(batch.images).logits
        torch.testing.assert_close(losses["cross_entropy"], cross_entropy(logits, batch.labels))
        assert losses["pod"] == 0.0  # nothing has changed yet


@pytest.mark.parametrize("method", [LwF, ILT, PLOP, PLOPFixed])
def test_the_first_step_is_shared(method: MethodClass) -> None:
    assert method.first_step == DeepLabMethod.first_step


@pytest.mark.parametrize(
    ("name", "epochs", "later_epochs", "source"),
    [
        ("voc-19-1", 30, 30, "PLOP scripts/voc/plop_19-1.sh"),
        ("voc-15-5-disjoint", 30, 30, "PLOP scripts/voc/plop_15-5.sh"),
        ("voc-15-1", 30, 30, "PLOP scripts/voc/plop_15-1.sh"),
        ("voc-10-1", 30, 10, "PLOP scripts/voc/plop_10-1.sh"),
        ("voc-5-3", 30, 30, "no script"),
        ("ade-100-50", 60, 60, "PLOP scripts/ade/plop_ade_100-50.sh"),
        ("ade-100-10", 60, 60, "PLOP scripts/ade/plop_ade_100-10.sh"),
        ("ade-50-50", 60, 60, "no script"),
        ("ade-100-5", 60, 60, "PLOP scripts/ade/plop_ade_100-5.sh"),
        ("cityscapes-domain-11-5", 50, 50, "no script"),
        ("cityscapes-domain-11-1", 50, 50, "PLOP scripts/cityscapesDomain/plop_cityscapesDomain_11-1.sh"),
        ("cityscapes-domain-1-1", 50, 50, "PLOP scripts/cityscapesDomain/plop_cityscapesDomain_1-1.sh"),
    ],
)
def test_published_schedules(name: str, epochs: int, later_epochs: int, source: str) -> None:
    recipe = PLOP.default_recipe(parse(name), "paper")
    assert (recipe.epochs, recipe.later_epochs, recipe.lr, recipe.later_lr) == (
        epochs,
        later_epochs,
        0.01,
        0.001,
    )
    assert recipe.source.startswith(source)
