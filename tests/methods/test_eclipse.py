"""ECLIPSE on tiny images: what a step may change, and its published settings."""

from __future__ import annotations

import pytest
import torch

from methods.eclipse import Eclipse
from methods.mask2former_recipe import Mask2FormerRecipe
from protocols.names import parse
from tests.methods.test_methods import batch_of, built, train_a_little

PROTOCOL = parse("voc-15-5")


def in_second_step(**settings: float) -> Eclipse:
    method = built(Eclipse, PROTOCOL, prompts=6, **settings)
    assert isinstance(method, Eclipse)
    method.begin_step(PROTOCOL.steps[0], None)  # type: ignore[arg-type]
    train_a_little(method, batch_of(16))
    method.begin_step(PROTOCOL.steps[1], None)  # type: ignore[arg-type]
    return method


def test_a_later_step_changes_its_prompts_and_what_is_nothing() -> None:
    method = in_second_step()
    before = {name: tensor.clone() for name, tensor in method.tensors().items()}
    losses = train_a_little(method, batch_of(21))
    assert set(losses) == {"class", "mask", "dice"}
    changed = {name for name, tensor in method.tensors().items() if not torch.equal(tensor, before[name])}
    own = ("prompt_feat.0", "prompt_embed.0", "prompt_mask_embed.0", "class_embed.cls.0", "class_embed.cls.2")
    assert changed and all(name.startswith(tuple(f"predictor.{part}." for part in own)) for name in changed)
    assert all(any(f"predictor.{part}." in name for name in changed) for part in own)


def test_the_third_step_freezes_the_prompts_of_the_second() -> None:
    protocol = parse("voc-15-1")
    method = built(Eclipse, protocol)
    for step in protocol.steps[:3]:
        method.begin_step(step, None)  # type: ignore[arg-type]
    trained = {n for n, p in method.network.named_parameters() if p.requires_grad}
    assert any("prompt_feat.1." in name for name in trained)
    assert not any("prompt_feat.0." in name or "class_embed.cls.2." in name for name in trained)


def test_old_queries_say_old_classes_as_sure_as_before() -> None:
    """Whatever the prompts learn, the first step's queries keep their masks and scores of their classes."""
    method = in_second_step()
    images = torch.randn(2, 3, 32, 32)
    method.network.eval()
    before = method.class_scores(method.network(images).logits)[:, :5, :15]
    for seed in range(2):
        train_a_little(method, batch_of(21, seed))
    method.network.eval()
    after = method.class_scores(method.network(images).logits)
    assert torch.equal(after[:, :5, :15], before)
    assert (after[:, :5, 15:20] < 1e-4).all() and (after[:, 5:, :15] < 1e-4).all()


def test_the_first_step_is_not_manipulated() -> None:
    method = built(Eclipse, PROTOCOL)
    assert isinstance(method, Eclipse)
    method.begin_step(PROTOCOL.steps[0], None)  # type: ignore[arg-type]
    logits = torch.randn(5, 16)
    assert torch.equal(method.class_scores(logits), logits.sigmoid())


def test_classes_start_from_the_prior() -> None:
    method = built(Eclipse, PROTOCOL, class_prior=0.01)
    assert isinstance(method, Eclipse)
    nothing, classes = (head.layers[-1].bias for head in method.network.predictor.class_embed.heads)
    torch.testing.assert_close(classes.sigmoid(), torch.full((15,), 0.01))  # type: ignore[operator]
    assert not torch.allclose(nothing.sigmoid(), torch.tensor([0.01]))  # type: ignore[operator]


@pytest.mark.parametrize("settings", [{"prompts": 0}, {"class_prior": 1.0}])
def test_impossible_values_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"eclipse: {next(iter(settings))} = "):
        Eclipse.Hyperparameters(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "task", "prompts", "deltas", "iterations", "later", "lr"),
    [
        ("ade-100-5", "panoptic", 10, (0.4, 0.6), 160_000, 12_000, 5e-4),
        ("ade-100-10", "panoptic", 10, (0.4, 0.5), 160_000, 16_000, 5e-4),
        ("ade-100-50", "panoptic", 50, (-0.4, -0.6), 160_000, 80_000, 5e-4),
        ("ade-50-10", "panoptic", 10, (0.4, 0.5), 80_000, 24_000, 5e-4),
        ("ade-50-20", "panoptic", 20, (0.4, 0.5), 80_000, 32_000, 5e-4),
        ("ade-50-50", "panoptic", 50, (0.5, -0.4), 80_000, 120_000, 5e-4),
        ("ade-100-5", "semantic", 5, (0.1, 0.8), 160_000, 12_000, 1e-3),
        ("ade-100-10", "semantic", 10, (0.1, 0.7), 160_000, 24_000, 1e-3),
        ("ade-100-50", "semantic", 50, (0.0, -0.1), 160_000, 120_000, 1e-3),
    ],
)
def test_published_settings(name, task, prompts, deltas, iterations, later, lr) -> None:  # type: ignore[no-untyped-def]
    protocol = parse(name, task)
    recipe = Eclipse.default_recipe(protocol, "paper")
    values = Eclipse.default_hyperparameters(protocol, "paper")
    assert isinstance(recipe, Mask2FormerRecipe)
    assert (values.prompts, (values.first_delta, values.later_delta)) == (prompts, deltas)
    assert (recipe.iterations, recipe.later_iterations, recipe.later_lr) == (iterations, later, lr)
    assert recipe.num_queries == (50 if "-50-" in name else 100)
    assert recipe.batch == (8 if task == "panoptic" else 16)
    assert values.later_class_weight == 10.0 and recipe.class_weight == 2.0


def test_official_names() -> None:
    method = in_second_step()
    ours = method.tensors()
    state = {("sem_seg_head." if name.startswith("p") else "") + name: t for name, t in ours.items()}
    assert "sem_seg_head.predictor.prompt_embed.0.1.weight" in state
    assert "sem_seg_head.predictor.class_embed.cls.2.layers.2.bias" in state
    state["criterion.empty_weight"] = torch.ones(3)
    assert method.official_tensors(PROTOCOL.steps[1], state).keys() == ours.keys()
