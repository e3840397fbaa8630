"""A signal lets a run save its state and end; the same command goes on with the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.stopping import Interrupted, asked_to_stop, signals_stop, stop_waits
from reports.record import read, without_cost
from tests.benchmarks.tiny import write_tiny_protocol

Runner = Callable[..., int]
Capture = pytest.CaptureFixture[str]
REPOSITORY = Path(__file__).parents[2]

METHOD = """
import os, signal
from methods.mib import MiB

calls = 0

class Stopped(MiB):
    key = "stopped"

    def training_loss(self, batch):
        global calls
        calls += 1
        if calls == int(os.environ.get("STOP_AT", "0")):
            for _ in range(int(os.environ.get("TIMES", "1"))):
                os.kill(os.getpid(), int(os.environ["SIGNAL"]))
        return super().training_loss(batch)
"""


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A shell without job control has background jobs ignore SIGINT, and so would all that runs here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def method(tmp_path: Path) -> str:
    path = tmp_path / "stopped.py"
    path.write_text(METHOD)
    return str(path)


def stop(monkeypatch: pytest.MonkeyPatch, number: int, at: int = 3, times: int = 1) -> None:
    for name, value in {"SIGNAL": number, "STOP_AT": at, "TIMES": times}.items():
        monkeypatch.setenv(name, str(int(value)))


def result(runs: Path) -> object:
    (record,) = [read(path) for path in (runs / "records").rglob("seed-0.json")]
    weights = {p.parent.name: p.read_bytes() for p in (runs / "store").glob("*/state.safetensors")}
    return without_cost(record), weights


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_saves_and_the_same_command_goes_on(
    run_tiny: Runner,
    method: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    number: int,
) -> None:
    assert run_tiny(methods=method, runs="undisturbed") == 0
    for name in [name for name in sys.modules if name.startswith("user_method_stopped")]:
        del sys.modules[name]  # so that it counts from 0 again
    stop(monkeypatch, number)
    capsys.readouterr()
    assert run_tiny("--checkpoint-seconds", "1000", methods=method) == 128 + number
    *_, before, _, last = capsys.readouterr().err.splitlines()
    assert before == "tiny-2-1 stopped/seed-0: stopped; step 1 is saved at iteration 3 of 5"
    name = signal.Signals(number).name
    assert last == f"stopped by {name}; the same command goes on where this one stopped"
    assert not list((tmp_path / "runs/records").rglob("*.json"))
    assert run_tiny(methods=method) == 0
    assert "tiny-2-1 stopped/seed-0 step 1/3: goes on after iteration 3\n" in capsys.readouterr().err
    assert result(tmp_path / "runs") == result(tmp_path / "undisturbed")


def start(
    protocol: Path, method: str, runs: Path, *options: str, **environment: int
) -> subprocess.Popen[str]:
    command = [sys.executable, "run_benchmark.py", "--protocol", str(protocol), "--methods", method]
    return subprocess.Popen(
        [*command, "--runs", str(runs), "--device", "cpu", *options],
        cwd=REPOSITORY,
        env=os.environ | {name: str(int(value)) for name, value in environment.items()},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_signal_ends_at_once(tmp_path: Path, method: str) -> None:
    protocol = write_tiny_protocol(tmp_path)
    process = start(protocol, method, tmp_path / "runs", SIGNAL=signal.SIGTERM, STOP_AT=2, TIMES=2)
    said = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped" not in said.splitlines()[-1]
    assert not list((tmp_path / "runs").rglob("*.partial.safetensors"))


WAITS = """
import os, time
from methods.mib import MiB

class Waits(MiB):
    key = "waits"

    def training_loss(self, batch):
        open({marker!r} + str(os.getpid()), "w").close()
        time.sleep(0.2)
        return super().training_loss(batch)
"""


@pytest.mark.parametrize("to_all", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_runs_side_by_side_save_too(tmp_path: Path, to_all: bool) -> None:
    """Whether the first process alone gets the signal, or all of its group, as by Ctrl-C."""
    protocol, own, runs = (
        write_tiny_protocol(tmp_path, iterations=40),
        tmp_path / "waits.py",
        tmp_path / "runs",
    )
    marker = tmp_path / "at-work-"
    own.write_text(WAITS.format(marker=str(marker)))
    command = [sys.executable, "run_benchmark.py", "--protocol", str(protocol), "--methods", str(own)]
    options = ["--runs", str(runs), "--device", "cpu", "--jobs", "2", "--seeds", "0,1"]
    process = subprocess.Popen(
        [*command, *options], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while len(list(tmp_path.glob("at-work-*"))) < 2:
        assert process.poll() is None
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said.splitlines()[-1] == "stopped by SIGINT; the same command goes on where this one stopped"
    assert said.count("stopped; step 1 is saved at iteration") == 2
    assert "Traceback" not in said and "failed" not in said
    assert len(list(runs.glob("store/*.partial.safetensors"))) == 2
    assert not list(runs.glob("store/*tmp*"))


def test_outside_training_a_signal_interrupts_at_once() -> None:
    with signals_stop():
        with pytest.raises(Interrupted) as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.value.status, asked_to_stop()) == (143, signal.SIGTERM)
    with signals_stop():
        assert asked_to_stop() is None


def test_what_fails_after_a_signal_is_its_consequence() -> None:
    with signals_stop(), pytest.raises(Interrupted), stop_waits():
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("connection closed by peer")
