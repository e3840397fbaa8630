"""Whatever stands in a protocol file or on the command line: it is done, or one line says what is wrong."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import time
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.cli import main
from tests.benchmarks.tiny import write_tiny_protocol
from tests.mutations import STRANGE, damage, mutate

Runner = Callable[..., int]
LONGEST = 60.0
"""Seconds for one command, which takes a hundredth of one: more is a hang."""


def outcome(arguments: list[str]) -> tuple[int, str]:
    """Exit status and stderr."""
    said, started = io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            status = main(arguments)
        except SystemExit as end:  # argparse
            assert end.code in (0, 2), arguments
            status = int(end.code or 0)
    assert time.monotonic() - started < LONGEST, arguments
    return status, said.getvalue()


def check(arguments: list[str]) -> None:
    status, said = outcome(arguments)
    assert status in (0, 1, 2), (arguments, said)
    assert "Traceback" not in said, (arguments, said)
    if status == 2:
        assert len([line for line in said.splitlines() if "error: " in line]) == 1, (arguments, said)


def toml_of(table: dict[str, Any]) -> str:
    """`table` as TOML, as far as it can be: what it cannot say is left out."""
    return "\n".join(
        f"{json.dumps(key)} = {_value(value)}" for key, value in table.items() if value is not None
    )


def _value(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value if item is not None)}]"
    if isinstance(value, float):
        return repr(value) if value == value and abs(value) != float("inf") else str(value)
    return json.dumps(value)


def protocol_file(chance: random.Random, good: Path) -> None:
    """Shown, and planned for three methods."""
    table = tomllib.loads(good.read_text())
    table["methods"] = {"mib": {"kd_weight": 3.0}}
    for _ in range(chance.randint(1, 2)):
        mutate(table, chance)
    text = toml_of(table).encode("utf-8", "surrogatepass")
    path = good.with_name("mutated.toml")
    if chance.random() < 0.3:
        text = damage(chance.choice([text, good.read_bytes()]), chance)
    path.write_bytes(text)
    check(["show", str(path), "--runs", str(good.parent / "runs")])
    options = ["--runs", str(good.parent / "runs"), "--device", "cpu", "--dry-run"]
    check(["--protocol", str(path), "--methods", "finetune,mib,joint", *options])


# Not --only: it ends this process with the one that it takes for its parent.
OPTIONS = (
    *("--protocol", "--methods", "--scale", "--seeds", "--set", "--runs", "--device", "--workers", "--jobs"),
    *("--deterministic", "--checkpoint-seconds", "--task", "--data-root", "--batch-per-device"),
    *(
        "--checkpoint",
        "--eval-only",
        "--json",
        "--format",
        "--published",
        "--out",
        "--step",
        "-h",
        "--nothing",
    ),
)
WORDS = (
    *("finetune", "mib,joint", "all", "mini", "paper", "0,1", "cpu", "2", "semantic", "panoptic", "vco-15-1"),
    *(
        "recipe.batch=2",
        "mib.kd_weight=3",
        "recipe.lr=1e400",
        "recipe.batch=",
        "recipe.dilations=[1,",
        "md,html",
    ),
    *("ade-100-10-panoptical", "x.toml", "x.py", "x.safetensors", "ls", "show", "report", "mib", "protocols"),
    *(
        "recipe.batch=" + "9" * 5000,
        "recipe.crop=1000000000000",
        "mib.kd_weight=" + "[" * 3000,
        "=",
        ".",
        ",,",
    ),
)


def command_line(chance: random.Random, good: Path) -> None:
    """A command that would be right, with words added, left out, exchanged or made strange."""
    runs = ["--runs", str(good.parent / "runs")]
    right = chance.choice(
        [
            ["--protocol", str(good), "--methods", "finetune,mib", *runs, "--device", "cpu"],
            [
                "run",
                "--protocol",
                str(good),
                "--methods",
                "mib",
                *runs,
                "--set",
                "mib.kd_weight=3",
                "--seeds",
                "1",
            ],
            ["show", str(good), *runs],
            ["show", "ade-100-10", "--json", *runs],
            ["ls", "methods"],
            ["report", *runs, "--format", "md"],
            ["report", "--published", "ade-100-10"],
            ["validate", str(good.parent / "runs")],
            ["verify", "ade20k", "--data-root", str(good.parent)],
            ["export", str(good), "mib", *runs],
            ["import-checkpoint", "mib", str(good), "--protocol", str(good), "--out", "x.safetensors"],
        ]
    )
    arguments = list(right)
    for _ in range(chance.randint(1, 3)):
        strange = chance.choice([*OPTIONS, *WORDS, *(str(value) for value in STRANGE), str(good)])
        place = chance.randrange(len(arguments) + 1)
        match chance.randrange(3):
            case 0:
                arguments.insert(place, strange)
            case 1:
                arguments[place : place + 1] = [strange]
            case _:
                del arguments[place : place + 1]
    if right[0] in ("--protocol", "run"):
        arguments.append("--dry-run")
    if not {"prepare", "run"} & set(arguments[:1]) or right[0] == "run":
        check(arguments)


def fuzz(case: Callable[[random.Random, Path], None], folder: Path, examples: int) -> None:
    good = write_tiny_protocol(folder)

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(st.randoms(use_true_random=False))
    def run(chance: random.Random) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case(chance, good)

    run()


CASES = pytest.mark.parametrize("case", [protocol_file, command_line])


@CASES
def test_strange_commands(
    case: Callable[[random.Random, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fuzz(case, tmp_path, 80)


@pytest.mark.slow
@CASES
def test_many_strange_commands(
    case: Callable[[random.Random, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fuzz(case, tmp_path, 2000)


class Payload:
    """Its pickle makes a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_no_pickle_is_executed(run_tiny: Runner, tmp_path: Path) -> None:
    """Every file that a run reads, in its place a pickle that would leave a trace."""
    assert run_tiny("--set", "recipe.later_iterations=1", methods="finetune") == 0
    marker = tmp_path / "executed"
    evil = pickle.dumps(Payload(marker))
    pickle.loads(evil)
    assert marker.exists()
    marker.unlink()
    (tmp_path / "weights.pth").write_bytes(evil)
    assert run_tiny("--set", f"recipe.weights={tmp_path}/weights.pth", methods="finetune") == 1
    files = [path for folder in ("tiny", "runs") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert {".png", ".txt", ".json", ".safetensors", ".npz"} <= kinds
    for kind in sorted(kinds):
        kept = {path: path.read_bytes() for path in files if path.suffix == kind}
        for path in kept:
            path.write_bytes(evil)
        run_tiny("--set", "recipe.later_iterations=1", methods="finetune,mib")
        for path, content in kept.items():
            path.write_bytes(content)
    assert not marker.exists()
