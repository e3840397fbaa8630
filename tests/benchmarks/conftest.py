"""Fixtures that run the command line on a tiny data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.cli import main
from tests.benchmarks.tiny import write_tiny_protocol


@pytest.fixture
def tiny_protocol(tmp_path: Path) -> Path:
    return write_tiny_protocol(tmp_path)


@pytest.fixture
def run_tiny(tiny_protocol: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs the command line on the tiny protocol; returns its exit status."""

    def run(*arguments: str, methods: str = "finetune,mib", runs: str = "runs") -> int:
        folder = str(tmp_path / runs)
        base = ["--protocol", str(tiny_protocol), "--methods", methods, "--runs", folder, "--device", "cpu"]
        return main([*base, *arguments])

    return run
