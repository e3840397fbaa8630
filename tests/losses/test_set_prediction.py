import pytest
import torch

from methods.losses.matching import Matching, match
from methods.losses.set_prediction import (
    binary_cross_entropy,
    class_loss,
    dice_loss,
    mask_losses,
    matched_masks,
    num_masks,
    target_classes,
)
from protocols.segments import Segments
from tests.golden import scatter, wave
from tests.losses.test_matching import case


def test_golden_point_losses():
    """BalConpas 3b76142 criterion.py@sigmoid_ce_loss, dice_loss, with num_masks 3."""
    logits, labels = wave((4, 50), 0.7, 0.3, 3).float(), (wave((4, 50), 1.3, -0.2, 1) > 0).float()
    assert binary_cross_entropy(logits, labels).sum().item() / 3 == pytest.approx(1.53126060962677, rel=1e-6)
    assert dice_loss(logits, labels).sum().item() / 3 == pytest.approx(0.6396702527999878, rel=1e-6)


class OfficialDraws:
    """The points that the official criterion drew, in the order of its draws, for us to draw in ours.

    It goes through the predictions, the final one first: a draw for each image in the matcher, then the
    candidates and the rest for the masks. We draw the points of all predictions at once.
    """

    def __init__(self, layers: int, images: int, masks: int, num_points: int) -> None:
        order = [*range(1, layers), 0]  # prediction -> when the official code comes to it
        first = [1 + when * (images + 2) for when in order]
        matcher = [[points((num_points, 2), f + image) for f in first] for image in range(images)]
        candidates = [points((masks, 3 * num_points, 2), f + images) for f in first]
        rest = [points((masks, num_points // 4, 2), f + images + 1) for f in first]
        self.waiting = [torch.stack([*map(torch.stack, matcher)]), torch.cat(candidates), torch.cat(rest)]

    def __call__(self, *size: int, device: torch.device | None = None) -> torch.Tensor:
        drawn = self.waiting.pop(0)
        assert drawn.shape == size
        return drawn


def points(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return (scatter(shape, seed) / 2 + 0.5).float()


def test_golden_criterion():
    """BalConpas 3b76142 SetCriterion.forward on three predictions for two images; one target is empty."""
    logits = (2 * scatter((3, 2, 6, 5), 101)).float().requires_grad_()
    embeddings = scatter((3, 2, 6, 8), 102).float().requires_grad_()
    features = (2 * scatter((2, 8, 8, 10), 103)).float().requires_grad_()
    masks = [scatter((3, 32, 40), 104) > 0.4, scatter((2, 32, 40), 105) > -0.2]
    masks[1][1] = False
    targets = [Segments(torch.tensor([2, 0, 2]), masks[0]), Segments(torch.tensor([1, 3]), masks[1])]
    draw = OfficialDraws(layers=3, images=2, masks=5, num_points=64)

    matching = match(logits, embeddings, features, targets, num_points=64, draw=draw)
    assert matching.queries.tolist() == [[0, 2, 4, 2, 4], [2, 3, 4, 3, 4], [1, 2, 4, 2, 4]]
    assert matching.targets_in_image([3, 2]).tolist() == [[2, 0, 1, 1, 0], [1, 2, 0, 1, 0], [0, 1, 2, 0, 1]]
    of_class = class_loss(logits, target_classes(matching, targets, 6, no_object=4))
    of_mask, of_dice = mask_losses(
        embeddings, features, targets, matching, num_masks(targets), num_points=64, draw=draw
    )
    assert of_class.tolist() == pytest.approx([1.287548542, 1.736275554, 1.583526492], rel=1e-6)
    assert of_mask.tolist() == pytest.approx([0.72051388, 0.74763602, 0.714496255], rel=1e-6)
    assert of_dice.tolist() == pytest.approx([0.656225324, 0.643775821, 0.64132899], rel=1e-6)
    (2 * of_class + 5 * of_mask + 5 * of_dice).sum().backward()
    norms = [leaf.grad.double().norm().item() for leaf in (logits, embeddings, features)]
    assert norms == pytest.approx([1.1839809047180812, 0.7738062804605516, 0.3282792761900054], rel=1e-5)


def test_target_classes():
    *_, targets = case()
    matching = Matching(
        torch.tensor([0, 2]), torch.tensor([[5, 1], [0, 0]]), torch.tensor([[2, 3], [1, 11]]), (1, 0, 1)
    )
    classes = target_classes(matching, targets, num_queries=6, no_object=4)
    assert classes.shape == (2, 3, 6) and (classes == 4).sum() >= 36 - 4
    assert classes[0, 0, 5] == targets[0].classes[2] and classes[0, 2, 1] == targets[2].classes[0]
    assert classes[1, 0, 0] == targets[0].classes[1] and classes[1, 2, 0] == targets[2].classes[8]


def test_class_loss_is_the_weighted_mean():
    logits = torch.randn(2, 3, 6, 5)
    classes = torch.randint(5, (2, 3, 6))
    weight = torch.tensor([1.0, 1, 1, 1, 0.1])
    for layer, loss in enumerate(class_loss(logits, classes)):
        expected = torch.nn.functional.cross_entropy(
            logits[layer].flatten(0, 1), classes[layer].flatten(), weight
        )
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_mask_losses_reach_the_network():
    logits, embeddings, features, targets = case()
    embeddings.requires_grad_(), features.requires_grad_()
    matching = match(logits, embeddings, features, targets, num_points=20)
    assert matched_masks(embeddings, features, matching).shape == (2, 9, 8, 10)
    cross, dice = mask_losses(embeddings, features, targets, matching, num_masks(targets), num_points=20)
    assert cross.shape == dice.shape == (2,)
    (cross.sum() + dice.sum()).backward()
    assert features.grad[[0, 2]].any() and not features.grad[1].any()
    assert embeddings.grad.abs().sum((0, 3)).count_nonzero() <= 2 * 9


def test_losses_are_float32_under_autocast():
    logits, embeddings, features, targets = case(counts=(3, 2, 1))
    with torch.autocast("cpu", torch.bfloat16):
        matching = match(logits.bfloat16(), embeddings.bfloat16(), features, targets, num_points=10)
        classes = target_classes(matching, targets, 6, no_object=4)
        losses = mask_losses(embeddings.bfloat16(), features, targets, matching, 6, num_points=10)
        losses = (*losses, class_loss(logits.bfloat16(), classes))
    assert [loss.dtype for loss in losses] == 3 * [torch.float32]


def test_targets_cover_the_image_before_it_was_padded():
    logits, embeddings, features, targets = case(counts=(3, 2, 1))
    smaller = [Segments(t.classes, t.masks[:, :30, :35]) for t in targets]
    padded = [Segments(t.classes, torch.nn.functional.pad(t.masks, (0, 5, 0, 2))) for t in smaller]
    results = []
    for given in (smaller, padded):
        torch.manual_seed(1)
        matching = match(logits, embeddings, features, given, num_points=50)
        results += [matching.targets, *mask_losses(embeddings, features, given, matching, 6, num_points=50)]
    for found, expected in zip(results[:3], results[3:], strict=True):
        assert torch.equal(found, expected)


def test_without_targets_mask_losses_are_zero():
    logits, embeddings, features, targets = case(counts=(0, 0))
    matching = match(logits, embeddings.requires_grad_(), features, targets, num_points=10)
    losses = mask_losses(embeddings, features, targets, matching, num_masks(targets), num_points=10)
    assert [loss.tolist() for loss in losses] == [[0, 0], [0, 0]]
    (losses[0] + losses[1]).sum().backward()
    assert not embeddings.grad.any()
