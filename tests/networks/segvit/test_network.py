import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from methods.networks.segvit import SegViT, SegViTConfig
from methods.networks.segvit.inference import slide, window_starts


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("backbone", "crop", "classes", "shrinks", "encoder", "head", "giga"),
    [
        ("vit-base", 512, 150, False, 86_433_024, 22_303_255, 120.9),
        ("vit-large", 640, 150, False, 304_737_280, 39_568_023, 637.9),
        ("vit-large", 512, 171, False, 304_147_456, 39_589_548, 383.9),
        ("vit-large", 480, 60, False, 304_020_480, 39_475_773, 321.7),
        ("vit-large", 480, 59, False, 304_020_480, 39_474_748, 321.6),
        ("vit-large", 640, 150, True, 304_737_280, 39_861_399, 373.5),
        ("vit-large", 512, 171, True, 304_147_456, 39_588_012, 224.8),
        ("vit-large", 480, 60, True, 304_020_480, 39_410_749, 186.9),
    ],
)
def test_published_size_and_cost(
    backbone: str, crop: int, classes: int, shrinks: bool, encoder: int, head: int, giga: float
) -> None:
    """Parameters of the official models, multiply-adds of its README with those of the score map.

    The README's also count normalisation (0.1 %); our masks are a product of their own (0.1 %).
    """
    config = SegViTConfig(backbone, crop, shrinks, self_attention=True, shared_classifier=False)
    with torch.device("meta"):
        network = SegViT(config, classes).eval().requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, crop, crop))
    assert (size(network.encoder), size(network.heads)) == (encoder, head)
    scores = (classes * crop) ** 2
    assert (counter.get_total_flops() / 2 + scores) / 1e9 == pytest.approx(giga, rel=2e-3)


def test_a_step_costs_a_head() -> None:
    """16.86 M + 384 a class for Base with version 2's head; 22.19 M + 769 a class with version 1's."""
    with torch.device("meta"):
        new, old = SegViTConfig(), SegViTConfig(self_attention=True, shared_classifier=False)
        sizes = [[size(SegViT(c, n).newest) for n in (150, 151)] for c in (new, old)]
    assert sizes == [[16_916_738, 16_917_122], [22_303_255, 22_304_024]]


def mini(**options: bool) -> SegViT:
    torch.manual_seed(0)
    return SegViT(SegViTConfig("vit-mini", 32, **options), 4).eval()


@pytest.mark.parametrize("shrinks", [False, True])
@pytest.mark.parametrize("version_1", [False, True])
def test_old_scores_stay_bit_identical(shrinks: bool, version_1: bool) -> None:
    network = mini(shrinks=shrinks, self_attention=version_1, shared_classifier=not version_1)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = network.scores(images)
        for classes in (2, 3):
            network.add_head(classes)
            network.eval()
        after = network.scores(images)
    assert after.shape == (2, 9, 32, 32) and network.num_classes == 9
    assert torch.equal(after[:, :4], before)


def test_scores_of_images_that_need_padding() -> None:
    network = mini()
    assert network.scores(torch.randn(1, 3, 30, 45)).shape == (1, 4, 30, 45)


def test_frozen_parts_stay_in_eval_mode() -> None:
    network = mini().requires_grad_(False)
    network.add_head(2)
    network.train()
    assert network.newest.training
    assert not network.encoder.training and not any(m.training for m in network.heads[0].modules())


@pytest.mark.parametrize(
    "options", [{}, {"shrinks": True}, {"self_attention": True, "shared_classifier": False}]
)
def test_every_parameter_learns(options: dict[str, bool]) -> None:
    network = mini(**options)
    output = network(torch.randn(2, 3, 32, 32))
    (output.logits.square().sum() + output.masks.square().sum()).backward()
    still = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == {"encoder.cls_token"}
    assert not network.encoder.pos_embed.grad[:, 0].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vit-bas"}, "did you mean vit-base"),
        ({"backbone": "beitv2-base", "shrinks": True}, "no shrunk variant"),
        ({"head_layers": 0}, "head_layers"),
    ],
)
def test_mistakes_in_sizes(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegViTConfig(**options)  # type: ignore[arg-type]


def test_windows_of_the_published_test() -> None:
    """mmsegmentation 0.24.0 on 640 x 853 with windows of 640 and stride 608, and on 512 x 683 with 341."""
    assert (window_starts(640, 640, 608), window_starts(853, 640, 608)) == ([0], [0, 213])
    assert window_starts(683, 512, 341) == [0, 171]
    assert window_starts(1200, 512, 341) == [0, 341, 682, 688]
    assert window_starts(300, 512, 341) == [0]


def test_sliding_takes_the_mean_where_windows_overlap() -> None:
    image = torch.rand(1, 3, 8, 11)
    seen: list[tuple[int, ...]] = []

    def scores_of(part: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(part.shape[2:]))
        return part + len(seen)

    total = slide(scores_of, image, 8, 5)
    assert seen == [(8, 8), (8, 8)]
    expected = torch.full((11,), 1.5)
    expected[:3], expected[8:] = 1, 2
    torch.testing.assert_close(total, image + expected)
    assert slide(lambda part: part, image, 0, 5) is image
