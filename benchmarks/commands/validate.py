"""`validate`: whether records can stand in a table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.record import Record
    from reports.validate import Finding


def add(commands: argparse._SubParsersAction) -> None:
    text = "check records, such as those of another code base, before they are sent in"
    parser = commands.add_parser(
        "validate",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. One line a record, one a finding; "
        "exit status 1 if any is wrong. reports/README.md says what a record holds.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="records, or folders of them")
    parser.set_defaults(command=_validate)


def _validate(args: argparse.Namespace) -> int:
    from reports.validate import files_in, summary_line, validate

    files = list(dict.fromkeys(file for path in args.paths for file in files_in(path)))
    checked = validate(files, _against_ours)
    for each in checked:
        for line in each.lines:
            print(_printable(line))
    print(summary_line(checked))
    return 0 if all(each.is_sound for each in checked) else 1


def _against_ours(record: Record) -> Iterator[Finding]:
    from benchmarks import literature
    from reports.validate import Finding

    for field, problem in literature.contradictions(record):
        yield Finding(field, problem)
    for field, problem in literature.doubts(record):
        yield Finding(field, problem, is_error=False)


def _printable(line: str) -> str:
    """One line, whatever a file's name or a reason holds."""
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
    return text.encode("utf-8", "backslashreplace").decode()
