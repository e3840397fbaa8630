"""jinchaogjc/cit@11cd952 `EncoderDecoderCL.loss` with two frozen heads, of three and of four classes."""

import pytest
import torch
from torch import Tensor

from methods.losses.mask_distillation import mask_distillation, presence_distillation
from tests.golden import wave
from tests.networks.segvit.official import summary

SIZE = (12, 8)


def head(classes: int, a: float) -> tuple[Tensor, Tensor]:
    """Class logits (3, 2, C, 2) and mask logits (3, 2, C, 3, 2)."""
    return wave((3, 2, classes, 2), a, 0.2, 2), wave((3, 2, classes, 3, 2), a + 0.1, 0.3, 3)


def labelled() -> Tensor:
    places = torch.arange(2 * SIZE[0] * SIZE[1]).view(2, *SIZE)
    return (places * 7) % 11 < 4


@pytest.mark.parametrize(
    ("temperature", "presence", "masks", "gradients"),
    [
        (
            1.0,
            [4.952207859428296, 4.885930257827219, 4.822363887478282],
            [11.199342196211164, 9.685479234951366, 11.63783144769599],
            (0.18626641404337135, -0.0538967160614454),
        ),
        (
            2.0,
            [5.129092243762918, 4.973712751704985, 4.888480131070044],
            [11.39264311031094, 9.543046472558707, 12.027218297514317],
            (0.25634524569904416, -0.07888678387728396),
        ),
    ],
)
def test_official_distillation(
    temperature: float, presence: list[float], masks: list[float], gradients: tuple[float, float]
) -> None:
    """Official factors 5 and 10; the last prediction first becomes full-size logits there."""
    logits, mask_logits = (x.requires_grad_() for x in head(6, 0.7))
    (first_logits, first_masks), (second_logits, second_masks) = head(3, 0.9), head(4, 1.1)
    old_logits = torch.cat([first_logits, second_logits[:, :, 3:]], dim=2)
    old_masks = torch.cat([first_masks, second_masks[:, :, 3:]], dim=2)
    present = 5 * presence_distillation(logits[:, :, :4], old_logits, temperature)
    where = 10 * mask_distillation(mask_logits[:, :, :4], old_masks, labelled(), temperature)
    assert present.tolist() == pytest.approx(presence, rel=1e-10)
    assert where.tolist() == pytest.approx(masks, rel=1e-10)
    (present.sum() + where.sum()).backward()
    assert logits.grad is not None and mask_logits.grad is not None
    found = summary(logits.grad), summary(mask_logits.grad)
    assert found == pytest.approx(gradients, rel=1e-9)
