"""Files of weights from anywhere: a state dict or one clear line, and never a pickle that runs."""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.networks.backbones import build_backbone, load_backbone_weights
from methods.networks.checkpoints import CONVERTER, misfits, read_state

REPOSITORY = Path(__file__).parents[2]
STATE = {"module.a.weight": torch.arange(6.0).view(2, 3), "module.b": torch.tensor(3)}


def read(path: Path) -> dict[str, Tensor] | None:
    """None where the file was refused; fails unless that was in one line that names it."""
    try:
        state = read_state(path)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error), error
        return None
    assert all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())
    assert isinstance(misfits(STATE, state), dict)
    return state


def as_bytes(suffix: str, content: Any = None) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".safetensors":
        return safetensors.torch.save(STATE)
    if suffix == ".npz":
        np.savez(buffer, **{name: value.numpy() for name, value in STATE.items()})
    else:
        content = {"model_state": OrderedDict(STATE), "epoch": 3} if content is None else content
        torch.save(content, buffer, _use_new_zipfile_serialization=suffix == ".pth")
    return buffer.getvalue()


SUFFIXES = (".pth", ".pth.tar", ".safetensors", ".npz")
WHOLE = {suffix: as_bytes(suffix) for suffix in SUFFIXES}
"""`.pth.tar` in torch's older format, which is no zip file."""


def attempts(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file cut short, with bytes changed, put in or taken out."""
    suffix = draw(st.sampled_from(SUFFIXES))
    content = bytearray(WHOLE[suffix])
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["cut", "change", "insert", "remove"]))
        if kind == "cut":
            del content[place:]
        elif kind == "change" and content:
            content[place] = draw(st.integers(0, 255))
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=8))
        else:
            del content[place : place + draw(st.integers(1, 16))]
    return suffix, bytes(content)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.builds(lambda shape: torch.zeros(shape), st.lists(st.integers(0, 3), max_size=3)),
    st.sampled_from([
        torch.zeros(1, device="meta"), torch.zeros(2).to_sparse(), torch.zeros(10**12, device="meta"),
        torch.zeros(2, dtype=torch.complex64), torch.zeros(2, dtype=torch.float16), torch.Size([2]),
        torch.full((2,), float("nan")), np.float64(0.5), np.zeros(2), np.int64(3), torch.float32,
        torch.zeros(1).expand(10**9), torch.zeros(1, dtype=torch.float16).expand(10**14),
        torch.zeros(4)[::2], torch.nn.Parameter(torch.zeros(2)),
    ]),
)  # fmt: skip
KEYS = st.one_of(
    st.sampled_from(["state_dict", "model_state", "model", "module.a.weight", "module.b", "module."]),
    st.text(max_size=3),
    st.integers(0, 3),
    st.tuples(st.integers(0, 1)),
)
CONTENTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.dictionaries(KEYS, inner, max_size=3), st.lists(inner, max_size=3)),
    max_leaves=6,
)


def check_damaged(folder: Path, file: tuple[str, bytes]) -> None:
    path = folder / f"w{file[0]}"
    path.write_bytes(file[1])
    read(path)


def check_content(folder: Path, content: Any, suffix: str) -> None:
    path = folder / f"w{suffix}"
    path.write_bytes(as_bytes(suffix, content))
    read(path)


@attempts(60)
@given(file=damaged())
def test_damaged_files(tmp_path: Path, file: tuple[str, bytes]) -> None:
    check_damaged(tmp_path, file)


@attempts(60)
@given(content=CONTENTS, suffix=st.sampled_from([".pth", ".pth.tar"]))
def test_unexpected_contents(tmp_path: Path, content: Any, suffix: str) -> None:
    check_content(tmp_path, content, suffix)


@pytest.mark.slow
@attempts(2000)
@given(file=damaged())
def test_many_damaged_files(tmp_path: Path, file: tuple[str, bytes]) -> None:
    check_damaged(tmp_path, file)


@pytest.mark.slow
@attempts(2000)
@given(content=CONTENTS, suffix=st.sampled_from([".pth", ".pth.tar"]))
def test_many_unexpected_contents(tmp_path: Path, content: Any, suffix: str) -> None:
    check_content(tmp_path, content, suffix)


class Call:
    """Unpickling it calls the function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


CODE = "open('proof', 'w').close()"
ATTACKS = {
    "os.system": Call(os.system, "touch proof"),
    "exec": Call(builtins.exec, CODE),
    "eval": Call(builtins.eval, CODE),
    "open": Call(builtins.open, "proof", "w"),
    "subprocess": Call(subprocess.run, ["touch", "proof"]),
    "Path.touch": Call(Path.touch, Path("proof")),
    "getattr": Call(getattr, Call(__import__, "os"), "getcwd"),
    "runpy": Call(__import__("runpy")._run_code, CODE, {}),
    "torch": Call(torch.serialization.load, "proof"),
    "storage": Call(torch.storage._load_from_bytes, pickle.dumps(Call(builtins.exec, CODE))),
    "numpy": Call(np.lib.npyio.NpzFile, "proof"),
    "ctypes": Call(__import__, "ctypes"),
}


def malicious_files(folder: Path, attack: Call) -> list[Path]:
    """The attack in every format that can hold a pickle, alone and beside a state dict."""
    files = {
        "plain.pkl": pickle.dumps({"model": attack}),
        "protocol2.pkl": pickle.dumps({"model": attack, **STATE}, protocol=2),
        "new.pth": as_bytes(".pth", {"model": dict(STATE), "hook": attack}),
        "old.pth": as_bytes(".pth.tar", {"model": dict(STATE), "hook": attack}),
        "value.pth": as_bytes(".pth", {"state_dict": {**STATE, "c": attack}}),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "swapped.pth", "w") as archive:  # a torch file with another pickle in it
        archive.writestr("archive/data.pkl", pickle.dumps(attack, protocol=2))
        archive.writestr("archive/version", "3\n")
    np.savez(folder / "objects.npz", a=np.array([attack], dtype=object))
    scalar = Call(np._core.multiarray.scalar, np.dtype(object), attack)
    (folder / "scalar.pth").write_bytes(as_bytes(".pth", {"model": dict(STATE), "best_score": scalar}))
    return [path for path in folder.iterdir() if path.is_file()]


@pytest.mark.parametrize("name", ATTACKS)
def test_a_malicious_pickle_is_not_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in malicious_files(tmp_path, ATTACKS[name]):
        assert read(path) is None, path.name
        with pytest.raises(ValueError, match=path.name):
            load_backbone_weights(build_backbone("resnet-mini", 8), path)
        assert not Path("proof").exists(), path.name


def test_these_attacks_would_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "exec", "eval", "open", "Path.touch", "subprocess"):
        pickle.loads(pickle.dumps(ATTACKS[name]))
        assert Path("proof").exists(), name
        Path("proof").unlink()


def test_a_score_of_numpy_is_passed_over(tmp_path: Path) -> None:
    for score in (np.float64(0.5), np.float32(0.5), np.int64(3)):
        content = {"model_state": dict(STATE), "best_score": score}
        (tmp_path / "w.pth").write_bytes(as_bytes(".pth", content))
        state = read(tmp_path / "w.pth")
        assert state is not None and torch.equal(state["a.weight"], STATE["module.a.weight"])


def test_a_huge_shape_is_refused_not_allocated(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1000000,1000000,1000],"data_offsets":[0,4]}}'
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert read(tmp_path / "w.safetensors") is None
    (tmp_path / "w.pth").write_bytes(as_bytes(".pth", {"a": torch.zeros(10**15, device="meta")}))
    assert read(tmp_path / "w.pth") is None
    for dtype in (torch.float32, torch.float16):
        (tmp_path / "w.pth").write_bytes(as_bytes(".pth", {"a": torch.zeros(1, dtype=dtype).expand(10**15)}))
        assert read(tmp_path / "w.pth") is None


def converter() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pickle_to_safetensors", REPOSITORY / CONVERTER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def convert(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    out = path.with_suffix(".safetensors")
    monkeypatch.setattr(sys, "argv", ["pickle_to_safetensors.py", str(path), str(out)])
    converter().main()
    return read_state(out)


def test_the_converter_reads_pickles_of_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"stem.conv1.weight": np.ones((2, 3), np.float32), "author": "a"}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "torchvision"}))
    assert torch.equal(convert(path, monkeypatch)["stem.conv1.weight"], torch.ones(2, 3))


def test_the_converter_reads_the_queries_of_simcis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """continual/trainer.py: the factory of its dictionary is a function of a module that is not here."""
    absent = ModuleType("absent_trainer")
    exec("from collections import deque\ndef factory():\n    return deque(maxlen=80)", vars(absent))
    monkeypatch.setitem(sys.modules, "absent_trainer", absent)
    queries = defaultdict(absent.factory, {7: deque([[0.5, 1.0], [2.0, 3.0]], maxlen=80)})
    path = tmp_path / "fake_query.pkl"
    torch.save(queries, path)
    monkeypatch.delitem(sys.modules, "absent_trainer")
    assert convert(path, monkeypatch)["queries.7"].tolist() == [[0.5, 1.0], [2.0, 3.0]]


@pytest.mark.parametrize("name", ATTACKS)
def test_the_converter_calls_only_what_tensors_are_made_of(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in malicious_files(tmp_path, ATTACKS[name]):
        if path.name in ("new.pth", "old.pth"):
            assert convert(path, monkeypatch)["a.weight"].shape == (2, 3)
            assert "left out: an object of" in capsys.readouterr().err
        elif path.suffix != ".npz":
            with suppress(SystemExit, Exception):
                convert(path, monkeypatch)
        assert not Path("proof").exists(), path.name
