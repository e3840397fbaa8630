"""CoMFormer on tiny images: what enters its losses, and its published settings."""

from __future__ import annotations

import pytest
import torch

from methods.comformer import CoMFormer
from methods.mask2former_recipe import Mask2FormerRecipe
from methods.networks.mask2former.soft_masks import SoftMemory
from protocols.names import parse
from protocols.segments import Segments
from tests.methods.teaching import SIDE, batch, rectangle, teach
from tests.methods.test_methods import built, train_a_little

PROTOCOL = parse("ade-100-10", "panoptic")


def in_second_step() -> CoMFormer:
    method = built(CoMFormer, PROTOCOL)
    assert isinstance(method, CoMFormer)
    for step in PROTOCOL.steps[:2]:
        method.begin_step(step, None)  # type: ignore[arg-type]
    return method


CORNER = Segments(torch.tensor([104]), rectangle(0, 16, 0, 16)[None])
NOTHING = Segments(torch.zeros(0, dtype=torch.int64), torch.zeros(0, SIDE, SIDE, dtype=torch.bool))


@pytest.mark.parametrize("images", [(CORNER, NOTHING), (NOTHING, NOTHING)], ids=["mixed", "no targets"])
def test_every_loss_and_gradient_is_finite(images: tuple[Segments, ...]) -> None:
    method = in_second_step()
    losses = train_a_little(method, batch(*images))
    assert set(losses) == {"class", "mask", "dice", "distillation"}
    assert all(loss.isfinite() for loss in losses.values())
    gradients = [p.grad for p in method.network.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert all(p.grad is None for p in method.teacher.parameters())  # type: ignore[union-attr]


def test_pseudo_labels_are_where_no_label_is() -> None:
    method = in_second_step()
    empty = (7, rectangle(0, 0, 0, 0))
    teach(method, (7, rectangle(0, 16, 0, 16)), (50, rectangle(16, 32, 0, 32)), empty, elsewhere=0.0)
    old = method.teacher_output(batch(CORNER, NOTHING).images)
    labelled, unlabelled = method.pseudo_labels(old, [CORNER, NOTHING])
    assert labelled.classes.tolist() == [50]
    assert unlabelled.classes.tolist() == [7, 50]
    assert not (labelled.masks & CORNER.masks).any()


def test_a_query_looks_where_half_of_the_pixel_is_its_own() -> None:
    masks = torch.tensor([[[2.0, 0.0], [0.0, 0.1], [-1.0, 0.0]]])  # one image, three queries, two places
    assert SoftMemory.inside(None, masks)[0].tolist() == [[True, False], [False, False], [False, False]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "task", "weight", "later", "batch_size"),
    [
        ("ade-100-50", "panoptic", 5.0, 20_000, 8),
        ("ade-100-10", "panoptic", 10.0, 4_000, 8),
        ("ade-100-5", "panoptic", 10.0, 2_000, 8),
        ("ade-100-50", "semantic", 0.5, 20_000, 16),
        ("ade-100-5", "semantic", 10.0, 2_000, 16),
    ],
)
def test_published_settings(name: str, task: str, weight: float, later: int, batch_size: int) -> None:
    protocol = parse(name, task)
    recipe = CoMFormer.default_recipe(protocol, "paper")
    assert isinstance(recipe, Mask2FormerRecipe)
    assert CoMFormer.default_hyperparameters(protocol, "paper").distillation_weight == weight
    assert (recipe.iterations, recipe.later_iterations, recipe.batch) == (160_000, later, batch_size)
    assert (recipe.lr, recipe.later_lr, recipe.class_weight) == (1e-4, 5e-5, 2.0)
    assert (recipe.object_threshold, recipe.overlap_threshold) == (0.0, 0.0)


def test_official_classes() -> None:
    """Officially ∅ has a layer of its own, `cls.0`."""
    method = in_second_step()
    ours = method.tensors()
    state = {("sem_seg_head." if name.startswith("predictor.") else "") + name: t for name, t in ours.items()}
    official = "sem_seg_head.predictor.class_embed.cls."
    for name in ("weight", "bias"):
        first = state.pop(f"sem_seg_head.predictor.class_embeds.0.{name}")
        state[f"{official}0.{name}"], state[f"{official}1.{name}"] = first[-1:], first[:-1]
        state[f"{official}2.{name}"] = state.pop(f"sem_seg_head.predictor.class_embeds.1.{name}")
    found = method.official_tensors(PROTOCOL.steps[1], state)
    assert found.keys() == ours.keys()
    assert all(torch.equal(found[name], ours[name]) for name in ours)
