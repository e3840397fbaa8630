"""SimCIS on tiny images: published settings, the steps' hooks, what is carried from step to step."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from methods.mask2former_recipe import Mask2FormerRecipe
from methods.networks.mask2former.simcis import SimCISOutput
from methods.simcis import SimCIS
from protocols.loading import Batch
from protocols.names import parse
from protocols.segments import Segments
from tests.methods.test_methods import TwoBatches, batch_of, built, train_a_little


def tiny(name: str = "voc-15-1", **settings: object) -> SimCIS:
    """In its second step, after one iteration of each."""
    method = built(SimCIS, parse(name), **settings)  # type: ignore[arg-type]
    assert isinstance(method, SimCIS)
    for step in method.protocol.steps[:2]:
        method.begin_step(step, TwoBatches())  # type: ignore[arg-type]
        train_a_little(method, batch_of(10))
    return method


def as_batch(targets: list[Segments]) -> Batch:
    images = torch.randn(len(targets), 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.zeros(0), targets)


def rectangle(label: int, rows: slice, columns: slice = slice(None)) -> Segments:
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, rows, columns] = True
    return Segments(torch.tensor([label]), mask)


def output_of(logits: Tensor, masks: Tensor) -> SimCISOutput:
    """An old network's output for one image: (Q, K) class logits, (Q, 8, 8) mask logits."""
    embeddings = torch.eye(len(masks))[None, None]
    places = torch.arange(len(logits))[None]
    boxes, queries = torch.zeros(1, 1, len(logits), 4), torch.zeros(1, len(logits), 4)
    return SimCISOutput(logits[None, None], embeddings, masks[None], boxes, queries, places)


@pytest.mark.parametrize(
    "name, task, expected, threshold, drops",
    [
        ("ade-100-50", "panoptic", (4, 0.35, 0, 0.25, False, 1), 0.2, (0.8, 0.9)),
        ("ade-100-10", "panoptic", (4, 0.35, 1, 0.5, False, 1), 0.3, (0.85, 0.95)),
        ("ade-100-5", "panoptic", (4, 0.35, 5, 0.5, True, 1), 0.25, (0.85, 0.95)),
        ("ade-100-50", "semantic", (2, 0.0, 1, 0.25, False, 1), 0.4, (0.85, 0.95)),
        ("ade-100-10", "semantic", (2, 0.0, 1, 0.5, True, 4), 0.4, (0.85, 0.95)),
        ("ade-100-5", "semantic", (2, 0.0, 3, 0.5, True, 2), 0.4, (0.85, 0.95)),
    ],
)
def test_published_settings(name, task, expected, threshold, drops) -> None:  # type: ignore[no-untyped-def]
    protocol = parse(name, task)
    values, recipe = (
        SimCIS.default_hyperparameters(protocol, "paper"),
        SimCIS.default_recipe(protocol, "paper"),
    )
    assert expected == (
        values.class_weight,
        values.pseudo_label_threshold,
        values.virtual_queries,
        values.sampling_exponent,
        values.distils_decoder,
        values.decoder_temperature,
    )
    assert isinstance(recipe, Mask2FormerRecipe)
    assert (recipe.object_threshold, recipe.later_lr_drops) == (threshold, drops)
    assert (recipe.iterations, recipe.later_iterations) == (160_000, 1000 * len(protocol.steps[1].classes))
    assert (recipe.lr, recipe.later_lr, recipe.lr_drops) == (1e-4, 5e-5, (135 / 160, 150 / 160))
    assert not recipe.train_backbone_norm


def test_the_class_head_has_all_classes_from_the_first_step_on() -> None:
    method = built(SimCIS, parse("voc-15-1"))
    assert isinstance(method, SimCIS)
    assert method.network.predictor.class_embed.out_features == 20
    assert method.bank.features.shape == (20, 80, 16)


def test_the_prior_of_small_scale() -> None:
    method = built(SimCIS, parse("voc-15-1"), class_prior=0.01)
    assert isinstance(method, SimCIS)
    bias = method.network.predictor.class_embed.bias
    assert torch.allclose(bias.sigmoid(), torch.tensor(0.01))


def test_losses_of_a_later_step() -> None:
    panoptic = tiny("ade-100-50")
    losses = panoptic.training_loss(batch_of(8))
    assert set(losses) == {"class", "mask", "dice", "box", "giou", "selection"}
    decoder = tiny("ade-100-10", virtual_queries=2, own_boxes=True).training_loss(batch_of(8))
    assert set(decoder) == {*losses, "decoder"}


def test_virtual_queries_enter_the_class_loss_alone() -> None:
    method = tiny(virtual_queries=3)
    method.network.eval()
    with torch.no_grad():
        output = method.network(torch.randn(1, 3, 32, 32), torch.randn(1, 3, 16))
    targets = [rectangle(15, slice(4, 20))]
    losses = []
    for label in (0, 1):
        torch.manual_seed(0)
        losses.append(method.set_losses(output, targets, torch.tensor([[label, 2, 2]])))
    assert losses[0]["class"] != losses[1]["class"]
    assert all(losses[0][name] == losses[1][name] for name in ("mask", "dice", "box", "giou"))


def test_pseudo_labels_follow_the_task() -> None:
    logits = torch.full((3, 20), -4.0)
    logits[0, 4] = logits[1, 4] = 2.0
    logits[2, 15] = 3.0  # the first class of this step, of which the old network knows nothing
    masks = torch.full((3, 8, 8), -5.0)
    masks[0, :2], masks[1, 4:6], masks[2, 6:] = 5, 5, 5
    old, truth = output_of(logits, masks), [rectangle(16, slice(24, 32))]
    semantic = tiny()
    (found,) = semantic.pseudo_labels(old, truth)
    assert found.classes.tolist() == [4]  # one mask a class
    panoptic = tiny()
    panoptic.protocol = dataclasses.replace(panoptic.protocol, task="panoptic")
    (found,) = panoptic.pseudo_labels(old, truth)
    assert found.classes.tolist() == [4, 4]


def test_an_image_that_shows_another_steps_class_gets_no_pseudo_labels() -> None:
    """The first class of the next step is labelled in the official semantic data."""
    method = tiny(virtual_queries=0)
    seen: list[list[int]] = []
    set_losses = method.set_losses

    def spy(output: SimCISOutput, targets: list[Segments], labels: Tensor | None = None) -> dict[str, Tensor]:
        seen.extend(target.classes.tolist() for target in targets)
        return set_losses(output, targets, labels)

    method.set_losses = spy  # type: ignore[method-assign,assignment]
    method.pseudo_labels = lambda old, truth: [rectangle(3, slice(0, 8)) for _ in truth]  # type: ignore[method-assign,assignment]
    method.training_loss(as_batch([rectangle(15, slice(8, 16)), rectangle(16, slice(8, 16))]))
    assert seen == [[3, 15], [16]]


def test_rare_pseudo_labels_are_drawn_more_often() -> None:
    method = tiny(virtual_queries=1)
    counted = {0: 0, 1: 3, 2: 15}
    method.pseudo_labels = lambda old, truth: [  # type: ignore[method-assign,assignment]
        Segments(torch.tensor([c for c, n in counted.items() for _ in range(n)]), torch.zeros(18, 1, 1))
    ]
    method.begin_later_step(method.step, TwoBatches())  # type: ignore[arg-type]
    weights = method.sampling_weights
    assert weights.shape == (15,)
    assert (weights[0] / weights[1]).item() == pytest.approx((7 / 1) ** 0.5)  # seen in two batches
    assert (weights[1] / weights[2]).item() == pytest.approx((31 / 7) ** 0.5)


def test_features_of_matched_queries_are_remembered() -> None:
    method = tiny()
    with torch.no_grad():
        output = method.network(torch.randn(2, 3, 32, 32))
    before = method.bank.added.clone()
    method.remember(output, [rectangle(15, slice(0, 8)), rectangle(3, slice(0, 8))])
    assert (method.bank.added - before).nonzero()[:, 0].tolist() == [3, 15]
    place = int(before[15]) % 80
    assert (method.bank.features[15, place] == output.queries[0]).all(dim=1).any()


def test_a_step_goes_on_after_a_kill_with_the_same_bits() -> None:
    first = tiny(virtual_queries=2)
    tensors = {name: tensor.clone() for name, tensor in first.tensors().items()}
    other = built(SimCIS, parse("voc-15-1"), virtual_queries=2)
    assert isinstance(other, SimCIS)
    other.restore(first.protocol.steps[1], tensors)
    other.teacher, other.sampling_weights = first.teacher, first.sampling_weights
    losses = []
    for method in (first, other):
        method.network.eval()
        torch.manual_seed(3)
        losses.append(method.training_loss(batch_of(8)))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    assert torch.equal(first.bank.features, other.bank.features)


def test_future_classes_are_never_predicted() -> None:
    method = tiny("ade-100-50")
    method.step = method.protocol.steps[0]
    method.network.eval()
    torch.nn.init.constant_(method.network.predictor.class_embed.bias, 3.0)
    torch.nn.init.constant_(method.network.predictor.mask_embed.layers[-1].bias, 3.0)  # type: ignore[arg-type]
    with torch.no_grad():
        classes = method.predict_image(torch.randn(1, 3, 40, 52), (21, 33))
    assert isinstance(classes, Tensor)
    assert classes.shape == (21, 33)
    assert int(classes.max()) <= 100


def test_only_official_data_labels_the_next_class() -> None:
    data, step = TwoBatches(), parse("voc-15-1").steps[0]
    asked: list[str] = []
    data.with_next_class = lambda: asked.append("next") or data  # type: ignore[method-assign,func-returns-value]
    built(SimCIS, parse("voc-15-1")).training_data(step, data)  # type: ignore[arg-type]
    repaired = built(SimCIS, parse("voc-15-1"), next_class_labelled=False)
    panoptic = built(SimCIS, parse("ade-100-10", "panoptic"))
    for method in (repaired, panoptic):
        method.training_data(step, data)  # type: ignore[arg-type]
    assert asked == ["next"]
