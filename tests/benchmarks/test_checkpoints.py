"""`import-checkpoint`, `export`, `run --checkpoint` and `--eval-only`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.checkpoints import class_names, read_checkpoint, write_checkpoint
from benchmarks.cli import main
from benchmarks.configure import configure
from benchmarks.importing import import_official
from methods.registry import find_methods
from protocols.names import parse
from reports import record as schema
from reports.load import load_records
from reports.record import Record
from tests.benchmarks.test_official_checkpoints import grown, save_as_mib

Run = Callable[..., int]


def record_of(runs: Path, method: str) -> Record:
    (found,) = [r for r in load_records(runs)[0] if r.method.name == method]
    return found


def exported(runs: Path, method: str, step: int, out: Path) -> str:
    arguments = ["export", "tiny-2-1", method, "--step", str(step), "--runs", str(runs), "--out", str(out)]
    assert main(arguments) == 0
    return str(out)


@pytest.fixture
def trained(run_tiny: Run, tmp_path: Path) -> Path:
    assert run_tiny(methods="mib") == 0
    return tmp_path / "runs"


def test_an_exported_network_is_evaluated_as_it_was(trained: Path, run_tiny: Run, tmp_path: Path) -> None:
    out = tmp_path / "last.safetensors"
    exported(trained, "mib", 2, out)
    assert run_tiny("--checkpoint", str(out), "--eval-only", methods="mib") == 0
    name = f"mib[checkpoint=last.safetensors.{read_checkpoint(out).sha256[:8]}]"
    again, first = record_of(trained, name), record_of(trained, "mib")
    assert [step.counts for step in again.steps] == [first.steps[2].counts]
    assert again.steps[0].iterations == again.steps[0].train_images == again.data.train_images == 0
    assert again.steps[0].trained_by == f"checkpoint {name[15:-1]}"
    assert again.overrides["checkpoint"] == name[15:-1] and again.knows_last_step_alone
    assert not again.is_offline
    assert f"| {name} " in (trained / "leaderboards" / "tiny-2-1.md").read_text().replace("`", "")


def test_a_run_goes_on_from_a_checkpoint_as_from_its_own_step(
    trained: Path, run_tiny: Run, tmp_path: Path
) -> None:
    out = exported(trained, "mib", 0, tmp_path / "base.safetensors")
    assert run_tiny("--checkpoint", out, methods="mib") == 0
    first = record_of(trained, "mib")
    (again,) = [r for r in load_records(trained)[0] if "checkpoint" in r.overrides]
    assert [s.counts for s in again.steps] == [s.counts for s in first.steps]
    assert [s.final_loss for s in again.steps[1:]] == [s.final_loss for s in first.steps[1:]]


def test_checkpoints_of_all_steps_make_a_whole_row(trained: Path, run_tiny: Run, tmp_path: Path) -> None:
    files = [exported(trained, "mib", step, tmp_path / f"{step}.safetensors") for step in (2, 0, 1)]
    assert run_tiny("--checkpoint", ",".join(files), "--eval-only", methods="mib") == 0
    (again,) = [r for r in load_records(trained)[0] if "checkpoint" in r.overrides]
    assert again.overrides["checkpoint"].startswith("3 files.")
    assert [s.counts for s in again.steps] == [s.counts for s in record_of(trained, "mib").steps]


def test_an_earlier_step_alone_is_evaluated_without_a_row(
    trained: Path, run_tiny: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exported(trained, "mib", 0, tmp_path / "base.safetensors")
    assert run_tiny("--checkpoint", out, "--eval-only", methods="plop") == 0  # the first step is PLOP's too
    assert "step 1/3: mIoU" in capsys.readouterr().err
    assert [r.method.name for r in load_records(trained)[0]] == ["mib"]


def test_a_dry_run_says_that_nothing_is_trained(
    trained: Path, run_tiny: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exported(trained, "mib", 0, tmp_path / "base.safetensors")
    assert run_tiny("--checkpoint", out, "--dry-run", methods="mib") == 0
    assert "step 1/3: to evaluate, 0 iterations" in capsys.readouterr().out


def test_the_model_card(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "there" / "base.safetensors"
    exported(trained, "mib", 0, out)
    card, text = read_checkpoint(out).card, out.with_suffix(".md").read_text()
    assert (card.method, card.step, card.classes) == ("mib", 0, ("background", "red", "green"))
    first = record_of(trained, "mib").steps[0]
    for words in (first.key, read_checkpoint(out).sha256, "MiB on tiny-2-1, step 0", "licence", "kd_weight"):
        assert words in text
    assert f"{first.iterations} iterations on {first.train_images} images" in text


MISTAKES = [
    ("--eval-only", "--eval-only: say what to evaluate"),
    ("--checkpoint none.safetensors", "none.safetensors: no such checkpoint"),
    ("--checkpoint tiny-2-1.toml", "is no checkpoint of ours"),
    ("--checkpoint foreign.safetensors", "has no card of ours"),
    ("--checkpoint strange.safetensors", "its card cannot be read"),
    ("--checkpoint base.safetensors --methods mib,plop", "give --methods one entry, not 2"),
    ("--checkpoint base.safetensors --eval-only --seeds 0,1", "give --seeds one entry, not 2"),
    ("--checkpoint base.safetensors,base.safetensors", "step 0, which is there already"),
    ("--checkpoint base.safetensors --methods rcil", "does not fit rcil: missing"),
    ("--checkpoint other.safetensors", "are not the 3 classes of tiny-2-1 after step 0"),
    ("--checkpoint part.safetensors", "imported in part, and can only be evaluated"),
    ("--checkpoint lacks.safetensors", "lacks a bank, so it can be evaluated"),
    ("--checkpoint last.safetensors", "of the steps 2; to go on training give those of all steps from 0 on"),
    ("--checkpoint last.safetensors --eval-only --methods plop", "and only a first step can be shared"),
]


def test_mistakes_end_in_one_line(
    trained: Path,
    run_tiny: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    exported(trained, "mib", 2, tmp_path / "last.safetensors")
    exported(trained, "mib", 0, tmp_path / "base.safetensors")
    base = read_checkpoint(Path("base.safetensors"))
    for name, changes in (
        ("other", {"classes": ("background", "green", "red")}),
        ("part", {"incomplete": ("cls.0.bias",)}),
        ("lacks", {"lacks": "a bank"}),
    ):
        card = dataclasses.replace(base.card, **changes)
        write_checkpoint(Path(f"{name}.safetensors"), base.tensors(), card)
    save_file({"a": torch.zeros(2)}, "foreign.safetensors")
    save_file({"a": torch.zeros(2)}, "strange.safetensors", metadata={"contiseg": '{"step": []}'})
    for options, words in MISTAKES:
        capsys.readouterr()
        status = run_tiny(*options.split(), methods="mib")
        error = capsys.readouterr().err
        assert words in error and "Traceback" not in error, options
        assert status == (1 if "rcil" in options else 2)  # what the tensors are is seen when they are loaded


def official_file(path: Path, key: str = "mib", step: int = 1) -> dict[str, Tensor]:
    """Of a mini network under the tiny protocol's first protocol in the literature, VOC 15-1."""
    method, _ = grown(key, parse("voc-15-1"), step, "mini")
    state = {k: v for k, v in method.network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_as_mib(state, path)
    return state


def test_import_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = official_file(tmp_path / "1.pth")
    out = tmp_path / "out.safetensors"
    command = [
        "import-checkpoint",
        "mib",
        str(tmp_path / "1.pth"),
        "--protocol",
        "voc-15-1",
        "--out",
        str(out),
    ]
    assert main([*command, "--step", "1", "--scale", "mini"]) == 0
    file = read_checkpoint(out)
    assert all(torch.equal(file.tensors()[name], value) for name, value in state.items())
    assert file.card.classes == class_names(parse("voc-15-1"), 1) and file.card.source == "1.pth"
    first = out.read_bytes()
    assert main([*command, "--step", "1", "--scale", "mini"]) == 0
    assert out.read_bytes() == first
    capsys.readouterr()
    assert main([*command, "--scale", "mini"]) == 2  # another step
    said = capsys.readouterr()
    assert "  missing: cls.5.bias" in said.out.splitlines()
    assert "does not fit mib after step 5 of voc-15-1 (21 channels): missing 8: cls.2" in said.err
    assert main([*command, "--step", "6", "--scale", "mini"]) == 2
    assert main([*command[:-1], "out.pth"]) == 2


def test_misfits_are_listed_and_kept_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = official_file(tmp_path / "1.pth")
    state["cls.0.bias"] = torch.zeros(4)
    state["cls.1.bias"] = state["cls.1.bias"] * float("nan")
    state["scalar"] = torch.zeros(())
    del state["head.red_conv.weight"]
    save_as_mib(state, tmp_path / "1.pth")
    out = tmp_path / "out.safetensors"
    command = [
        "import-checkpoint",
        "mib",
        str(tmp_path / "1.pth"),
        "--protocol",
        "voc-15-1",
        "--out",
        str(out),
    ]
    command += ["--step", "1", "--scale", "mini"]
    assert main(command) == 2 and not out.exists()
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  missing: head.red_conv.weight",
        "  unexpected: scalar",
        "  misshapen: cls.0.bias (4,) instead of (16,)",
        "  damaged: cls.1.bias with NaN or infinity",
    ]
    assert main([*command, "--partial"]) == 0
    file = read_checkpoint(out)
    assert file.card.incomplete == ("cls.0.bias", "cls.1.bias", "head.red_conv.weight")
    tensors = file.tensors()
    assert tensors["cls.0.bias"].shape == (16,) and tensors["cls.1.bias"].isfinite().all()
    assert "scalar" not in tensors and torch.equal(tensors["cls.0.weight"], state["cls.0.weight"])


@pytest.mark.parametrize("key", ["ewc", "simcis"])
def test_what_official_files_do_not_hold_keeps_from_training_on(key: str, tmp_path: Path) -> None:
    protocol = parse("ade-100-10")
    method, setup = grown(key, protocol, 0, "mini")
    torch.save({"model": dict(method.network.state_dict())}, tmp_path / "a.pth")
    found = import_official([tmp_path / "a.pth"], type(method), setup, protocol, 0)
    assert found.card.lacks and not found.misfits
    if key == "simcis":
        queries = {"queries.7": torch.randn(3, setup.recipe.hidden)}
        torch.save(queries, tmp_path / "queries.pth")
        files = [tmp_path / "a.pth", tmp_path / "queries.pth"]
        found = import_official(files, type(method), setup, protocol, 0)
        assert not found.card.lacks and not found.misfits
        assert torch.equal(found.tensors["bank.features"][7, :3], queries["queries.7"])
        assert found.tensors["bank.added"].nonzero().tolist() == [[7]]


def test_a_file_of_something_else(tmp_path: Path) -> None:
    protocol = parse("ade-100-10")
    torch.save({"a": torch.zeros(1), "backbone.b": torch.zeros(1)}, tmp_path / "a.pth")
    for key in ("finetune@segvit", "balconpas", "mib"):
        (method,) = find_methods(key, "semantic")
        setup = configure(protocol, {}, {}, method, "mini", [])
        found = import_official([tmp_path / "a.pth"], method, setup, protocol, 0)
        assert "missing" in found.misfits and "a" in found.misfits["unexpected"]


def test_a_record_of_the_last_step_alone_has_no_forgetting(
    trained: Path, run_tiny: Run, tmp_path: Path
) -> None:
    out = exported(trained, "mib", 2, tmp_path / "last.safetensors")
    assert run_tiny("--checkpoint", out, "--eval-only", methods="mib") == 0
    path = next(p for p in (trained / "records").rglob("seed-0.json") if "checkpoint" in p.parent.name)
    assert schema.read(path).schema == schema.SCHEMA
    row = (trained / "leaderboards" / "tiny-2-1.csv").read_text().splitlines()
    assert any("checkpoint=" in line and line.split(",")[1] for line in row)
