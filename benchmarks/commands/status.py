"""`status`: what became of every run that was asked of a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  python run_benchmark.py status --runs runs
  watch -n 30 python run_benchmark.py status --runs runs
"""


def add(commands: argparse._SubParsersAction) -> None:
    status = commands.add_parser(
        "status",
        help="what became of every run asked for: done, running, queued, failed ...",
        description="Say of every run that was asked of a folder whether it is done, running (step and "
        "iteration), stopped, queued, waiting, failed, stale or lost. From files alone; where Slurm's "
        "`squeue` is at hand, jobs that are gone from its queue are found too.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    status.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(command=_status)


def _status(args: argparse.Namespace) -> int:
    from benchmarks.slurm import jobs_in_queue
    from benchmarks.status import as_json, states, table

    if not args.runs.is_dir():
        raise FileNotFoundError(f"{args.runs}: no such folder; give --runs the folder of an earlier run")
    found = states(args.runs, jobs_in_queue())
    print(as_json(found) if args.json else table(found))
    return 0
