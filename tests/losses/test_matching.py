import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

from methods.losses.matching import assign, class_cost, mask_costs, match
from methods.losses.point_sampling import point_sample
from protocols.segments import Segments
from tests.golden import wave


def case(seed=0, queries=6, counts=(3, 0, 9), layers=2):
    """Predictions of `layers` and overlapping targets of three images, one of them without any, one with
    more than there are queries."""
    torch.manual_seed(seed)
    images = len(counts)
    logits = torch.randn(layers, images, queries, 5)
    embeddings, features = torch.randn(layers, images, queries, 7), torch.randn(images, 7, 8, 10)
    targets = [Segments(torch.randint(4, (n,)), torch.rand(n, 32, 40) > 0.6) for n in counts]
    return logits, embeddings, features, targets


def test_all_images_and_predictions_at_once_equal_one_after_the_other():
    logits, embeddings, features, targets = case()
    points = torch.rand(3, 2, 50, 2)
    matching = match(
        logits,
        embeddings,
        features,
        targets,
        num_points=50,
        draw=lambda *size, device=None: points.view(size),
    )
    assert matching.counts == (3, 0, 6)
    assert matching.images.tolist() == [0] * 3 + [2] * 6
    for layer in range(2):
        queries, chosen = [], []
        for image, target in enumerate(targets):
            at = points[image, layer][None]
            masks = (embeddings[layer, image] @ features[image].flatten(1)).unflatten(1, (8, 10))
            predicted = point_sample(masks[None], at)[0]
            labels = point_sample(target.masks[None].float(), at)[0]
            costs = torch.zeros(6, len(target.classes))
            for n in range(len(target.classes)):
                expanded = labels[n].expand(6, -1)
                cross = F.binary_cross_entropy_with_logits(predicted, expanded, reduction="none").mean(1)
                p = predicted.sigmoid()
                dice = 1 - (2 * (p * expanded).sum(1) + 1) / (p.sum(1) + expanded.sum(1) + 1)
                of_class = -logits[layer, image].softmax(-1)[:, target.classes[n]]
                costs[:, n] = 5 * cross + 5 * dice + 2 * of_class
            rows, columns = linear_sum_assignment(costs.numpy())
            queries += rows.tolist()
            chosen += (columns + sum(len(t.classes) for t in targets[:image])).tolist()
        assert matching.queries[layer].tolist() == queries
        assert matching.targets[layer].tolist() == chosen
    within = matching.targets_in_image([3, 0, 9])
    assert within[:, :3].max() < 3 and within[:, 3:].max() < 9 and within.min() == 0
    assert torch.equal(within[:, 3:] + 3, matching.targets[:, 3:])


def test_no_targets_at_all():
    logits, embeddings, features, targets = case(counts=(0, 0))
    matching = match(logits, embeddings, features, targets, num_points=10)
    assert matching.counts == (0, 0) and matching.queries.shape == matching.targets.shape == (2, 0)


def test_costs_that_are_not_finite():
    with pytest.raises(ValueError, match="not finite"):
        assign([torch.full((1, 2, 2), torch.nan)])


def test_golden_costs():
    """BalConpas 3b76142 mask2former/modeling/matcher.py@batch_sigmoid_ce_loss, batch_dice_loss."""
    logits, labels = wave((4, 50), 0.7, 0.3, 3).float(), (wave((3, 50), 1.3, -0.2, 1) > 0).float()
    cross, dice = mask_costs(logits, labels)
    assert cross.double().sum().item() == pytest.approx(13.762262463569641, rel=1e-6)
    assert cross[1].tolist() == pytest.approx(
        [1.1329914331436157, 1.0386062860488892, 1.13165283203125], rel=1e-6
    )
    assert dice.double().sum().item() == pytest.approx(5.782288074493408, rel=1e-6)
    assert dice[1].tolist() == pytest.approx(
        [0.47519415616989136, 0.45491844415664673, 0.5074658989906311], rel=1e-6
    )
    assert class_cost(torch.zeros(1, 4), torch.tensor([2, 1])).tolist() == [[-0.25, -0.25]]
