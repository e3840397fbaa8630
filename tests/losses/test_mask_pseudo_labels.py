import pytest
import torch
import torch.nn.functional as F

from methods.losses.mask_pseudo_labels import merge_classes, pseudo_segments, uncovered_segments
from protocols.segments import Segments
from tests.golden import wave

SIZE = (24, 20)
POSITIONS = (torch.arange(24 * 20) % 97 + 1).view(SIZE)


def masks() -> torch.Tensor:
    """(3, 10, 6, 5) mask logits: ten hills, which overlap, with a ripple on them."""
    query = torch.arange(10)
    row, column = ((step * query) % size for step, size in ((7, 6), (3, 5)))
    distance = (torch.arange(6.0)[:, None] - row[:, None, None]) ** 2
    distance = distance + (torch.arange(5.0) - column[:, None, None]) ** 2
    return (3 - 1.5 * distance.double() + wave((3, 10, 6, 5), 0.37, 0.1, 1)).float()


def labelled() -> torch.Tensor:
    covered = torch.zeros(SIZE, dtype=torch.bool)
    covered[:8, :10] = covered[5:12, 15:] = True
    return covered


def summary(segments: Segments) -> tuple[list[int], list[int], list[int]]:
    """Classes, areas, and sums over the masks of the pixels' positions (modulo 97)."""
    areas = [m.sum((1, 2)).tolist() for m in (segments.masks, segments.masks * POSITIONS)]
    return segments.classes.tolist(), areas[0], areas[1]


def official_case(image: int, overlap: float = 0.8) -> Segments:
    """Image 0 has two labelled segments, image 1 the same but is replayed, image 2 has none."""
    scores, classes = wave((3, 10, 5), 0.9, 0.2, 3).float()[image].softmax(-1).max(-1)
    kept = classes != 4
    covered = labelled() if image == 0 else None
    return pseudo_segments(scores[kept], classes[kept], masks()[image][kept], SIZE, covered, overlap)


# BalConpas@3b76142 mask2former/maskformer_model.py@MaskFormer.generate_psd_targets
@pytest.mark.parametrize(
    "image, overlap, expected",
    [
        (0, 0.8, ([0, 2], [61, 85], [2825, 4307])),
        (1, 0.8, ([0, 0, 3, 1], [58, 89, 37, 76], [2908, 4214, 2077, 3784])),
        (2, 0.8, ([0, 1, 2], [80, 51, 44], [3897, 2399, 2435])),
        (0, 0.2, ([0, 3, 1, 0, 2], [61, 14, 28, 32, 85], [2825, 811, 1651, 1457, 4307])),
        (
            2,
            0.2,
            ([0, 0, 0, 3, 1, 2, 1], [32, 80, 63, 54, 51, 44, 67], [1185, 3897, 3239, 2642, 2399, 2435, 3093]),
        ),
    ],
)
def test_golden_pseudo_segments(image, overlap, expected):
    assert summary(official_case(image, overlap)) == expected


def simcis_case(image: int, threshold: float, sharpened: bool, overlap: float) -> Segments:
    probabilities = wave((3, 10, 8), 0.9, 0.2, 3).float()[image].sigmoid()
    scores, classes = probabilities.max(-1)
    kept = (classes != 4) & (scores > threshold)
    if sharpened:
        scores = (probabilities / 0.06).softmax(-1).amax(-1)
    covered = labelled() if image < 2 else None
    return pseudo_segments(scores[kept], classes[kept], masks()[image][kept], SIZE, covered, overlap)


# SimCIS@28bc91e, the same function, with and without `combine_psdlabel`
@pytest.mark.parametrize(
    "image, expected",
    [
        (0, ([2, 3], [59, 50], [2710, 2890])),
        (1, ([1, 6], [75, 49], [3904, 2368])),
        (2, ([5, 3, 2], [91, 65, 77], [4681, 2853, 3770])),
    ],
)
def test_golden_simcis(image, expected):
    assert summary(simcis_case(image, 0.35, True, 0.8)) == expected


@pytest.mark.parametrize(
    "image, expected",
    [
        (0, ([2, 3, 5, 6, 7], [30, 49, 40, 122, 46], [1065, 2814, 2048, 6437, 2667])),
        (1, ([1, 2, 3, 6, 7], [70, 43, 99, 50, 37], [3638, 2196, 5384, 2439, 2077])),
        (
            2,
            (
                [0, 1, 2, 3, 5, 6, 7],
                [61, 63, 81, 56, 56, 35, 40],
                [2976, 2734, 3380, 2682, 2998, 1736, 1995],
            ),
        ),
    ],
)
def test_golden_merged_classes(image, expected):
    assert summary(merge_classes(simcis_case(image, 0.0, False, 0.2))) == expected


def test_nothing_predicted_gives_no_segments():
    none = torch.zeros(0)
    segments = pseudo_segments(none, none.long(), torch.zeros(0, 6, 5), SIZE, labelled())
    assert segments.masks.shape == (0, *SIZE) and segments.masks.dtype == torch.bool
    merged = merge_classes(segments)
    assert merged.masks.shape == (0, *SIZE) and merged.classes.dtype == torch.int64


def test_everything_labelled_gives_no_segments():
    scores, classes = torch.rand(10), torch.arange(10)
    assert not len(
        pseudo_segments(scores, classes, masks()[0], SIZE, torch.ones(SIZE, dtype=torch.bool)).classes
    )


def test_no_gradient_and_half_precision():
    scores, classes = torch.rand(10), torch.arange(10)
    logits = masks()[0].requires_grad_()
    assert not pseudo_segments(scores, classes, logits, SIZE).masks.requires_grad
    assert len(pseudo_segments(scores.bfloat16(), classes, logits.bfloat16(), SIZE).classes)


def test_golden_uncovered_segments():
    # CoMFormer@640496b continual/method_wrapper/maskformer.py@make_pseudolabels2, three old classes
    scores, classes = wave((1, 6, 4), 1.1, -0.2, 2).float()[0].softmax(-1).max(-1)
    logits = 3 * wave((1, 6, 8, 10), 0.13, 0.2, 2).float() + wave((1, 6, 1, 1), 1.7, 0, 1).float()
    shares = F.interpolate(logits, (32, 40), mode="bilinear", align_corners=False)[0].softmax(dim=0)
    covered = torch.zeros(32, 40, dtype=torch.bool)
    covered[:10, :22] = True
    said = classes != 3
    found = uncovered_segments(scores[said], classes[said], shares[said], covered)
    assert found.classes.tolist() == [2, 0]
    assert found.masks.sum((1, 2)).tolist() == [287, 203]
    positions = (found.masks * wave((32, 40), 0.3, 0, 1)).sum((1, 2)).tolist()
    assert positions == pytest.approx([-10.341744754802438, 20.61282427122254], abs=1e-9)


def test_nobody_says_anything():
    nothing = torch.zeros(0, dtype=torch.int64)
    found = uncovered_segments(
        torch.zeros(0), nothing, torch.zeros(0, 4, 6), torch.zeros(4, 6, dtype=torch.bool)
    )
    assert found.classes.shape == (0,) and found.masks.shape == (0, 4, 6)
