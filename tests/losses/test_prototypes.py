"""SDR's losses. Golden values: LTTM/SDR@8638296 on torch 2.15 in float64, functions as named in each test."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from methods.losses.prototypes import (
    Layout,
    attraction,
    class_pixels,
    class_sums,
    nearest,
    prototype_matching,
    repulsion,
    sparsity,
    updated_prototypes,
)
from methods.losses.unbiased import unbiased_losses
from tests.golden import base_case, wave

NUM_OLD = 4
LAYOUTS = {True: Layout.ROWS, False: Layout.TRUE}


def features_and_prototypes(num_channels: int = 8, num_images: int = 2) -> tuple[Tensor, Tensor]:
    features = 1.1 + wave((2, num_channels, 3, 3), 0.37, 0.1, 1)
    return features[:num_images].requires_grad_(), 1 + wave((7, num_channels), 0.53, 0.2, 0.5)


def labels_of(kind: str) -> Tensor:
    """`all` labels 0..6 and 255, those of a `step` whose new classes are 4..6, or one value everywhere."""
    labels = base_case()[2]
    if kind == "step":
        labels = torch.where((labels >= NUM_OLD) & (labels < 7), labels, 0)
    elif kind != "all":
        labels = torch.full_like(labels, int(kind))
    return nearest(labels, 3, 3)


def old_labels(kind: str) -> Tensor:
    """What is matched: the labels below 4 of `all`, else what the old network says of the background."""
    labels = labels_of(kind)
    if kind == "all":
        return labels.masked_fill((labels >= NUM_OLD) | (labels == 0), 255)
    predicted = nearest(base_case()[1].argmax(dim=1), 3, 3)
    return predicted.masked_fill((labels != 0) | (predicted == 0), 255)


def check(loss: Tensor, features: Tensor, value: float, size: float, element: float) -> None:
    """Value, Σ|gradient| and one element of the gradient."""
    assert loss.item() == pytest.approx(value, abs=1e-11)
    (gradient,) = torch.autograd.grad(loss, features)
    assert gradient.abs().sum().item() == pytest.approx(size, abs=1e-11)
    assert gradient[0, 3, 2, 1].item() == pytest.approx(element, abs=1e-11)


def test_nearest_takes_the_top_left_pixel() -> None:
    first, second = labels_of("all").tolist()
    assert first == [[0, 5, 255], [2, 255, 1], [4, 1, 3]]
    assert second == [[6, 3, 5], [0, 5, 255], [2, 255, 1]]


@pytest.mark.parametrize(
    ("kind", "mixed", "repeated", "value", "size", "element"),
    [
        ("all", True, True, 0.106457156750, 0.241955786478, 0.000000401020),
        ("all", False, True, 0.106148442266, 0.239618681557, 0.000000239859),
        ("all", False, False, 0.570421794160, 1.257941424381, 0.004031303705),
        ("step", True, True, 0.207729769958, 0.472694326893, -0.000019731081),
        ("step", False, True, 0.206771822288, 0.465627927856, -0.000020631794),
        ("step", False, False, 0.558235154348, 1.242883722876, -0.001320434813),
        ("0", True, True, 0.574121760052, 1.317939896141, -0.001667358300),
        ("0", False, False, 0.606634921326, 1.360604545660, -0.003814589460),
    ],
)
def test_golden_attraction(
    kind: str, mixed: bool, repeated: bool, value: float, size: float, element: float
) -> None:
    """utils/loss.py@FeaturesClusteringSeparationLoss, first value."""
    features, prototypes = features_and_prototypes()
    pixels = class_pixels(features, labels_of(kind), LAYOUTS[mixed])
    check(attraction(pixels, prototypes, repeated), features, value, size, element)


@pytest.mark.parametrize(
    ("kind", "mixed", "value", "size", "element"),
    [
        ("all", True, 1.531867359448, 14.191920557255, 0.027329104927),
        ("all", False, 1.197838387071, 5.342773480075, -0.049189193249),
        ("step", True, 0.938083227195, 4.636985264791, 0.028438026422),
        ("step", False, 1.119846425419, 6.632602724328, -0.029694368334),
    ],
)
def test_golden_repulsion(kind: str, mixed: bool, value: float, size: float, element: float) -> None:
    """utils/loss.py@FeaturesClusteringSeparationLoss, second value."""
    features, _ = features_and_prototypes()
    pixels = class_pixels(features, labels_of(kind), LAYOUTS[mixed])
    check(repulsion(pixels), features, value, size, element)


@pytest.mark.parametrize(
    ("kind", "means", "mixed", "value", "size", "element"),
    [
        ("step", True, True, 0.247059756271, 0.779073627098, 0.017289775520),
        ("step", True, False, 0.156239621443, 0.663812779532, 0.011300064689),
        ("step", False, True, 2.228707409353, 4.518769661340, 0.018819615429),
        ("step", False, False, 2.246382679826, 4.615264899400, 0.036715265871),
        ("all", True, True, 0.242009377253, 0.819911479106, 0.001184331478),
        ("all", True, False, 0.214504924627, 0.788079153851, 0.010332979119),
        ("all", False, True, 1.991946054546, 4.128165942228, -0.022072313620),
        ("all", False, False, 1.978855715803, 4.137522061037, 0.028219125933),
    ],
)
def test_golden_matching(
    kind: str, means: bool, mixed: bool, value: float, size: float, element: float
) -> None:
    """utils/loss.py@DistillationEncoderPrototypesLoss, disjoint and sequential, with and without sumafter."""
    features, prototypes = features_and_prototypes()
    layout = Layout.COLUMNS if mixed else Layout.TRUE
    pixels = class_pixels(features, old_labels(kind), layout)
    assert list(pixels) == [1, 2, 3] if kind == "step" else [1, 3]
    check(prototype_matching(pixels, prototypes, means), features, value, size, element)


@pytest.mark.parametrize(
    ("kind", "value", "size", "element"),
    [
        ("all", 3.343914542155, 1.819701432297, -0.008213165616),
        ("step", 3.351365970204, 1.873010568825, -0.008218869445),
        ("255", 3.359654563922, 1.915587261611, -0.008218869445),
        ("0", 0.0, 0.0, 0.0),
    ],
)
def test_golden_sparsity(kind: str, value: float, size: float, element: float) -> None:
    """utils/loss.py@FeaturesSparsificationLoss: max_maskedforclass, exponential, ratio."""
    features, _ = features_and_prototypes()
    check(sparsity(features, labels_of(kind)), features, value, size, element)


def test_golden_sum_of_the_preset() -> None:
    """train.py@Trainer.train with the preset of argparser.py, on the labels of a disjoint step."""
    features, prototypes = features_and_prototypes()
    logits, old_logits, labels = base_case()
    labels = torch.where((labels >= NUM_OLD) & (labels < 7), labels, 0)
    pixels = class_pixels(features, labels_of("step"), Layout.ROWS)
    old = class_pixels(features, old_labels("step"), Layout.COLUMNS)
    total = (
        sum(unbiased_losses(logits, old_logits, labels, 100.0).values())
        + 1e-3 * (attraction(pixels, prototypes, True) + repulsion(pixels))
        + 1e-2 * prototype_matching(old, prototypes)
        + 1e-3 * sparsity(features, labels_of("step"))
    )
    check(total, features, 56.437414979533, 0.010985913303, 0.000193097181)


def test_golden_real_width() -> None:
    features, prototypes = features_and_prototypes(2048)
    pixels = class_pixels(features, labels_of("step"), Layout.ROWS)
    old = class_pixels(features, old_labels("step"), Layout.COLUMNS)
    assert attraction(pixels, prototypes, True).item() == pytest.approx(0.210841308680, abs=1e-11)
    assert repulsion(pixels).item() == pytest.approx(0.051051266074, abs=1e-11)
    assert prototype_matching(old, prototypes).item() == pytest.approx(0.211738179276, abs=1e-11)
    assert sparsity(features, labels_of("step")).item() == pytest.approx(3.408670200270, abs=1e-11)


@pytest.mark.parametrize(
    ("case", "keeps_background", "counts", "total", "mixed", "true"),
    [
        ("first", True, [34, 6, 7, 7, 0, 0, 0], 35.787343828897, (1.081065647789, 1.309140654283, 0),
         (1.282296201364, 1.348144444459, 0)),
        ("first", False, [0, 6, 7, 7, 0, 0, 0], 26.857488807693, (0, 1.309140654283, 0),
         (0, 1.348144444459, 0)),
        ("later", False, [10, 20, 30, 40, 5, 9, 5], 60.282878989883,
         (1.488035460991, 0.625940765940, 1.088305107764), (1.488035460991, 0.625940765940, 1.180196589937)),
        ("all", True, [17, 26, 37, 47, 5, 9, 5], 60.683350379357,
         (1.356782569832, 0.755194798870, 1.088305107764), (1.375731673776, 0.762573894309, 1.180196589937)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layout", [Layout.ROWS, Layout.TRUE])
def test_golden_prototypes_of_three_batches(
    layout: Layout,
    case: str,
    keeps_background: bool,
    counts: list[int],
    total: float,
    mixed: tuple[float, float, float],
    true: tuple[float, float, float],
) -> None:
    """train.py@Trainer._update_running_stats with 8 channels for 2048; the sum has no layout."""
    means = torch.zeros(7, 8, dtype=torch.float64)
    numbers = torch.zeros(7, dtype=torch.int64)
    if case != "first":
        means[:4] = features_and_prototypes()[1][:4]
        numbers[:4] = torch.tensor([10, 20, 30, 40])
    for k in range(3):
        labels = ((5 * torch.arange(60) + 3 * k) % 8).view(2, 6, 5)
        labels[labels == 7] = 255
        if case == "first":
            labels = torch.where(labels < 4, labels, 0)
        if case == "later":
            labels = torch.where((labels >= 4) & (labels < 7), labels, 0)
        features = 1.1 + wave((2, 8, 3, 3), 0.37, 0.1 + k, 1)
        sums = class_sums(class_pixels(features, nearest(labels, 3, 3), layout), means, keeps_background)
        means, numbers = updated_prototypes(means, numbers, *sums)
    assert numbers.tolist() == counts
    assert means.sum().item() == pytest.approx(total, abs=1e-11)
    expected = mixed if layout is Layout.ROWS else true
    assert means[[0, 2, 5], 3].tolist() == pytest.approx(expected, abs=1e-11)


def test_layouts_agree_where_they_must() -> None:
    features, _ = features_and_prototypes()
    one_image = torch.tensor([[[0, 1, 2], [0, 1, 2], [2, 2, 2]], [[3, 4, 5], [3, 4, 5], [5, 5, 5]]])
    one_pixel = torch.full((2, 3, 3), 255)
    one_pixel[:, 0, 0], one_pixel[0, 1, 1], one_pixel[1, 2, 0] = 1, 2, 2
    for labels, layout in ((one_image, Layout.ROWS), (one_pixel, Layout.COLUMNS)):
        true, other = class_pixels(features, labels), class_pixels(features, labels, layout)
        assert all(torch.equal(true[c], other[c]) for c in true)
    assert not torch.equal(
        class_pixels(features, one_image, Layout.COLUMNS)[0], class_pixels(features, one_image)[0]
    )


def test_true_layout_is_the_definition() -> None:
    features, _ = features_and_prototypes()
    labels = labels_of("all")
    pixels = class_pixels(features, labels)
    assert list(pixels) == [0, 1, 2, 3, 4, 5, 6]
    assert all(torch.equal(pixels[c], features.movedim(1, -1)[labels == c]) for c in pixels)


def test_nothing_to_hold() -> None:
    features, prototypes = features_and_prototypes()
    nothing = class_pixels(features, labels_of("255"))
    assert nothing == {}
    assert (
        attraction(nothing, prototypes) == repulsion(nothing) == prototype_matching(nothing, prototypes) == 0
    )
    assert repulsion(class_pixels(features, labels_of("0"))) == 0
    same = class_pixels(torch.ones(1, 8, 3, 3), torch.arange(9).view(1, 3, 3))
    assert repulsion(same) == 0


def test_many_classes_are_exact() -> None:
    """Above 25 classes the official `cdist` counts the distances of classes from themselves too."""
    features = wave((1, 4, 6, 5), 0.9, 0.4, 3)
    pixels = class_pixels(features, torch.arange(30).view(1, 6, 5))
    distances = torch.pdist(torch.cat([*pixels.values()]))
    assert repulsion(pixels).item() == pytest.approx((1 / distances).mean().item(), rel=1e-12)


def test_sparsity_has_no_scale_and_survives_dead_pixels() -> None:
    features, _ = features_and_prototypes()
    labels = labels_of("step")
    torch.testing.assert_close(sparsity(5 * features, labels), sparsity(features, labels))
    dead = features.detach().clone()
    dead[0, :, 0, 0] = 0
    dead.requires_grad_()
    loss = sparsity(dead, labels)
    loss.backward()
    assert loss < 4 and dead.grad is not None and dead.grad.isfinite().all()
    assert sparsity(torch.zeros(2, 8, 3, 3), labels) == 0
