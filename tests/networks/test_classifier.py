import math

import pytest
import torch

from methods.networks.classifier import IncrementalClassifier


def test_logits_are_those_of_the_steps_side_by_side():
    classifier = IncrementalClassifier(6, [4, 2])
    classifier.grow(5)
    x = torch.randn(2, 6, 3, 3)
    assert classifier.classes_per_step == [4, 2, 5] and classifier.num_classes == 11
    torch.testing.assert_close(classifier(x), torch.cat([conv(x) for conv in classifier], dim=1))


def test_golden_background_initialisation():
    classifier = IncrementalClassifier(6, [4, 2, 5])
    with torch.no_grad():
        classifier[0].bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    classifier.init_from_background()
    shared = 1 - math.log(6)
    assert classifier[0].bias.tolist() == pytest.approx([shared, 2, 3, 4], abs=1e-6)
    assert classifier[2].bias.tolist() == pytest.approx([shared] * 5, abs=1e-6)
    assert torch.equal(classifier[2].weight, before["0.weight"][:1].expand(5, -1, -1, -1))
    for untouched in ("0.weight", "1.weight", "1.bias"):
        assert torch.equal(classifier.state_dict()[untouched], before[untouched])


def test_initialised_classes_share_the_probability_of_the_background():
    classifier = IncrementalClassifier(6, [4]).double()
    x = torch.randn(1, 6, 3, 3, dtype=torch.float64)
    old = classifier(x).softmax(dim=1)
    classifier.grow(2)
    classifier.init_from_background()
    new = classifier(x).softmax(dim=1)
    assert new.dtype == torch.float64
    torch.testing.assert_close(new[:, [0, 4, 5]].sum(1), old[:, 0])
    torch.testing.assert_close(new[:, 0], new[:, 5])
    torch.testing.assert_close(new[:, 1:4], old[:, 1:4])


def test_weights_only_leaves_the_biases():
    classifier = IncrementalClassifier(6, [4, 2])
    biases = [conv.bias.clone() for conv in classifier]
    classifier.init_from_background(weights_only=True)
    assert all(torch.equal(conv.bias, bias) for conv, bias in zip(classifier, biases, strict=True))
    assert torch.equal(classifier[1].weight[1], classifier[0].weight[0])


def test_every_parameter_learns():
    classifier = IncrementalClassifier(6, [4, 2])
    classifier(torch.randn(1, 6, 3, 3)).square().mean().backward()
    assert all(p.grad is not None for p in classifier.parameters())


def test_user_errors():
    with pytest.raises(ValueError, match="at least one class, got 0"):
        IncrementalClassifier(6, [4, 0])
    with pytest.raises(ValueError, match="at least one step"):
        IncrementalClassifier(6, [])
    with pytest.raises(ValueError, match="grow"):
        IncrementalClassifier(6, [4]).init_from_background()
