"""`report`: tables from records."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.commands.arguments import split


def add(commands: argparse._SubParsersAction) -> None:
    report = commands.add_parser("report", help="redraw the leaderboards from the records of a folder")
    report.add_argument("--protocol", help="only these (comma-separated); all by default")
    report.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of the records (default: runs)"
    )
    report.set_defaults(command=_report)


def _report(args: argparse.Namespace) -> int:
    from benchmarks.grid import write_reports
    from reports.load import load_records

    if not args.runs.is_dir():
        raise FileNotFoundError(f"{args.runs}: no such folder; give --runs the folder of an earlier run")
    known = sorted({record.protocol.name for record in load_records(args.runs)[0]})
    chosen = split(args.protocol) if args.protocol else known
    for name in chosen:
        if name not in known:
            raise ValueError(
                f"--protocol {name!r}: no record of it in {args.runs}; there are: {', '.join(known)}"
            )
    paths = write_reports(chosen, args.runs)
    print(f"\nLeaderboards: {', '.join(str(path) for path in paths if path.suffix == '.md') or 'none'}")
    return 0
