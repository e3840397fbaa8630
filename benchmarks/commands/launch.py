"""Where the runs of a command run: here one after the other, side by side, or as jobs of a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.place import Place
from benchmarks.slurm import HELP, SlurmOptions

if TYPE_CHECKING:
    import torch

    from benchmarks.grid import Launcher
    from benchmarks.run import Run, RunOptions


def add_launching(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="runs side by side, a process each (default: one a core, up to 4, at mini scale on the "
        "CPU; else 1)",
    )
    group = parser.add_argument_group("on a cluster", HELP)
    group.add_argument(
        "--executor",
        choices=("slurm", "local"),
        help="one job a run; local: the same jobs on this machine, --jobs at once (wants submitit)",
    )
    group.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="what each job asks for, see above"
    )
    group.add_argument(
        "--no-wait", action="store_true", help="submit and end; `status` and `report` show what comes of it"
    )


def device_to_ask(args: argparse.Namespace) -> torch.device | None:
    """Of the machines that jobs will run on: the one that submits may have none. None where runs stay here.

    Raises ValueError for options of a cluster without --executor.
    """
    import torch

    if args.executor is None and (args.slurm or args.no_wait):
        raise ValueError("--slurm and --no-wait go with --executor slurm")
    if args.executor == "local" and args.no_wait:
        raise ValueError("--no-wait: goes with --executor slurm; jobs of this machine end with the command")
    if args.executor != "slurm" or args.only:
        return None
    return torch.device(args.device or ("cpu" if "gpus=0" in args.slurm else "cuda"))


def choose_launcher(
    args: argparse.Namespace, runs: Sequence[Run], options: RunOptions, place: Place
) -> Launcher | None:
    """None: one after the other in this process. Raises ValueError on options that are wrong."""
    from benchmarks.cluster import Cluster
    from benchmarks.side_by_side import SideBySide, choose_jobs

    jobs = choose_jobs(args.jobs, runs, options.device.type, place.processes)
    if args.executor and place.processes > 1:
        raise ValueError(f"--executor {args.executor}: submits from one process; leave torchrun out")
    if args.executor:
        slurm = SlurmOptions.parse(args.slurm, options.device.type)
        return Cluster(args.executor, args.arguments, args.runs, options, slurm, jobs)
    return SideBySide(args.arguments, args.runs, options, jobs) if jobs > 1 else None
