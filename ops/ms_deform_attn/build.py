"""Builds the CPU kernel at first use, into a cache folder, and loads it.

`python -m ops.ms_deform_attn.build` builds it ahead of time, for every instruction set at once: run it where
there is a compiler, and machines that share the cache folder need none.

Environment: MSDA_CACHE the folder (default `$XDG_CACHE_HOME/contiseg/ms_deform_attn`, else under `~/.cache`),
MSDA_ISA an instruction set to force (baseline, avx2, avx512), CXX the compiler.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock

SOURCES = Path(__file__).with_name("csrc")
ABI = "0x020a000000000000"
"""The oldest torch, 2.10, whose stable ABI the library asks for: it loads in every later one."""
COMMON = ("-O3", "-std=c++17", "-fPIC", "-Wno-psabi", f"-DTORCH_TARGET_VERSION={ABI}")
ISAS: dict[str, tuple[str, ...]] = {
    "baseline": (),
    "avx2": ("-mavx2", "-mfma", "-mf16c"),
    "avx512": (
        *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl")),
        "-mfma",
        "-mf16c",
        "-mprefer-vector-width=512",
    ),
}
"""Instruction sets and their compiler flags. Baseline is SSE2 on x86-64 and NEON on ARM."""


class NotAvailable(RuntimeError):
    """The kernel cannot be had here, and why. The one error that lets the dispatcher fall back."""


def machine_isa() -> str:
    """The widest instruction set of ISAS that this processor runs; MSDA_ISA overrides. Raises ValueError."""
    forced = os.environ.get("MSDA_ISA", "")
    if forced:
        if forced not in ISAS:
            raise ValueError(f"MSDA_ISA={forced} is none of {', '.join(ISAS)}")
        return forced
    known = {"AVX2": "avx2", "AVX512": "avx512"}
    return known.get(torch.backends.cpu.get_cpu_capability(), "baseline")


def cache_folder() -> Path:
    if own := os.environ.get("MSDA_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "contiseg" / "ms_deform_attn"


def find_compiler() -> str:
    """Path of a C++ compiler: $CXX, c++, g++ or clang++. Raises NotAvailable."""
    asked = os.environ.get("CXX")
    names = (shlex.split(asked)[0],) if asked else ("c++", "g++", "clang++")
    for name in names:
        if path := shutil.which(name):
            return path
    raise NotAvailable(f"no C++ compiler found (tried {', '.join(names)})")


@functools.cache
def _source_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(" ".join(COMMON).encode())
    return digest.hexdigest()[:16]


def library_name(isas: Sequence[str], compiler: str = "") -> str:
    """File name, which holds everything the library depends on. One for all processors names no compiler."""
    if len(isas) > 1:
        return f"msda-{_source_hash()}-{platform.machine()}.so"
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    flags = " ".join(ISAS[isas[0]])
    key = hashlib.sha256(f"{compiler}\n{version}\n{flags}".encode()).hexdigest()[:16]
    return f"msda-{_source_hash()}-{platform.machine()}-{isas[0]}-{key}.so"


def _run_all(commands: Sequence[Sequence[str]]) -> None:
    """Run side by side. Raises NotAvailable with what the first one that failed said."""
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    said = [process.communicate()[0] for process in running]
    for process, command, text in zip(running, commands, said, strict=True):
        if process.returncode:
            errors = [line for line in text.splitlines() if "error" in line.lower()] or text.splitlines()[-1:]
            raise NotAvailable(
                f"{Path(command[0]).name} failed: {'; '.join(errors[:3]) or 'it said nothing'}"
            )


def compile_library(isas: Sequence[str], compiler: str, target: Path) -> None:
    """Compile and link into `target`, which appears whole or not at all. Raises NotAvailable, OSError."""
    torch_root = Path(torch.__file__).parent
    includes = [f"-I{torch_root / 'include'}", f"-I{torch_root / 'include/torch/csrc/api/include'}"]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        objects, commands = [], []
        for isa in isas:
            objects.append(f"{folder}/{isa}.o")
            defines = [f"-DMSDA_KERNELS=kernels_{isa}", *ISAS[isa]]
            source = str(SOURCES / "kernels.cpp")
            commands.append([compiler, *COMMON, *defines, "-c", source, "-o", objects[-1]])
        objects.append(f"{folder}/binding.o")
        defines = [f"-DMSDA_{isa.upper()}" for isa in isas]
        source = str(SOURCES / "binding.cpp")
        commands.append([compiler, *COMMON, "-O1", *defines, *includes, "-c", source, "-o", objects[-1]])
        _run_all(commands)
        made = f"{folder}/library.so"
        # torch is in the process before the library is: no run path is needed.
        _run_all([[compiler, "-shared", *objects, f"-L{torch_root / 'lib'}", "-ltorch_cpu", "-o", made]])
        Path(made).replace(target)


def build(isas: Sequence[str], folder: Path, verbose: bool = True) -> Path:
    """The library for `isas` in `folder`, built unless it is there. One process builds, others wait for it.

    Raises NotAvailable without a compiler, where it fails, and where the folder cannot be written.
    """
    compiler = find_compiler()
    target = folder / library_name(isas, compiler)
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.exists():
                if verbose:
                    name = Path(compiler).name
                    print(
                        f"ms_deform_attn: building the CPU kernel ({', '.join(isas)}) with {name}, once, "
                        f"into {folder}",
                        file=sys.stderr,
                        flush=True,
                    )
                compile_library(isas, compiler, target)
    except OSError as error:
        raise NotAvailable(
            f"cannot write to {folder} ({error.strerror}); set MSDA_CACHE to a folder"
        ) from error
    return target


@functools.cache
def load() -> Path:
    """Load the operators `contiseg_msda::forward` and `backward`; the library's path. Raises NotAvailable.

    First choice is a library built ahead of time, then one for this processor, in the cache folder or, where
    that cannot be written, in a temporary one.
    """
    library = cache_folder() / library_name(tuple(ISAS))
    if os.environ.get("MSDA_ISA") or not library.exists():
        library = _for_this_processor()
    try:
        torch.ops.load_library(library)
    except OSError as error:
        raise NotAvailable(f"{library} does not load: {error}") from error
    return library


def _for_this_processor() -> Path:
    """The library for one instruction set, found or built."""
    if platform.system() == "Windows":
        raise NotAvailable("the CPU kernel is not built on Windows")
    isa, folder = machine_isa(), cache_folder()
    if not (folder / library_name((isa,), find_compiler())).exists() and not _writable(folder):
        folder = Path(tempfile.gettempdir()) / f"contiseg-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise NotAvailable(f"{folder} belongs to another user; set MSDA_CACHE to a folder of yours")
    return build((isa,), folder)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ops.ms_deform_attn.build",
        description="Build the CPU kernel ahead of time, for every instruction set of this kind of machine.",
        epilog="example: MSDA_CACHE=/shared/cache python -m ops.ms_deform_attn.build",
    )
    parser.add_argument("--output", type=Path, default=cache_folder(), help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    isas = tuple(ISAS) if platform.machine() in ("x86_64", "AMD64") else ("baseline",)
    try:
        path = build(isas, options.output)
    except NotAvailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"built: {path}")
    if options.output != cache_folder():
        print(f"to use it: export MSDA_CACHE={options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
