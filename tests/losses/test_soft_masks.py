"""Against fcdl94/CoMFormer@640496b: two images of three and two targets, five queries, six classes."""

import pytest
import torch
from torch import Tensor

from methods.losses.matching import Matching, linear_sum_assignment
from methods.losses.soft_masks import harmonic_costs, log_masks, match_soft_masks, soft_mask_losses
from protocols.segments import Segments
from tests.golden import scatter, wave

POINTS = 16


def case() -> tuple[Tensor, Tensor, list[Segments]]:
    """Logits (1, 2, 5, 7), mask logits (2, 5, 4, 6) and targets, of which one is empty."""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(24), indexing="ij")
    first = torch.stack([y < 8, (x > 10) & (y > 4), (x - 6) ** 2 + (y - 8) ** 2 < 20])
    second = torch.stack([x < 0, (x + y) % 24 < 9])
    targets = [Segments(torch.tensor([0, 3, 5]), first), Segments(torch.tensor([2, 2]), second)]
    return wave((1, 2, 5, 7), 0.7, 0.3, 3).float(), wave((2, 5, 4, 6), 0.9, 0.1, 4).float(), targets


def points(number: int, *size: int) -> Tensor:
    """The `number`-th draw with which the official function was run."""
    return (scatter(size, number).float() + 1) / 2


def matched() -> Matching:
    logits, masks, targets = case()

    def draw(*size: int, device: torch.device | None = None) -> Tensor:
        assert size == (2, 1, POINTS, 2)
        return torch.stack([points(1, 1, POINTS, 2), points(2, 1, POINTS, 2)])

    return match_soft_masks(logits, masks.log_softmax(dim=1)[None], targets, POINTS, draw)


def test_golden_matching(monkeypatch: pytest.MonkeyPatch) -> None:
    """matcher.py@SoftmaxMatcher: the cost matrices and the pairs."""
    costs = []

    def spy(cost: object) -> object:
        costs.append(torch.as_tensor(cost).double())
        return linear_sum_assignment(cost)

    monkeypatch.setattr("methods.losses.matching.linear_sum_assignment", spy)
    matching = matched()
    sums = [(c.sum().item(), (c * wave(tuple(c.shape), 0.3, 0, 1)).sum().item()) for c in costs]
    assert sums[0] == pytest.approx((-2.205860853, -0.809293190), abs=1e-6)
    assert sums[1] == pytest.approx((-1.396867394, -0.584278316), abs=1e-6)
    assert matching.queries.tolist() == [[0, 2, 3, 0, 4]]
    assert matching.targets_in_image([3, 2]).tolist() == [[1, 2, 0, 1, 0]]


def test_golden_losses() -> None:
    """set_criterion.py@SoftmaxKDSetCriterion.loss_masks, divided by four, and its gradients."""
    _, masks, targets = case()
    masks.requires_grad_()
    draws = iter([11, 12])

    def draw(*size: int, device: torch.device | None = None) -> Tensor:
        return points(next(draws), *size)

    losses = soft_mask_losses(masks.log_softmax(dim=1)[None], targets, matched(), 4.0, POINTS, draw)
    assert [loss.item() for loss in losses] == pytest.approx([0.383924007, 0.822491527], abs=1e-6)
    norms = [torch.autograd.grad(loss, masks, retain_graph=True)[0].norm().item() for loss in losses]
    assert norms == pytest.approx([0.044569351, 0.029013725], abs=1e-6)


def test_layers_at_once_equal_one_after_the_other() -> None:
    _, masks, targets = case()
    one = matched()
    two = Matching(
        one.images,
        torch.stack([one.queries[0], one.queries[0].flip(0)]),
        one.targets.expand(2, -1),
        one.counts,
    )
    layers = torch.stack([masks, -masks]).log_softmax(dim=2)

    def draw(*size: int, device: torch.device | None = None) -> Tensor:
        torch.manual_seed(0)
        return torch.rand(5, *size[1:]).repeat(size[0] // 5, 1, 1)

    both = soft_mask_losses(layers, targets, two, 5.0, POINTS, draw)
    for layer in range(2):
        alone = Matching(one.images, two.queries[layer : layer + 1], one.targets, one.counts)
        losses = soft_mask_losses(layers[layer : layer + 1], targets, alone, 5.0, POINTS, draw)
        for of_both, loss in zip(both, losses, strict=True):
            torch.testing.assert_close(of_both[layer], loss[0])


def test_no_target_costs_nothing() -> None:
    _, masks, _ = case()
    empty = Segments(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 16, 24, dtype=torch.bool))
    logged = masks.requires_grad_().log_softmax(dim=1)[None]
    matching = match_soft_masks(torch.zeros(1, 2, 5, 7), logged, [empty, empty], POINTS)
    losses = soft_mask_losses(logged, [empty, empty], matching, 1.0, POINTS)
    sum(losses).sum().backward()  # type: ignore[union-attr]
    assert [loss.tolist() for loss in losses] == [[0.0], [0.0]] and not masks.grad.any()


def test_queries_share_every_pixel() -> None:
    masks = log_masks(wave((3, 2, 5, 8), 0.7, 0, 1), wave((2, 8, 4, 6), 0.3, 0, 1))
    assert masks.shape == (3, 2, 5, 4, 6)
    torch.testing.assert_close(masks.exp().sum(dim=2), torch.ones(3, 2, 4, 6, dtype=torch.float64))


def test_a_pair_is_as_good_as_its_worse_half() -> None:
    mask = torch.ones(1, 1000)
    sure, unsure = (
        harmonic_costs(torch.tensor([[1.0]]), mask, mask),
        harmonic_costs(torch.tensor([[0.01]]), mask, mask),
    )
    assert sure.item() == pytest.approx(-1) and unsure.item() == pytest.approx(-0.02 / 1.01, rel=1e-4)
