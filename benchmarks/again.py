"""This command again, for one of its runs in a process of its own: beside others, or as a cluster's job."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

CODE = "import sys; from benchmarks.cli import main; sys.exit(main(sys.argv[1:]))"
PACKAGES = Path(__file__).parents[1]


def command(arguments: Sequence[str]) -> list[str]:
    """What to start, wherever `python_path` is PYTHONPATH."""
    return [sys.executable, "-c", CODE, *arguments]


def python_path() -> str:
    """Where our packages are, then what is there already: they are not installed."""
    return os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH", "")]))
