"""Finding the records of a runs folder; a broken one never hides the others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reports.record import Record, read


def load_records(runs: Path) -> tuple[list[Record], list[str]]:
    """All `<runs>/records/**/seed-*.json` in path order, and one line a file that cannot be used.

    Rows from elsewhere lie there too, in any folder: the record says where it belongs, not its path (README).
    Two files with the same protocol, task, method, scale, kind of data, seed and key are one run: the second
    is reported, so that no seed counts twice.
    """
    paths, problems = record_paths(runs)
    records, more = read_records(paths)
    return records, problems + more


def record_paths(runs: Path) -> tuple[list[Path], list[str]]:
    """Where the records of a runs folder lie, in order; a line for the user where there is none."""
    folder = runs / "records"
    paths = sorted(folder.rglob("seed-*.json"))
    nothing = f"{folder}: no seed-*.json in it; run the benchmark first or check --runs"
    return paths, [] if paths else [nothing]


def read_records(paths: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """The records of these files, as `load_records`."""
    records: list[Record] = []
    problems: list[str] = []
    seen: dict[tuple[object, ...], Path] = {}
    for path in paths:
        try:
            record = read(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        run = (*_identity(record), record.key)
        if run in seen:
            problems.append(
                f"{path}: key: {record.key!r} is the same run as {seen[run]}; delete one of the two"
            )
            continue
        seen[run] = path
        records.append(record)
    return records, problems


def _identity(record: Record) -> tuple[object, ...]:
    protocol, name = record.protocol, record.method.name
    return (protocol.name, protocol.task, name, record.scale, record.data.synthetic, record.seed)
