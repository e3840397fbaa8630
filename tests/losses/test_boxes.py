import pytest
import torch

from methods.losses.boxes import box_costs, box_losses, boxes_of_masks, corners, generalized_iou
from tests.golden import wave


def pairs():
    """Six predicted boxes, and six targets of which the third is that of an empty mask."""
    targets = wave((6, 4), 1.3, 0.5, 1).sigmoid()
    targets[2] = 0
    return wave((6, 4), 0.9, 0.1, 1).sigmoid(), targets


def test_golden_losses():
    # SimCIS@28bc91e modeling/criterion.py@SetCriterion.loss_bboxes_panoptic
    boxes, targets = pairs()
    boxes.requires_grad_()
    distance, overlap = box_losses(torch.stack([boxes, boxes]), torch.stack([targets, targets]), 3.0)
    (distance + overlap)[1].backward()
    assert distance.tolist() == pytest.approx([2.000006234527] * 2, abs=1e-9)
    assert overlap.tolist() == pytest.approx([2.045808184678] * 2, abs=1e-9)
    assert boxes.grad.norm().item() == pytest.approx(2.809708974360, abs=1e-9)


def test_golden_pairwise_generalised_iou():
    # SimCIS@28bc91e utils/box_ops.py@generalized_box_iou
    boxes, targets = pairs()
    distances, costs = box_costs(boxes, targets)
    pairwise = -costs
    assert pairwise.sum().item() == pytest.approx(-0.699749289898, abs=1e-9)
    assert (pairwise * wave((6, 6), 0.3, 0, 1)).sum().item() == pytest.approx(-0.414192105015, abs=1e-9)
    torch.testing.assert_close(distances, torch.cdist(boxes, targets, p=1))


def test_golden_boxes_of_masks():
    # detectron2@02b5c4e BitMasks.get_bounding_boxes, SimCIS@28bc91e utils/box_ops.py@box_xyxy_to_cxcywh
    masks = torch.zeros(4, 6, 9, dtype=torch.bool)
    masks[0, 1:4, 2:7] = True
    masks[1, 5, 8] = True
    masks[3] = wave((6, 9), 0.5, 1, 1) > 0.3
    masks[3, 0] = False
    expected = [
        [0.5, 0.4166666567325592, 0.5555555820465088, 0.5],
        [0.9444444179534912, 0.9166666865348816, 0.1111111119389534, 0.1666666716337204],
        [0.0, 0.0, 0.0, 0.0],
        [0.5, 0.5833333134651184, 1.0, 0.8333333134651184],
    ]
    torch.testing.assert_close(boxes_of_masks(masks), torch.tensor(expected), atol=1e-7, rtol=0)


@pytest.mark.parametrize("shape", [(0, 6, 9), (3, 0, 9), (0, 0, 0)])
def test_no_masks_or_no_pixels(shape):
    boxes = boxes_of_masks(torch.zeros(shape, dtype=torch.bool))
    assert boxes.shape == (shape[0], 4)
    assert not boxes.any()


def test_identical_boxes_have_a_generalised_iou_of_one():
    box = torch.tensor([[0.5, 0.5, 0.4, 0.2]])
    assert generalized_iou(box, box).item() == pytest.approx(1, abs=2e-5)  # 1e-6 in the denominators
    torch.testing.assert_close(corners(box), torch.tensor([[0.3, 0.4, 0.7, 0.6]]))
