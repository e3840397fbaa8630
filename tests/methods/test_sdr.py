"""SDR: what its prototypes are made of from step to step, and what each protocol gives it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.cli import main
from methods.finetune import FineTune
from methods.losses.prototypes import Layout
from methods.method import MethodClass
from methods.sdr import SDR, SDRFixed
from protocols.loading import Batch
from protocols.names import parse
from reports.record import read
from tests.benchmarks.tiny import write_tiny_protocol
from tests.methods.test_methods import TwoBatches, batch_of, built, train_a_little

VARIANTS: list[MethodClass] = [SDR, SDRFixed]
both = pytest.mark.parametrize("method", VARIANTS, ids=lambda m: m.key)


def after_first_step(method: MethodClass, name: str = "voc-15-5", num_classes: int = 10) -> SDR:
    protocol = parse(name)
    instance = built(method, protocol)
    assert isinstance(instance, SDR)
    instance.begin_step(protocol.steps[0], TwoBatches())  # type: ignore[arg-type]
    for seed in range(2):
        train_a_little(instance, batch_of(num_classes, seed))
    instance.end_step(protocol.steps[0], TwoBatches())  # type: ignore[arg-type]
    return instance


def later_batch() -> Batch:
    """Background and two new classes."""
    batch = batch_of(3, 5)
    new = (batch.labels > 0) & (batch.labels < 3)
    return Batch(batch.images, torch.where(new, batch.labels + 15, batch.labels))


def test_the_first_step_is_that_of_finetune_with_prototypes() -> None:
    sdr, fixed = after_first_step(SDR), after_first_step(SDRFixed)
    finetune = built(FineTune, parse("voc-15-5"))
    finetune.begin_step(parse("voc-15-5").steps[0], TwoBatches())  # type: ignore[arg-type]
    for seed in range(2):
        train_a_little(finetune, batch_of(10, seed))
    tensors, others = sdr.tensors(), fixed.tensors()
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    network = finetune.tensors()
    assert all(torch.equal(tensors[name], network[name]) for name in network)
    assert tensors.keys() - network.keys() == {"prototypes.rows", "prototypes.true", "prototypes.counts"}
    torch.testing.assert_close(tensors["prototypes.rows"].sum(), tensors["prototypes.true"].sum())
    assert not torch.equal(tensors["prototypes.rows"], tensors["prototypes.true"])


@pytest.mark.parametrize(("name", "counted"), [("voc-15-5", False), ("voc-15-5-disjoint", True)])
def test_the_background_has_a_prototype_where_it_hides_nothing(name: str, counted: bool) -> None:
    sdr = after_first_step(SDR, name)
    assert (sdr.counts[0] > 0) == counted
    assert bool(sdr.prototypes[Layout.ROWS][0].any()) == counted
    assert (sdr.counts[1:10] > 0).all() and not sdr.counts[10:].any()


@both
def test_later_steps_move_the_prototypes_of_new_classes_alone(method: MethodClass) -> None:
    sdr = after_first_step(method, "voc-15-5-disjoint")
    protocol = parse("voc-15-5-disjoint")
    sdr.begin_step(protocol.steps[1], TwoBatches())  # type: ignore[arg-type]
    (layout,) = sdr.prototypes
    assert layout is (Layout.ROWS if method is SDR else Layout.TRUE)
    before, counts = sdr.prototypes[layout].clone(), sdr.counts.clone()
    assert before.shape == (21, 192) and not before[16:].any()
    losses = train_a_little(sdr, later_batch())
    assert {"matching", "attraction", "repulsion", "sparsity"} <= losses.keys()
    assert all(loss > 0 for loss in losses.values())
    assert torch.equal(sdr.prototypes[layout][:16], before[:16])
    assert torch.equal(sdr.counts[:16], counts[:16])
    assert sdr.counts.nonzero().flatten().tolist()[-2:] == [16, 17]


@both
def test_prototypes_outlive_a_step_in_the_store(method: MethodClass) -> None:
    protocol = parse("voc-15-5")
    sdr = after_first_step(SDR)
    restored = built(method, protocol)
    assert isinstance(restored, SDR)
    restored.restore(protocol.steps[0], {name: t.clone() for name, t in sdr.tensors().items()})
    restored.begin_step(protocol.steps[1], TwoBatches())  # type: ignore[arg-type]
    (layout,) = restored.prototypes
    assert torch.equal(restored.prototypes[layout][:16], sdr.prototypes[layout])
    assert restored.counts.tolist() == [*sdr.counts.tolist(), 0, 0, 0, 0, 0]


def test_domains_have_prototypes_of_all_classes() -> None:
    """No label hides another: all classes are gathered and matched in every step."""
    protocol = parse("cityscapes-domain-11-5")
    sdr = after_first_step(SDR, "cityscapes-domain-11-5", 19)
    before = sdr.counts.clone()
    sdr.begin_step(protocol.steps[1], TwoBatches())  # type: ignore[arg-type]
    losses = train_a_little(sdr, batch_of(19, 3))
    assert (sdr.counts > before).all() and len(sdr.counts) == 19
    assert losses["matching"] > 0


def test_both_rows_train_their_first_step_once(tmp_path: Path) -> None:
    protocol = write_tiny_protocol(tmp_path)
    options = ["--runs", str(tmp_path / "runs"), "--device", "cpu"]
    assert main(["--protocol", str(protocol), "--methods", "sdr,sdr-fixed", *options]) == 0
    records = tmp_path / "runs/records/tiny-2-1"
    assert read(records / "sdr/seed-0.json").steps[0].trained_by == "sdr/seed-0"
    assert read(records / "sdr-fixed/seed-0.json").steps[0].trained_by == "sdr/seed-0"


def test_a_network_without_prototypes_can_be_evaluated_only() -> None:
    sdr = after_first_step(SDR)
    network = {name: t for name, t in sdr.tensors().items() if not name.startswith(SDR.carried)}
    step = parse("voc-15-5").steps[0]
    assert sdr.lacks(step, network) and not sdr.lacks(step, sdr.tensors())
    restored = built(SDR, parse("voc-15-5"))
    restored.restore(step, network)
    restored.network.eval()
    assert restored.predict(torch.zeros(1, 3, 32, 32)).shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("name", "batch", "lr", "later_lr", "later_epochs"),
    [
        ("voc-19-1", 8, 1e-3, 1e-4, 30),
        ("voc-10-1", 8, 1e-3, 1e-4, 30),
        ("ade-100-10", 4, 1e-2, 1e-3, 60),
        ("cityscapes-domain-11-5", 24, 1e-2, 1e-3, 50),
    ],
)
def test_published_schedules(name: str, batch: int, lr: float, later_lr: float, later_epochs: int) -> None:
    recipe = SDR.default_recipe(parse(name), "paper")
    assert (recipe.batch, recipe.lr, recipe.later_lr, recipe.later_epochs) == (
        batch,
        lr,
        later_lr,
        later_epochs,
    )
