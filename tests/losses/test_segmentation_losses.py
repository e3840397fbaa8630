import pytest
import torch

from methods.losses.segmentation import (
    binary_cross_entropy,
    cross_entropy,
    focal_cross_entropy,
    unbiased_cross_entropy,
)
from tests.golden import base_case


def test_golden_cross_entropy():
    logits, _, labels = base_case()
    assert cross_entropy(logits, labels).item() == pytest.approx(2.633910318627, abs=1e-9)
    valid = (labels != 255).double().mean()
    assert (cross_entropy(logits, labels) / valid).item() == pytest.approx(3.039127290724, abs=1e-9)


def test_golden_unbiased_cross_entropy():
    logits, _, labels = base_case()
    loss = unbiased_cross_entropy(logits.requires_grad_(), labels, 4)
    assert loss.item() == pytest.approx(1.331928146396, abs=1e-9)
    loss.backward()
    assert logits.grad.norm().item() == pytest.approx(0.090631977811, abs=1e-9)
    valid = (labels != 255).double().mean()
    assert (loss / valid).item() == pytest.approx(1.536840168919, abs=1e-9)


def test_golden_binary_cross_entropy():
    logits, _, labels = base_case()
    loss = binary_cross_entropy(logits.requires_grad_(), labels)
    loss.backward()
    # The official one-hot targets are float32, and so is its value even for float64 logits. First of each
    # pair: what the official function gives with float64 targets; second: what it gives as it is.
    assert loss.item() == pytest.approx(5.815972443018, abs=1e-9)
    assert loss.item() == pytest.approx(5.815972328186, rel=2**-24)
    valid = (labels != 255).double().mean()
    assert (loss / valid).item() == pytest.approx(6.710737228394, rel=2**-24)
    assert logits.grad.norm().item() == pytest.approx(0.187937339904, abs=1e-9)
    assert logits.grad.norm().item() == pytest.approx(0.187937349706, rel=2**-24)


def test_golden_focal_losses():
    logits, _, labels = base_case()
    assert focal_cross_entropy(logits, labels).item() == pytest.approx(2.368137581489, abs=1e-9)
    new_only = focal_cross_entropy(logits, labels, first_focal_channel=4)
    assert new_only.item() == pytest.approx(2.510481454241, abs=1e-9)


def test_focal_loss_without_a_focus_is_cross_entropy():
    logits, _, labels = base_case()
    torch.testing.assert_close(focal_cross_entropy(logits, labels, gamma=0), cross_entropy(logits, labels))


@pytest.mark.parametrize("num_old", [0, 1])
def test_unbiased_is_plain_where_nothing_is_merged(num_old):
    logits, _, labels = base_case()
    assert torch.equal(unbiased_cross_entropy(logits, labels, num_old), cross_entropy(logits, labels))


@pytest.mark.parametrize("num_old", range(2, 8))
def test_unbiased_is_the_definition(num_old):
    logits, _, labels = base_case()
    probability = logits.softmax(dim=1)
    old = probability[:, :num_old].sum(dim=1)
    chosen = probability.gather(1, labels.masked_fill(labels == 255, 0)[:, None])[:, 0]
    expected = -torch.where(labels < num_old, old, chosen).log() * (labels != 255)
    loss = unbiased_cross_entropy(logits, labels, num_old)
    torch.testing.assert_close(loss, expected.mean(), rtol=1e-12, atol=1e-12)


def test_pixel_weights_enter_the_mean():
    logits, _, labels = base_case()
    weights = torch.tensor([0.25, 3.0], dtype=torch.float64).view(2, 1, 1)
    by_image = [cross_entropy(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]
    expected = (0.25 * by_image[0] + 3.0 * by_image[1]) / 2
    torch.testing.assert_close(cross_entropy(logits, labels, weights), expected)
    torch.testing.assert_close(
        cross_entropy(logits, labels, torch.ones(2, 6, 5)), cross_entropy(logits, labels)
    )


@pytest.mark.parametrize("num_old", [0, 1, 4, 6])
def test_all_ignored_gives_zero_and_zero_gradients(num_old):
    logits, _, labels = base_case()
    loss = unbiased_cross_entropy(logits.requires_grad_(), torch.full_like(labels, 255), num_old)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.abs().max() == 0.0


def test_binary_cross_entropy_ignores_in_every_channel():
    logits, _, labels = base_case()
    loss = binary_cross_entropy(logits.requires_grad_(), torch.full_like(labels, 255))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.abs().max() == 0.0


def test_huge_logits_stay_finite():
    logits, _, labels = base_case()
    logits = (logits.float() * 1e4).requires_grad_()
    loss = unbiased_cross_entropy(logits, labels, 4)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_inputs_are_left_alone_and_byte_labels_are_taken():
    logits, _, labels = base_case()
    logits_before, labels_before = logits.clone(), labels.clone()
    loss = unbiased_cross_entropy(logits, labels, 4)
    assert torch.equal(logits, logits_before) and torch.equal(labels, labels_before)
    assert torch.equal(unbiased_cross_entropy(logits, labels.byte(), 4), loss)


@pytest.mark.parametrize("num_old", [-1, 8])
def test_impossible_number_of_old_channels(num_old):
    logits, _, labels = base_case()
    with pytest.raises(ValueError, match="old channels among 7"):
        unbiased_cross_entropy(logits, labels, num_old)
