"""Imports run one way, `run_benchmark -> benchmarks -> methods -> {ops, protocols}`, and never back."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ALLOWED = {
    "ops": {"ops"},
    "protocols": {"protocols"},
    "reports": {"reports"},
    "methods": {"methods", "ops", "protocols"},
    "benchmarks": {"benchmarks", "methods", "protocols", "reports", "ops"},
}
SHARED_BY_METHODS = {
    "methods.method",
    "methods.predictions",
    "methods.recipe",
    "methods.deeplab",
    "methods.deeplab_recipe",
    "methods.importance",
    "methods.local_pod",
    "methods.mask2former",
    "methods.mask2former_assigned",
    "methods.mask2former_recipe",
    "methods.replay",
    "methods.segvit",
    "methods.segvit_recipe",
    "methods.virtual_queries",
}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_run_one_way(room: str) -> None:
    files = list((REPOSITORY / room).rglob("*.py"))
    assert files
    for path in files:
        ours = {name.split(".")[0] for name in imports_of(path)} & ALLOWED.keys()
        assert ours <= ALLOWED[room], f"{path.relative_to(REPOSITORY)} imports {ours - ALLOWED[room]}"


def test_training_knows_nothing_of_tables() -> None:
    """But for the commands, `benchmarks` knows of `reports` only the files that a run leaves."""
    left_by_a_run = {"reports", "reports.record", "reports.samples", "reports.files"}
    for path in (REPOSITORY / "benchmarks").glob("*.py"):
        ours = {name for name in imports_of(path) if name.startswith("reports")}
        assert ours <= left_by_a_run, path.name


def test_no_method_imports_another() -> None:
    for path in (REPOSITORY / "methods").glob("*.py"):
        ours = {n for n in imports_of(path) if n.startswith("methods.") and n.count(".") == 1}
        ours -= {"methods.losses", "methods.networks"}
        if path.stem not in ("__init__", "registry"):
            assert ours <= SHARED_BY_METHODS, f"{path.name} imports {ours - SHARED_BY_METHODS}"
