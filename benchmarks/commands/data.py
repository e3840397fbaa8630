"""`prepare` and `verify`: a data set's files on disk."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocols.prepare.sources import Source

NAMES = ("voc", "ade20k", "cityscapes")


def add(commands: argparse._SubParsersAction) -> None:
    for name, command, text in (
        (
            "prepare",
            _prepare,
            "make a data set from its official archives: those at hand, the others fetched where they may be",
        ),
        (
            "verify",
            _verify,
            "check a data set: name each file that is missing, damaged or does not fit the others",
        ),
    ):
        parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        parser.add_argument("dataset", choices=NAMES, type=lambda name: "ade20k" if name == "ade" else name)
        parser.add_argument(
            "--data-root", type=Path, default=Path("data"), help="folder with the data sets (default: data)"
        )
        parser.add_argument("--workers", type=int, help="processes (default: one a core)")
        parser.set_defaults(command=command)
        if name == "prepare":
            parser.add_argument(
                "--from-archive",
                type=Path,
                action="append",
                default=[],
                metavar="FILE",
                help="an archive that you have, under any name (repeat for more than one)",
            )


def _prepare(args: argparse.Namespace) -> int:
    from protocols.prepare.sources import prepare

    dataset = prepare(_source(args.dataset), args.data_root, args.from_archive, args.workers)
    for difference in dataset.differences():
        print(f"warning: {difference}", file=sys.stderr)
    counts = ", ".join(f"{len(dataset.samples(split))} {split} images" for split in dataset.official_sizes)
    print(f"{dataset.root} is ready: {dataset.title}, {counts}, for {', '.join(dataset.tasks)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from protocols.prepare.verify import verify

    problems = verify(_source(args.dataset), args.data_root, print, args.workers)
    for problem in problems:
        print(f"problem: {problem}")
    print(f"{len(problems)} problem{'s' * (len(problems) > 1)}" if problems else "sound")
    return 1 if problems else 0


def _source(name: str) -> Source:
    from protocols.prepare import ade20k, cityscapes, voc

    return {module.SOURCE.name: module.SOURCE for module in (voc, ade20k, cityscapes)}[name]
