"""Finding the records of a runs folder; a broken one never hides the others."""

from __future__ import annotations

from pathlib import Path

from reports.record import Record, read


def load_records(runs: Path) -> tuple[list[Record], list[str]]:
    """All `<runs>/records/**/seed-*.json` in path order, and one line a file that cannot be used.

    Two files with the same protocol, task, method, scale, kind of data, seed and key are one run: the second
    is reported, so that no seed counts twice.
    """
    records: list[Record] = []
    problems: list[str] = []
    seen: dict[tuple[object, ...], Path] = {}
    for path in sorted((runs / "records").rglob("seed-*.json")):
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
    if not records and not problems:
        problems.append(f"{runs / 'records'}: no seed-*.json in it; run the benchmark first or check --runs")
    return records, problems


def _identity(record: Record) -> tuple[object, ...]:
    protocol, name = record.protocol, record.method.name
    return (protocol.name, protocol.task, name, record.scale, record.data.synthetic, record.seed)
