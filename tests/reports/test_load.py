"""A folder of records, some of them broken: the others are drawn, and each broken one has its line."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.leaderboard import write_leaderboards
from reports.load import load_records
from reports.record import Record, write

Make = Callable[..., Record]
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 30, 30, 20]]


def less_steps(plain: dict[str, Any]) -> None:
    del plain["steps"][-1], plain["cost"]["steps"][-1]


def less_classes(plain: dict[str, Any]) -> None:
    step = plain["steps"][1]
    step["channels"].pop()
    for name, column in step["counts"].items():
        if name != "task":
            column.pop()


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing-step": (less_steps, "steps: 2 steps in a finished run, expected 3"),
    "other-classes": (less_classes, "steps[1].channels: lacks 3 ('cow'), which the protocol has taught"),
    "nan": (lambda r: r["recipe"].update(lr=float("nan")), "recipe.lr: nan is not a finite number"),
    "future": (lambda r: r.update(schema=9), "schema: 9 is newer than 2, the version read here; update"),
    "same-run": (lambda r: None, "key: 'key-mib/seed-0' is the same run as"),
}


@pytest.fixture
def folder(make: Make, tmp_path: Path) -> Path:
    """Two sound records of one row, and one that failed after its first step."""
    records = tmp_path / "records" / "pets-2-1"
    write(make(SERIES), records / "a" / "seed-0.json")
    write(make(SERIES, seed=1), records / "a" / "seed-1.json")
    write(make(SERIES[:1], "plop", reason="out of memory"), records / "a" / "seed-2.json")
    return tmp_path


def problem_of(folder: Path) -> str:
    """The line on the broken file; all others are in their rows, in every table."""
    records, (problem,) = load_records(folder)
    assert sorted(record.method.name for record in records) == ["mib", "mib", "plop"]
    page = write_leaderboards(records, folder / "leaderboards")[0].read_text()
    assert "failed: out of memory" in page
    assert "\n" not in problem
    return problem.partition("seed-5.json: ")[2]


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_record_hides_no_other(folder: Path, case: str) -> None:
    change, message = BROKEN[case]
    plain = json.loads((folder / "records/pets-2-1/a/seed-0.json").read_text())
    change(plain)
    (folder / "records/pets-2-1/a/seed-5.json").write_text(json.dumps(plain))
    assert problem_of(folder).startswith(message)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xff", b"[]", b"null"])
def test_what_is_no_record_hides_no_other(folder: Path, content: bytes) -> None:
    (folder / "records" / "seed-5.json").write_bytes(content)
    assert problem_of(folder)


def test_a_folder_and_a_circle_of_links_hide_no_other(folder: Path) -> None:
    (folder / "records" / "seed-5.json").mkdir()
    (folder / "records" / "again").symlink_to(folder / "records")
    assert problem_of(folder).startswith("is no plain file")


def test_an_unreadable_file_hides_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "records" / "seed-5.json").write_text("{}")
    read_text = Path.read_text

    def refuse(path: Path, *args: Any, **kwargs: Any) -> str:
        if path.name == "seed-5.json":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert problem_of(folder).startswith("cannot be read (Permission denied); check the path")
