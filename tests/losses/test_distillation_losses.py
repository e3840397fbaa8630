import pytest
import torch
import torch.nn.functional as F

from methods.losses.distillation import (
    knowledge_distillation,
    sigmoid_cross_entropy_with_old_targets,
    sigmoid_distillation,
    unbiased_distillation,
)
from tests.golden import base_case


@pytest.mark.parametrize(
    "function, value, norm",
    [
        (knowledge_distillation, 0.537108274694, 0.024238326120),
        (unbiased_distillation, 0.550230810280, 0.020680198177),
    ],
)
def test_golden_value_and_gradient(function, value, norm):
    logits, old_logits, _ = base_case()
    loss = function(logits.requires_grad_(), old_logits)
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=1e-9)
    assert logits.grad.norm().item() == pytest.approx(norm, abs=1e-9)


def test_golden_alpha_and_mask():
    logits, old_logits, labels = base_case()
    assert knowledge_distillation(logits, old_logits, alpha=2).item() == pytest.approx(
        0.536054886131, abs=1e-9
    )
    assert unbiased_distillation(logits, old_logits, alpha=2).item() == pytest.approx(
        0.548129734505, abs=1e-9
    )
    assert unbiased_distillation(logits, old_logits, mask=labels < 4).item() == pytest.approx(
        0.265972252018, abs=1e-9
    )


def test_golden_sigmoid_distillation():
    logits, old_logits, _ = base_case()
    loss = sigmoid_distillation(logits, old_logits)
    assert (10 * loss).item() == pytest.approx(36.481531056485, abs=1e-9)  # LwF-MC's term
    assert (loss / 4).item() == pytest.approx(0.912038276412, abs=1e-9)  # PLOP's BCESigmoid


def test_golden_sigmoid_cross_entropy_with_old_targets():
    logits, old_logits, labels = base_case()
    # The official function rounds its targets to float32; the first of each pair has float64 ones.
    loss = sigmoid_cross_entropy_with_old_targets(logits, labels, old_logits)
    assert loss.item() == pytest.approx(6.426805640840, abs=1e-9)
    assert loss.item() == pytest.approx(6.426805019379, rel=2**-23)
    loss = sigmoid_cross_entropy_with_old_targets(logits, labels, old_logits, keep_background=True)
    assert loss.item() == pytest.approx(6.521215168691, abs=1e-9)
    assert loss.item() == pytest.approx(6.521215438843, rel=2**-23)


def test_sigmoid_distillation_is_the_definition():
    logits, old_logits, _ = base_case()
    per_channel = F.binary_cross_entropy_with_logits(logits[:, :4], old_logits.sigmoid(), reduction="none")
    torch.testing.assert_close(sigmoid_distillation(logits, old_logits), per_channel.sum(dim=1).mean())


FUNCTIONS = [knowledge_distillation, unbiased_distillation, sigmoid_distillation]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("num_old", [1, 2, 6, 7])
def test_one_old_or_one_new_channel_is_finite(function, num_old):
    logits, old_logits, _ = base_case()
    old_logits = torch.cat([old_logits, old_logits.flip(1)], dim=1)[:, :num_old]
    loss = function(logits.requires_grad_(), old_logits)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


@pytest.mark.parametrize("num_old", [1, 2, 6, 7])
def test_unbiased_is_the_definition(num_old):
    logits, old_logits, _ = base_case()
    old_logits = torch.cat([old_logits, old_logits.flip(1)], dim=1)[:, :num_old]
    probability, target = logits.softmax(dim=1), old_logits.softmax(dim=1)
    background = probability[:, 0] + probability[:, num_old:].sum(dim=1)
    expected = target[:, 0] * background.log() + (target * probability[:, :num_old].log())[:, 1:].sum(dim=1)
    torch.testing.assert_close(unbiased_distillation(logits, old_logits), -expected.mean() / num_old)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_huge_logits_stay_finite_and_inputs_are_left_alone(function):
    logits, old_logits, _ = (t.float() * 1e4 for t in base_case())
    before = logits.clone(), old_logits.clone()
    loss = function(logits.requires_grad_(), old_logits)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    assert torch.equal(logits.detach(), before[0]) and torch.equal(old_logits, before[1])


@pytest.mark.parametrize("shape", [(2, 8, 6, 5), (2, 4, 5, 5), (1, 4, 6, 5)])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_shapes_that_do_not_go_together(function, shape):
    with pytest.raises(ValueError, match="do not go with"):
        function(base_case()[0], torch.zeros(shape, dtype=torch.float64))
