import pytest
import torch

from methods.losses.focal import (
    focal_class_cost,
    focal_classification,
    mean_focal_classification,
    normalised_score,
    softmax_focal_classification,
)
from methods.losses.query_distillation import adaptive_distillation, selection_consistency
from tests.golden import wave


def test_golden_focal_loss():
    # SimCIS@28bc91e modeling/criterion.py@sigmoid_focal_loss, times the queries as in loss_labels
    logits = wave((2, 5, 7), 0.7, 0.3, 3).requires_grad_()
    classes = torch.tensor([[7, 0, 7, 3, 6], [1, 7, 7, 7, 2]])
    losses = focal_classification(torch.stack([logits, -logits]), torch.stack([classes, classes]), 4.0)
    losses[0].backward()
    assert losses[0].item() == pytest.approx(11.068621798594, abs=1e-9)
    assert logits.grad.norm().item() == pytest.approx(1.084616161004, abs=1e-9)


def test_golden_class_cost():
    # SimCIS@28bc91e modeling/matcher.py@HungarianMatcher.memory_efficient_forward, its class term
    cost = focal_class_cost(wave((5, 7), 0.7, 0.3, 3), torch.tensor([0, 3, 3, 6]))
    assert cost.sum().item() == pytest.approx(-8.223689158179, abs=1e-9)
    assert (cost * wave((5, 4), 0.3, 0, 1)).sum().item() == pytest.approx(-1.212299143314, abs=1e-9)


@pytest.mark.parametrize(
    "temperature, value, norm",
    [(1.0, 10.716307245237, 1.139044468586), (4.0, 1.212153296660, 0.103108654873)],
)
def test_golden_selection_consistency(temperature, value, norm):
    # SimCIS@28bc91e modeling/criterion.py@SetCriterion.loss_knowledge_distillation
    logits = wave((2, 5, 7), 0.7, 0.3, 3).requires_grad_()
    loss = selection_consistency(logits, wave((2, 5, 7), 1.1, -0.2, 3), temperature)
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=1e-9)
    assert logits.grad.norm().item() == pytest.approx(norm, abs=1e-9)


def test_normalised_score_is_sharp():
    logits = torch.tensor([[3.0, -3.0, -3.0], [3.0, 2.9, -3.0]])
    scores = normalised_score(logits)
    assert scores[0].item() == pytest.approx(1, abs=1e-5)
    assert 0.5 < scores[1].item() < 0.55


CLASSES = torch.tensor([[6, 0, 6, 3, 5], [1, 6, 6, 6, 2]])


@pytest.mark.parametrize(
    "function, value, norm",
    [
        # CoMFormer@640496b continual/method_wrapper/loss.py@focal_loss, α 5, γ 1
        (softmax_focal_classification, 17.088255677639, 1.635070970785),
        # ECLIPSE@9266720 continual/method_wrapper/loss.py@sigmoid_focal_loss, α 5, γ 1
        (mean_focal_classification, 247.510575602273, 20.151261496769),
    ],
)
def test_golden_mean_focal_losses(function, value, norm):
    logits = wave((2, 5, 7), 0.7, 0.3, 3).requires_grad_()
    losses = function(torch.stack([logits, -logits]), CLASSES.expand(2, -1, -1))
    losses[0].backward()
    # ECLIPSE's targets are float32
    assert losses[0].item() == pytest.approx(value, abs=1e-5)
    assert logits.grad.norm().item() == pytest.approx(norm, abs=1e-5)


def test_golden_adaptive_distillation():
    # CoMFormer@640496b loss.py@unbiased_knowledge_distillation_loss with reweight: three old classes, six new
    logits = wave((2, 5, 7), 0.7, 0.3, 3).requires_grad_()
    loss = adaptive_distillation(logits, wave((2, 5, 4), 1.1, -0.2, 3))
    loss.backward()
    assert loss.item() == pytest.approx(2.952312803291, abs=1e-9)
    assert logits.grad.norm().item() == pytest.approx(0.330531576847, abs=1e-9)


def test_what_the_old_network_calls_nothing_may_become_a_class():
    old = torch.tensor([[[0.0, -9.0, 5.0]]])
    new_class = torch.tensor([[[0.0, -9.0, 5.0, -20.0]]])
    assert adaptive_distillation(new_class, old).item() == pytest.approx(0, abs=1e-6)
    sure = torch.tensor([[[-200.0, -200.0, 0.0]]])
    assert adaptive_distillation(new_class, sure).item() == 0  # officially NaN
