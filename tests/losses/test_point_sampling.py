import pytest
import torch

from methods.losses.point_sampling import point_sample, sample_binary, sample_features, uncertain_points
from tests.golden import scatter, wave


def test_points_outside_and_on_pixels():
    image = torch.arange(6.0).view(1, 1, 2, 3)
    points = torch.tensor([[[0.5 / 3, 0.25], [2.5 / 3, 0.75], [0.0, 0.0], [2.0, 0.5]]])
    assert point_sample(image + 1, points).flatten().tolist() == pytest.approx([1, 6, 0.25, 0])


def test_bool_masks_are_sampled_as_floats_are():
    torch.manual_seed(0)
    masks = torch.rand(5, 13, 17) > 0.5
    points = torch.rand(4, 200, 2)
    points[0, :3] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.999, 0.0]])
    rows = torch.tensor([4, 0, 0, 2])
    expected = point_sample(masks[rows, None].float(), points)[:, 0]
    torch.testing.assert_close(sample_binary(masks, points, (13, 17), rows), expected, atol=2e-6, rtol=0)
    expected = point_sample(masks[None].float(), points[:1])[0]
    torch.testing.assert_close(sample_binary(masks, points[0], (13, 17)), expected, atol=2e-6, rtol=0)
    padded = torch.nn.functional.pad(masks, (0, 3, 0, 7))
    expected = sample_binary(padded, points, (20, 20), rows)
    torch.testing.assert_close(sample_binary(masks, points, (20, 20), rows), expected)


def test_features_are_sampled_as_maps_are():
    torch.manual_seed(0)
    features, points = torch.randn(7, 5, 9), torch.rand(300, 2)
    points[:3] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.999, 0.0]])
    expected = point_sample(features[None], points[None])[0].T
    torch.testing.assert_close(sample_features(features, points), expected, atol=5e-6, rtol=0)


def test_uncertain_points_lie_where_logits_are_small():
    torch.manual_seed(0)
    columns = torch.linspace(-8, 8, 64).expand(2, 64, 64)
    points = uncertain_points(columns, 100)
    assert points.shape == (2, 100, 2)
    values = point_sample(columns[:, None], points)[:, 0].abs()
    assert values[:, :75].max() < 3 < values[:, 75:].max()


def test_what_is_drawn():
    sizes = []

    def draw(*size, device=None):
        sizes.append(size)
        return torch.rand(*size)

    uncertain_points(torch.randn(3, 4, 4), 8, draw=draw)
    assert sizes == [(3, 24, 2), (3, 2, 2)]


def test_golden_points():
    """detectron2 02b5c4e point_sample and get_uncertain_point_coords_with_randomness, points injected."""
    maps = wave((2, 3, 6, 5), 0.7, 0.3, 4).float()
    points = (scatter((2, 9, 2), 1) * 0.55 + 0.5).float()
    sampled = point_sample(maps, points)
    assert sampled.double().abs().sum().item() == pytest.approx(80.77006404474378, rel=1e-6)
    expected = [0.08866818994283676, -0.1544182449579239, -0.05970098450779915]
    assert sampled[1, 2, :3].tolist() == pytest.approx(expected, abs=1e-6)

    seeds = iter((1, 2))
    chosen = uncertain_points(
        maps[:, 0], 8, draw=lambda *size, device=None: (scatter(size, next(seeds)) / 2 + 0.5).float()
    )
    assert chosen.double().sum().item() == pytest.approx(15.470044076442719, rel=1e-6)
    assert chosen.double().square().sum().item() == pytest.approx(9.956137401871704, rel=1e-6)
