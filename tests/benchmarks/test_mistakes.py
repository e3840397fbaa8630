"""Each mistake that a user can make at the command line ends in one line: what, its value, the remedy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.cli import main

Capture = pytest.CaptureFixture[str]


def error_of(arguments: list[str], capsys: Capture) -> str:
    """The one line on stderr of a command that must fail with status 2."""
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def command(tiny_protocol: Path, tmp_path: Path) -> list[str]:
    return ["--protocol", str(tiny_protocol), "--methods", "finetune", "--runs", str(tmp_path / "runs")]


@pytest.mark.parametrize(
    ("name", "says"),
    [("vco-15-1", "voc-15-1"), ("vco-15-1", "ls protocols"), ("voc-15-11", "choose another increment")],
)
def test_unknown_protocol(name: str, says: str, tmp_path: Path, capsys: Capture) -> None:
    error = error_of(["--protocol", name, "--methods", "mib", "--runs", str(tmp_path)], capsys)
    assert name in error
    assert says in error


def test_unknown_method_names_the_nearest(command: list[str], capsys: Capture) -> None:
    command[3] = "mibb"
    error = error_of(command, capsys)
    assert "'mibb'" in error
    assert "did you mean mib?" in error


def test_epochs_without_effect(command: list[str], capsys: Capture) -> None:
    command[1] = "voc-15-5"
    error = error_of([*command, "--set", "recipe.later_epochs=1", "--scale", "mini", "--dry-run"], capsys)
    assert "--set recipe.later_epochs: has no effect, this recipe counts later_iterations = 30" in error


def test_epochs_of_a_method_are_its_own(command: list[str], tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from dataclasses import dataclass\n"
        "from methods.finetune import FineTune\n\n"
        "class Mine(FineTune):\n"
        "    key = 'mine'\n\n"
        "    @dataclass(frozen=True)\n"
        "    class Hyperparameters:\n"
        "        epochs: int = 3\n"
    )
    command[1], command[3] = "voc-15-5", str(own)
    assert main([*command, "--set", "mine.epochs=1", "--scale", "mini", "--dry-run"]) == 0


def test_missing_method_file(command: list[str], capsys: Capture) -> None:
    command[3] = "nowhere/mine.py"
    assert "nowhere/mine.py: no such method file" in error_of(command, capsys)


def test_method_file_with_a_syntax_error(command: list[str], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "bad.py").write_text("def f(:\n    pass\n")
    command[3] = str(tmp_path / "bad.py")
    error = error_of(command, capsys)
    assert "bad.py, line 1: SyntaxError" in error
    assert "mend the method file" in error


def test_method_file_without_a_method(command: list[str], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n")
    command[3] = str(tmp_path / "empty.py")
    assert "defines no subclass of methods.method.Method" in error_of(command, capsys)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("kd_weight=3", "write method.parameter=value"),
        ("mib.kd_weight=3", "no method 'mib' in this run"),
        ("finetune.kd_weight=3", "unknown parameter 'kd_weight'"),
        ("recipe.bacth=3", "did you mean batch"),
        ("recipe.batch=many", "batch = 'many' must be of type int"),
        ("recipe.batch=0", "batch = 0 must be above 0"),
        ("recipe.lr=Infinity", "lr = inf must be a finite number"),
        ("recipe.lr=1" + "0" * 400, "0... must be a finite number"),
        ("recipe.lr=1" + "0" * 5000, "0... must be of type float"),
        ("recipe.lr=" + "[" * 100_000, "[... must be of type float"),
        ("recipe.weights=nowhere.npz", "nowhere.npz: no such file of weights"),
        ("recipe.backbone=resnet102", "did you mean resnet101"),
    ],
)
def test_bad_setting(command: list[str], capsys: Capture, setting: str, says: str) -> None:
    assert says in error_of([*command, "--set", setting], capsys)


METHOD = """
from dataclasses import dataclass
from methods.finetune import FineTune
from methods.method import Info

class Mine(FineTune):
    key = "mine"
    {line}
"""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("info = 'Mine'", "class Mine: set info = Info(title)"),
        ("info = Info('Mine', year='2025')", "info.year = '2025' is of the wrong type"),
        ("Hyperparameters = dict", "Hyperparameters must be a dataclass"),
        ("def __init__(self, *a): raise KeyError('x')", "KeyError: 'x'; mend the method file"),
    ],
)
def test_bad_method_class(command: list[str], tmp_path: Path, capsys: Capture, line: str, says: str) -> None:
    (tmp_path / "mine.py").write_text(METHOD.format(line=line))
    command[3] = str(tmp_path / "mine.py")
    error = error_of(command, capsys)
    assert "mine.py" in error
    assert says in error


def test_the_same_protocol_twice(tmp_path: Path, capsys: Capture) -> None:
    error = error_of(
        ["--protocol", "voc-15-1,voc-15-5s", "--methods", "mib", "--runs", str(tmp_path), "--dry-run"], capsys
    )
    assert "'voc-15-1' is given twice" in error


def test_report_of_an_unknown_protocol(tmp_path: Path, capsys: Capture) -> None:
    assert "no record of it in" in error_of(["report", "--protocol", "x", "--runs", str(tmp_path)], capsys)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            "[methods.finetune]\nkd_weight = 1.0",
            "[methods.finetune] of tiny-2-1: unknown parameter 'kd_weight'",
        ),
        ("[methods]\nmib = 1", "methods.mib = 1: this must be a table, [methods.mib]"),
        ("[methods.mibb]\nkd_weight = 1.0", "[methods.mibb] of tiny-2-1: no method 'mibb'"),
    ],
)
def test_bad_hyperparameters_in_a_protocol(
    command: list[str], tiny_protocol: Path, capsys: Capture, table: str, says: str
) -> None:
    tiny_protocol.write_text(f"{tiny_protocol.read_text()}\n{table}\n")
    assert says in error_of(command, capsys)


@pytest.mark.parametrize("seeds", ["", "a", "1,1", "-1"])
def test_bad_seeds(command: list[str], capsys: Capture, seeds: str) -> None:
    assert "such as 0,1,2" in error_of([*command, "--seeds", seeds], capsys)


def test_no_gpu(command: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    error = error_of([*command, "--device", "cuda"], capsys)
    assert "--device cuda: torch finds no GPU" in error
    assert "--device cpu" in error


def test_unwritable_runs_folder(command: list[str], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a-file").touch()
    command[5] = str(tmp_path / "a-file" / "runs")
    error = error_of(command, capsys)
    assert "a-file/runs: cannot be written" in error
    assert "give another folder" in error


def test_data_root_without_the_data_set(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["--protocol", "ade-100-10", "--methods", "mib", "--runs", str(tmp_path / "runs")]
    error = error_of([*arguments, "--data-root", str(tmp_path / "nowhere")], capsys)
    assert "nowhere" in error
    assert "ADEChallengeData2016" in error


def _one_mask(tmp_path: Path) -> Path:
    return tmp_path / "tiny/masks/train_0.png"


def _wrong_value(tmp_path: Path) -> None:
    mask = np.array(Image.open(_one_mask(tmp_path)))
    mask[0, 0] = 77
    Image.fromarray(mask).save(_one_mask(tmp_path))


def _other_size(tmp_path: Path) -> None:
    Image.open(_one_mask(tmp_path)).resize((20, 20)).save(_one_mask(tmp_path))


def _truncated(tmp_path: Path) -> None:
    path = tmp_path / "tiny/images/train_0.png"
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("damage", "file", "says"),
    [
        (_wrong_value, "train_0.png", "77"),
        (_other_size, "train_0.png", "20"),
        (_truncated, "train_0.png", "truncated"),
        (lambda folder: _one_mask(folder).unlink(), "train_0.png", ""),
    ],
)
def test_damaged_data(
    damage: Callable[[Path], None], file: str, says: str, command: list[str], tmp_path: Path, capsys: Capture
) -> None:
    """Found while indexing (status 2) or while training (a failed row, status 1); one line either way."""
    damage(tmp_path)
    assert main(command) in (1, 2)
    output = capsys.readouterr().err
    line = next(line for line in output.splitlines() if file in line)
    assert says in line
    assert "Traceback" not in output


def test_protocols_of_two_tasks_are_run_apart(tmp_path: Path, capsys: Capture) -> None:
    both = "ade-100-10,ade-100-10-panoptic"
    error = error_of(["--protocol", both, "--methods", "finetune", "--runs", str(tmp_path)], capsys)
    assert "panoptic and semantic protocols are run apart: give one command each" in error
    error = error_of(["show", "ade-100-10-panoptic", "--task", "instance"], capsys)
    assert "is for the task panoptic, not instance: leave out one of them" in error


def test_missing_panoptic_annotations_name_the_command_that_makes_them(
    tmp_path: Path, capsys: Capture
) -> None:
    for kind, folder in itertools.product(("images", "annotations"), ("training", "validation")):
        path = tmp_path / "ADEChallengeData2016" / kind / folder / "ADE_00000001.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (4, 4), 1).save(path.with_suffix(".jpg" if kind == "images" else ".png"))
    error = error_of(["show", "ade-100-10-panoptic", "--data-root", str(tmp_path)], capsys)
    assert "ade20k_panoptic_train.json: the panoptic annotations of ADE20K are missing" in error
    assert f"run `python run_benchmark.py prepare ade20k --data-root {tmp_path}`" in error
