"""Hashes that say whether a stored result still stands: of the data, of the code, of any settings."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from protocols.datasets import Sample

REPOSITORY = Path(__file__).resolve().parents[1]
LOOP = [
    *(REPOSITORY / "benchmarks" / name for name in ("training.py", "gradients.py", "evaluation.py")),
    *sorted((REPOSITORY / "benchmarks" / "metrics").glob("*.py")),
]
"""What every result passes through, whatever the method imports."""


def of_settings(settings: Any) -> str:
    """Hash of anything JSON can say, independent of the order of keys."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def of_samples(samples: Sequence[Sample], root: Path) -> str:
    """Hash of the samples' names below `root` and the sizes of their files, in order."""
    lines = [
        f"{path.relative_to(root) if path.is_relative_to(root) else path.name} {path.stat().st_size}"
        for sample in samples
        for path in (sample.image, sample.mask)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@cache
def of_code(path: Path) -> str:
    """Hash of a Python file, of every file of ours that it imports, directly or not, and of the loop.

    Comments, docstrings and layout do not count, so that editing a comment retrains nothing.
    """
    digest = hashlib.sha256()
    for file in sorted(_closure(path.resolve()) | set(LOOP)):
        digest.update(_without_docstrings(file).encode())
    return digest.hexdigest()


def _closure(start: Path) -> set[Path]:
    found, waiting = set(), [start]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imports(path)
    return found


def _imports(path: Path) -> list[Path]:
    files = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        files += [file for name in names for file in _files_of(name, path.parent)]
    return files


def _files_of(module: str, beside: Path) -> list[Path]:
    """A module's file in this repository, or beside a user's own method."""
    bases = [folder.joinpath(*module.split(".")) for folder in (REPOSITORY, beside)]
    files = [file for base in bases for file in (base.with_suffix(".py"), base / "__init__.py")]
    return [file.resolve() for file in files if file.is_file()]


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _without_docstrings(path: Path) -> str:
    tree = _tree(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [s for s in node.body if not _is_bare_string(s)]
    return ast.dump(tree)


def _is_bare_string(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@cache
def of_file(path: str) -> str:
    """Hash of a file's content; "" for no file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
