"""`report`: tables, plots and the page from records; published numbers by themselves."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.commands.arguments import split

EXAMPLES = """\
examples:
  python run_benchmark.py report --runs runs
  python run_benchmark.py report --runs runs --protocol ade-100-10,voc-15-1 --format md,tex
  python run_benchmark.py report --published ade-100-10
  python run_benchmark.py report --published ade-100-10,ade-100-5 --format csv > published.csv
"""


def add(commands: argparse._SubParsersAction) -> None:
    report = commands.add_parser(
        "report",
        help="redraw tables, plots and the page from the records of a folder; or show published numbers",
        description="Redraw the leaderboards from the records of a folder, or print what papers report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument(
        "--protocol",
        help="write the files of these only (comma-separated; default: all); the page and the overview "
        "always show all",
    )
    report.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of the records (default: runs)"
    )
    report.add_argument(
        "--format",
        help="some of md, csv, json, tex (a file a protocol), html (one page of all), png (plots, as SVG "
        "too); default: all. With --published one of txt, md, csv, json; default: txt",
    )
    report.add_argument(
        "--published", metavar="PROTOCOL", help="print what papers report for these protocols, and stop"
    )
    report.set_defaults(command=_report)


def _report(args: argparse.Namespace) -> int:
    if args.published:
        return _published(split(args.published), args.format or "txt")
    if not args.runs.is_dir():
        raise FileNotFoundError(f"{args.runs}: no such folder; give --runs the folder of an earlier run")
    formats = split(args.format) if args.format else None
    protocols = split(args.protocol) if args.protocol else None
    print(f"\n{show_reports(args.runs, formats, protocols)}")
    return 0


def _published(protocols: Sequence[str], style: str) -> int:
    from reports.browse import FORMATS, browse

    if style not in FORMATS:
        raise ValueError(f"--format {style!r}: with --published there are {', '.join(FORMATS)}")
    print(browse(protocols, style), end="")
    return 0


def show_reports(
    runs: Path, formats: Sequence[str] | None = None, protocols: Sequence[str] | None = None
) -> str:
    """Redraw, print the short tables of `protocols`, and return a line that says where everything lies."""
    from benchmarks.cores import cores
    from benchmarks.malloc import keep_freed_memory
    from reports.leaderboard import terminal_table
    from reports.redraw import FORMATS, redraw

    with tqdm(desc="folders of records", unit="", disable=None, leave=False) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        drawn = redraw(runs, formats or FORMATS, protocols, cores(), tell, keep_freed_memory)
    for problem in drawn.problems:
        print(f"warning: {problem}", file=sys.stderr)
    boards = [board for board in drawn.boards if protocols is None or board.protocol.name in protocols]
    if 0 < len(boards) <= FEW:
        print(f"\n{terminal_table(boards)}")
    if not drawn.paths:
        return "There is nothing to draw."
    first = min(
        drawn.paths, key=lambda path: FIRST.index(path.suffix) if path.suffix in FIRST else len(FIRST)
    )
    return f"Leaderboards: {first}, and {len(drawn.paths) - 1} more files in {runs / 'leaderboards'}"


FEW = 10
"""Up to so many protocols are printed as well."""
FIRST = (".html", ".md", ".tex", ".csv", ".json", ".png")
"""What a reader opens first."""
