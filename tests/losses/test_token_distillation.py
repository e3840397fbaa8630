import pytest
import torch

from methods.losses.token_distillation import token_distillation
from tests.golden import wave


def case():
    """3 predictions, 3 images, 6 queries, 8 channels; 3, 1 and 0 queries are chosen."""
    tokens = wave((3, 3, 6, 8), 0.7, 0.3, 2).requires_grad_()
    chosen = torch.zeros(3, 6, dtype=torch.bool)
    chosen[0, [2, 5]] = chosen[1, 4] = True
    return tokens, wave((3, 3, 6, 8), 1.1, -0.2, 2), chosen


def test_golden():
    """BalConpas@3b76142 mask2former/modeling/criterion.py@SetCriterion.forward, in float32.

    Of image 0 two queries are matched with pseudo-labels, of image 1, replayed, one with its first label.
    """
    tokens, old_tokens, chosen = case()
    loss = token_distillation(tokens, old_tokens, chosen)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([3.510730028, 4.777748585, 4.915122986], rel=1e-6)
    assert tokens.grad.norm().item() == pytest.approx(1.483442068, rel=1e-6)


def test_nothing_chosen_is_zero_with_zero_gradients():
    tokens, old_tokens, chosen = case()
    loss = token_distillation(tokens, old_tokens, torch.zeros_like(chosen))
    loss.sum().backward()
    assert loss.tolist() == [0, 0, 0]
    assert tokens.grad.eq(0).all()


def test_is_the_mean_over_queries_and_channels():
    tokens, old_tokens, chosen = case()
    expected = (tokens - old_tokens)[:, chosen].square().mean((1, 2))
    torch.testing.assert_close(token_distillation(tokens, old_tokens, chosen), expected)
    assert token_distillation(tokens.bfloat16(), old_tokens.bfloat16(), chosen).dtype == torch.float32
