"""`prepare` and `verify`: a data set's files on disk."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    for name, command, text in (
        (
            "prepare",
            _prepare,
            "make a data set's annotations from its official archives, fetched where missing",
        ),
        ("verify", _verify, "check a data set: counts, hashes, and that its files agree with one another"),
    ):
        parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        parser.add_argument("dataset", choices=("ade20k",))
        parser.add_argument(
            "--data-root", type=Path, default=Path("data"), help="folder with the data sets (default: data)"
        )
        parser.add_argument("--workers", type=int, help="processes (default: one a core)")
        parser.set_defaults(command=command)


def _prepare(args: argparse.Namespace) -> int:
    from protocols.prepare.ade20k import prepare

    dataset = prepare(args.data_root, args.workers)
    for difference in dataset.differences():
        print(f"warning: {difference}", file=sys.stderr)
    print(f"{dataset.root} has semantic, panoptic and instance annotations")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from protocols.prepare.ade20k_verify import verify

    problems = verify(args.data_root, print, args.workers)
    for problem in problems:
        print(f"problem: {problem}")
    print(f"{len(problems)} problems" if problems else "sound")
    return 1 if problems else 0
