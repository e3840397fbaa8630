from collections import deque

import pytest
import torch

from methods.virtual_queries import QueryBank, sampling_weights


def test_the_bank_keeps_what_a_deque_keeps() -> None:
    bank = QueryBank(num_classes=3, capacity=4, channels=2)
    deques: list[deque[tuple[float, ...]]] = [deque(maxlen=4) for _ in range(3)]
    generator = torch.Generator().manual_seed(0)
    for number in (1, 0, 5, 11, 3, 20):
        classes = torch.randint(3, (number,), generator=generator)
        features = torch.randn(number, 2, generator=generator)
        bank.add(classes, features)
        for label, feature in zip(classes.tolist(), features.tolist(), strict=True):
            deques[label].append(tuple(feature))
        assert bank.filled().tolist() == [len(d) for d in deques]
        for label in range(3):
            stored = bank.features[label, : len(deques[label])].tolist()
            assert {tuple(feature) for feature in stored} == set(deques[label])


def test_draws_are_weighted_and_skip_classes_without_features() -> None:
    bank = QueryBank(num_classes=4, capacity=2, channels=1)
    bank.add(torch.tensor([0, 0, 2, 3]), torch.tensor([[1.0], [2.0], [20.0], [30.0]]))
    torch.manual_seed(0)
    classes, features = bank.draw(torch.tensor([1.0, 5.0, 3.0]), 4000)
    assert torch.bincount(classes, minlength=4)[[1, 3]].tolist() == [0, 0]
    assert (classes == 2).float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert set(features[classes == 0].flatten().tolist()) == {1.0, 2.0}
    assert (features[classes == 2] == 20).all()


def test_an_empty_bank_gives_nothing() -> None:
    classes, features = QueryBank(2, 3, 5).draw(torch.ones(2), 7)
    assert classes.shape == (0,)
    assert features.shape == (0, 5)


def test_restoring_gives_the_same_draws() -> None:
    bank, other = QueryBank(2, 3, 5), QueryBank(2, 3, 5)
    bank.add(torch.tensor([0, 1, 1, 0, 0, 0]), torch.randn(6, 5))
    other.restore({name: tensor.clone() for name, tensor in bank.tensors().items()})
    drawn = []
    for each in (bank, other):
        torch.manual_seed(1)
        each.add(torch.tensor([1]), torch.ones(1, 5))
        drawn.append(each.draw(torch.tensor([1.0, 2.0]), 6))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])


def test_sampling_weights() -> None:
    # (Σ(σ + 1) / (σ + 1))^α with σ = 0, 3, 15: the sum is 21.
    weights = sampling_weights(torch.tensor([0.0, 3.0, 15.0]), 0.5)
    torch.testing.assert_close(weights, torch.tensor([21.0, 21 / 4, 21 / 16]).sqrt())
