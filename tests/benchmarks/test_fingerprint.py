"""A stored step stands as long as nothing that it depends on has changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import fingerprint
from benchmarks.plan import make_run, open_benchmark
from benchmarks.run import Run
from methods.mib import MiB


def keys_after(tmp_path: Path, protocol: Path, change: Callable[[Run], Run] = lambda run: run) -> list[str]:
    fingerprint.of_samples.cache_clear()
    benchmark = open_benchmark(str(protocol), "semantic", None, tmp_path / "runs")
    return list(change(make_run(benchmark, MiB, "paper", 0, [])).step_keys.values())


def recipe(**values: float) -> Callable[[Run], Run]:
    return lambda run: dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, **values))


@pytest.mark.parametrize(
    ("change", "first_changed"),
    [
        (recipe(lr=0.1), 0),
        (recipe(crop=16), 0),
        (recipe(later_lr=0.1), 1),
        (recipe(later_iterations=7), 1),
        (lambda run: dataclasses.replace(run, seed=1), 0),
        (lambda run: dataclasses.replace(run, hyperparameters=MiB.Hyperparameters(kd_weight=3.0)), 1),
    ],
)
def test_keys_change_from_the_step_on_that_is_concerned(
    change: Callable[[Run], Run], first_changed: int, tmp_path: Path, tiny_protocol: Path
) -> None:
    before, after = keys_after(tmp_path, tiny_protocol), keys_after(tmp_path, tiny_protocol, change)
    assert [a == b for a, b in zip(before, after, strict=True)] == [i < first_changed for i in range(3)]


def test_another_mask_changes_the_keys(tmp_path: Path, tiny_protocol: Path) -> None:
    before = keys_after(tmp_path, tiny_protocol)
    mask = tmp_path / "tiny/masks/train_0.png"
    mask.write_bytes(mask.read_bytes() + b"\0")
    assert keys_after(tmp_path, tiny_protocol)[0] != before[0]


def test_another_reading_of_the_masks_changes_the_keys(tmp_path: Path, tiny_protocol: Path) -> None:
    before = keys_after(tmp_path, tiny_protocol)
    text = tiny_protocol.read_text()
    tiny_protocol.write_text(text.replace("background = true", "background = true\nignore = [0]"))
    assert keys_after(tmp_path, tiny_protocol)[0] != before[0]


def test_the_first_step_is_shared_between_protocols_with_the_same_one(tmp_path: Path) -> None:
    keys = {}
    for name in ("ade-100-50", "ade-100-10", "ade-50-50"):
        benchmark = open_benchmark(name, "semantic", None, tmp_path)
        keys[name] = make_run(benchmark, MiB, "mini", 0, []).step_keys[0]
    assert keys["ade-100-50"] == keys["ade-100-10"] != keys["ade-50-50"]


def test_the_data_may_move(tmp_path: Path, tiny_protocol: Path) -> None:
    before = keys_after(tmp_path, tiny_protocol)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "tiny").rename(moved / "tiny")
    tiny_protocol.rename(moved / tiny_protocol.name)
    assert keys_after(tmp_path, moved / tiny_protocol.name) == before


def test_comments_do_not_count_but_code_does(tmp_path: Path) -> None:
    files = {
        "plain": "x = 1\n",
        "commented": '"""Says much."""\n\n# and more\nx = 1\n',
        "other": "x = 2\n",
    }
    hashes = {}
    for name, text in files.items():
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        hashes[name] = fingerprint.of_code(path)
    assert hashes["plain"] == hashes["commented"] != hashes["other"]


def test_code_includes_the_modules_beside_a_method(tmp_path: Path) -> None:
    method, helper = tmp_path / "mine.py", tmp_path / "helper_of_mine.py"
    method.write_text("import helper_of_mine\n")
    helper.write_text("x = 1\n")
    fingerprint.of_code.cache_clear()
    before = fingerprint.of_code(method)
    helper.write_text("x = 2\n")
    fingerprint.of_code.cache_clear()
    assert fingerprint.of_code(method) != before


def test_code_includes_what_it_imports() -> None:
    files = {path.name for path in fingerprint._closure(fingerprint.REPOSITORY / "methods/mib.py")}
    assert {"mib.py", "deeplab.py", "segmentation.py", "resnet.py", "loading.py"} <= files
    assert "finetune.py" not in files
