import pytest
import torch

from methods.losses.balanced_classification import balanced_class_loss
from tests.golden import wave

# 2 predictions, 4 images, 6 queries, 5 classes: the classes of the matched queries of each image.
MATCHED = [{0: 3, 2: 4, 5: 1}, {1: 0, 3: 1}, {}, {4: 2, 5: 3}]
REPLAYED = {"none": [0, 0, 0, 0], "one": [0, 1, 0, 0], "two": [0, 1, 0, 1], "all": [1, 1, 1, 1]}


def loss_and_gradient(matched, replayed):
    logits = wave((2, 4, 6, 6), 0.7, 0.3, 2).requires_grad_()
    classes = torch.full((2, 4, 6), 5)
    for image, pairs in enumerate(matched):
        for query, found in pairs.items():
            classes[:, image, query] = found
    num_matched = torch.tensor([len(pairs) for pairs in matched])
    loss = balanced_class_loss(logits, classes, num_matched, torch.tensor(replayed) > 0)
    loss.sum().backward()
    return loss.tolist(), logits.grad.flatten(1).norm(dim=1).tolist()


# BalConpas@3b76142 mask2former/modeling/criterion.py@SetCriterion.loss_labels, in float32
@pytest.mark.parametrize(
    "replayed, values, norms",
    [
        ("none", [2.722095489, 2.635331392], [0.326196134, 0.318731427]),
        ("one", [2.725816488, 2.652358770], [0.327083558, 0.319717109]),
        ("two", [2.684773922, 2.613430262], [0.328619480, 0.321350873]),
        ("all", [2.240396738, 2.156323910], [0.322907776, 0.315511048]),
    ],
)
def test_golden(replayed, values, norms):
    found, gradients = loss_and_gradient(MATCHED, REPLAYED[replayed])
    assert found == pytest.approx(values, rel=2e-6)
    assert gradients == pytest.approx(norms, rel=2e-6)


def test_golden_a_matched_query_with_no_object_as_its_class():
    """What the leaked class of the next step gives: it counts as matched, and its loss weighs nothing."""
    matched = [MATCHED[0], {1: 0, 3: 5}, *MATCHED[2:]]
    found, gradients = loss_and_gradient(matched, REPLAYED["one"])
    assert found == pytest.approx([2.588845491, 2.538446903], rel=2e-6)
    assert gradients == pytest.approx([0.313555121, 0.308521360], rel=2e-6)


def test_golden_regular_images_without_an_unmatched_query():
    matched = [dict(enumerate([0, 1, 2, 3, 4, 0])), *MATCHED[1:]]
    found, gradients = loss_and_gradient(matched, [0, 1, 1, 1])
    assert found == pytest.approx([2.249923229, 2.170576096], rel=2e-6)
    assert gradients == pytest.approx([0.277545184, 0.271246374], rel=2e-6)


def test_no_targets_at_all_is_finite():
    for replayed in REPLAYED.values():
        values, gradients = loss_and_gradient([{}] * 4, replayed)
        assert torch.tensor(values + gradients).isfinite().all()


def test_the_no_object_class_of_a_replayed_image_has_no_gradient():
    logits = wave((1, 2, 3, 4), 0.7, 0.3, 2).requires_grad_()
    classes = torch.tensor([[[3, 3, 0], [3, 1, 3]]])
    balanced_class_loss(logits, classes, torch.tensor([1, 1]), torch.tensor([True, False])).sum().backward()
    assert logits.grad[0, 0, :2].eq(0).all() and logits.grad[0, 0, 2].ne(0).any()
    assert logits.grad[0, 1].ne(0).any(dim=-1).all()
