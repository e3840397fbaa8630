"""Building, loading and falling back, each in a process and a cache folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ops.ms_deform_attn import backend, build

ROOT = Path(__file__).resolve().parents[3]
INFO = "from ops.ms_deform_attn import backend_info as i; print(i()['backend'], i()['reason'])"
needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler"
)


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("MSDA_")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=300)
    return process.returncode, out.strip(), err.strip()


def libraries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.so"))


@needs_compiler
def test_two_processes_build_once_and_say_one_line(tmp_path: Path) -> None:
    processes = [start("-c", INFO, MSDA_CACHE=str(tmp_path)) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in processes]
    assert [out.split()[0] for out, _ in said] == ["cpp", "cpp"]
    lines = [line for _, err in said for line in err.splitlines()]
    assert len(lines) == 1 and lines[0].startswith("ms_deform_attn: building the CPU kernel")
    assert len(libraries(tmp_path)) == 1
    assert not [path for path in tmp_path.iterdir() if path.is_dir()], "temporary folders are gone"
    _, out, err = run("-c", INFO, MSDA_CACHE=str(tmp_path))
    assert out.startswith("cpp") and not err, "the second time there is nothing to say"


@needs_compiler
@pytest.mark.slow
def test_ahead_of_time_for_machines_without_a_compiler(tmp_path: Path) -> None:
    code, out, err = run("-m", "ops.ms_deform_attn.build", "--output", str(tmp_path))
    assert code == 0 and f"export MSDA_CACHE={tmp_path}" in out, err
    code, out, err = run("-c", INFO, MSDA_CACHE=str(tmp_path), CXX="no-such-compiler")
    assert out.startswith("cpp") and not err


def test_without_a_compiler_it_falls_back_with_one_line(tmp_path: Path) -> None:
    code, out, err = run("-c", INFO, MSDA_CACHE=str(tmp_path), CXX="no-such-compiler")
    assert code == 0 and out.startswith("python")
    assert len(err.splitlines()) == 1 and "no C++ compiler found (tried no-such-compiler)" in err


def test_a_forced_backend_that_is_not_there_says_why(tmp_path: Path) -> None:
    code, _, err = run("-c", INFO, MSDA_CACHE=str(tmp_path), CXX="no-such-compiler", MSDA_BACKEND="cpp")
    assert code == 1 and err.endswith("no C++ compiler found (tried no-such-compiler)")
    code, _, err = run("-c", INFO, MSDA_BACKEND="cuda")
    assert code == 1 and err.endswith("MSDA_BACKEND=cuda is none of auto, cpp, triton, python")


@needs_compiler
def test_a_failing_compiler_is_quoted(tmp_path: Path) -> None:
    compiler = tmp_path / "broken"
    compiler.write_text("#!/bin/sh\necho 'broken: error: out of order' >&2\nexit 1\n")
    compiler.chmod(0o755)
    _, out, err = run("-c", INFO, MSDA_CACHE=str(tmp_path / "cache"), CXX=str(compiler))
    assert out.startswith("python") and "broken: error: out of order" in err
    assert not libraries(tmp_path / "cache")


@needs_compiler
def test_a_cache_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    other = tmp_path / "temporary"
    other.mkdir()
    environment = {"MSDA_CACHE": str(tmp_path / "file" / "cache"), "TMPDIR": str(other)}
    _, out, err = run("-c", INFO, **environment)
    assert out.startswith("cpp"), err
    assert len(list(other.glob("contiseg-*/*.so"))) == 1


@needs_compiler
def test_a_cache_folder_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it is used; only what is not goes elsewhere."""
    monkeypatch.setenv("MSDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("MSDA_ISA", raising=False)
    monkeypatch.setattr(build, "_writable", lambda folder: False)
    monkeypatch.setattr(build, "compile_library", lambda isas, compiler, target: target.write_bytes(b""))
    library = build._for_this_processor()
    assert library.parent.parent == tmp_path and library.parent.name.startswith("contiseg-")
    there = tmp_path / "cache" / library.name
    there.parent.mkdir()
    library.rename(there)
    assert build._for_this_processor() == there


@needs_compiler
def test_a_library_that_does_not_load_falls_back(tmp_path: Path) -> None:
    name = build.library_name((build.machine_isa(),), build.find_compiler())
    (tmp_path / name).write_bytes(b"not a library")
    _, out, err = run("-c", INFO, MSDA_CACHE=str(tmp_path))
    assert out.startswith("python") and len(err.splitlines()) == 1
    assert f"{tmp_path / name} does not load" in err


def test_without_triton_a_gpu_gets_the_composition(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delenv("MSDA_BACKEND", raising=False)
    assert backend.choose.__wrapped__("cuda") == ("python", "triton: triton is not installed")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_importing_needs_nothing(tmp_path: Path) -> None:
    code = "import ops.ms_deform_attn; print('imported')"
    returned, out, err = run("-c", code, MSDA_CACHE=str(tmp_path / "none"), CXX="no-such-compiler")
    assert (returned, out, err) == (0, "imported", "")
    assert not (tmp_path / "none").exists()
