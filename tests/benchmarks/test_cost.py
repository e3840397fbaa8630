"""What sharing saves, on a protocol whose numbers are counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cost import Amount, cost_of, cost_text
from benchmarks.plan import make_run, open_benchmark
from benchmarks.run import Run
from benchmarks.settings import Setting
from benchmarks.store import Store
from methods.registry import find_methods

METHODS = "finetune,lwf,mib,joint"


@pytest.fixture
def runs(tiny_protocol: Path, tmp_path: Path) -> list[Run]:
    """Batches of 4 images; first steps of 100 iterations, later ones of 30; two divisions of four classes."""
    other = tiny_protocol.with_name("tiny-2-2.toml")
    text = tiny_protocol.read_text().replace('["blue"], ["yellow"]', '["blue", "yellow"]')
    other.write_text(text.replace('"tiny-2-1"', '"tiny-2-2"'))
    settings = [Setting.parse(f"recipe.{s}") for s in ("iterations=100", "later_iterations=30")]
    benchmarks = [open_benchmark(str(p), "semantic", None, tmp_path / "runs") for p in (tiny_protocol, other)]
    return [
        make_run(benchmark, method, "mini", 0, settings)
        for benchmark in benchmarks
        for method in find_methods(METHODS, "semantic")
    ]


def test_alone_and_shared(runs: list[Run], tmp_path: Path) -> None:
    """Three methods of 3 and of 2 steps: 3 (100 + 30 + 30) + 3 (100 + 30). Joint: 100 in each protocol.

    Their first steps are one, in both protocols: 100 + 3 (30 + 30) + 3 30. Joint training, which does not see
    the steps, is one too.
    """
    cost = cost_of(runs, Store(tmp_path / "store"))
    assert cost.alone == Amount(3 * 160 + 3 * 130 + 2 * 100, 4 * (3 * 160 + 3 * 130 + 2 * 100))
    assert cost.shared.iterations == 100 + 3 * 60 + 3 * 30 + 100
    assert cost.missing == cost.shared
    assert (cost.steps, cost.trained) == (3 * 3 + 3 * 2 + 2, 1 + 3 * 2 + 3 * 1 + 1)


def test_the_text(runs: list[Run], tmp_path: Path) -> None:
    """Three methods of one protocol: 480 iterations alone, 280 here."""
    text = cost_text(runs[:3], Store(tmp_path / "store"))
    assert text.splitlines() == [
        "every script by itself: 9 steps, 480 iterations, 1,920 images",
        "here, each step once:   7 steps, 280 iterations, 1,120 images",
        "sharing saves:          2 steps, 200 iterations, 800 images (41.7 % and 41.7 %)",
        "still to be trained:    280 iterations, 1,120 images",
    ]


def test_what_is_stored_is_not_still_to_be_trained(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    stored = runs[0].step_keys[0]
    monkeypatch.setattr(store, "has", lambda key: key == stored)
    cost = cost_of(runs[:3], store)
    assert (cost.shared.iterations, cost.missing.iterations) == (280, 180)
