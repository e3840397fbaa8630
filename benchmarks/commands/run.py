"""`run`, the default command: train, evaluate, write the leaderboards."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.commands.arguments import EXAMPLES, add_task_and_data, one_task, split
from benchmarks.commands.launch import add_launching, choose_launcher, device_to_ask
from benchmarks.place import Place

if TYPE_CHECKING:
    import torch

    from benchmarks.checkpoints import CheckpointFile
    from benchmarks.plan import Benchmark
    from benchmarks.run import Run
    from methods.method import MethodClass


def add(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser(
        "run",
        help="train and evaluate; the default command",
        description="Train and evaluate methods under protocols, and write a leaderboard. "
        "What is finished already is not run again; a killed run goes on where it stopped.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "--protocol", required=True, help="names of `ls protocols` or .toml files, comma-separated"
    )
    run.add_argument(
        "--methods", required=True, help="names of `ls methods`, .py files, or all; comma-separated"
    )
    run.add_argument(
        "--scale",
        choices=("paper", "mini"),
        help="paper: the published configuration; mini: minutes on two CPU cores "
        "(default: paper on real data with a GPU, or by a .toml; else mini)",
    )
    run.add_argument("--seeds", default="0", help="comma-separated (default: 0)")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="METHOD.PARAMETER=VALUE",
        dest="settings",
        help="override a hyperparameter; recipe.PARAMETER for all methods; may be repeated",
    )
    run.add_argument(
        "--runs", type=Path, default=Path("runs"), help="where everything is written (default: runs)"
    )
    run.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    run.add_argument(
        "--workers", type=int, help="loader processes (default: 0 on the CPU, up to 8 with a GPU)"
    )
    run.add_argument(
        "--checkpoint",
        metavar="FILE[,FILE]",
        help="of `import-checkpoint` or `export`: steps to read, not to train (one method, one protocol)",
    )
    run.add_argument(
        "--eval-only", action="store_true", help="evaluate these, and train nothing (wants --checkpoint)"
    )
    run.add_argument(
        "--batch-per-device",
        type=int,
        metavar="N",
        help="images on a device at once, at most; the rest of the recipe's batch follows in further passes, "
        "whose gradients add up (default: all of its share)",
    )
    run.add_argument("--only", help=argparse.SUPPRESS)  # the one run that a process of --jobs is for
    run.add_argument("--deterministic", action="store_true", help="the same bits on a GPU too, at some cost")
    run.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="what a kill loses at most, in seconds (default: 60)",
    )
    run.add_argument("--dry-run", action="store_true", help="say what would be trained, and stop")
    add_task_and_data(run)
    add_launching(run)
    run.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> int:
    # Heavy imports wait until the command line is known to be right.
    from benchmarks import asked
    from benchmarks.cluster import Cluster
    from benchmarks.commands.report import show_reports
    from benchmarks.device import choose_workers
    from benchmarks.grid import missing, plan_text, run_grid
    from benchmarks.processes import connect, disconnect, first_then_others
    from benchmarks.run import RunOptions
    from benchmarks.side_by_side import end_with_parent

    place = Place.from_environment()
    connect(place)
    device, benchmarks, runs = first_then_others(lambda: _plan(args, place))
    options = RunOptions(device, choose_workers(args.workers, device, place), args.checkpoint_seconds)
    if args.only:
        end_with_parent()
        return 1 if run_grid([r for r in runs if r.full_name == args.only], args.runs, options).failed else 0
    launcher = choose_launcher(args, runs, options, place)
    _announce(args, benchmarks, runs, device.type, launcher)
    if args.dry_run:
        print(plan_text(runs, args.runs))
        return 0
    if place.rank == 0:
        asked.note(runs, args.runs)
    if args.no_wait:
        assert isinstance(launcher, Cluster)
        launcher.submit_all(missing(runs, args.runs))
        return 0
    outcome = run_grid(runs, args.runs, options, launcher)
    disconnect()
    if place.rank == 0:
        where = show_reports(args.runs, protocols=[b.protocol.name for b in benchmarks])
        print(f"\n{outcome.trained} trained, {outcome.kept} kept, {outcome.failed} failed. {where}")
    return 1 if outcome.failed else 0


def _plan(args: argparse.Namespace, place: Place) -> tuple[torch.device, list[Benchmark], list[Run]]:
    """Where and what is to be run. Raises ValueError or FileNotFoundError on whatever is wrong with it."""
    from benchmarks.device import choose_device
    from benchmarks.plan import make_run, open_benchmark, reject_unknown_methods
    from benchmarks.settings import Setting, reject_unknown_targets
    from methods.method import UnsuitableRecipe
    from methods.registry import find_methods

    settings = [Setting.parse(text) for text in args.settings]
    seeds = _seeds(args.seeds)
    checkpoints = _checkpoints(args)
    task = one_task(args.task, split(args.protocol))
    methods = find_methods(args.methods, task)
    reject_unknown_targets(settings, [method.key for method in methods])
    _check_alone(args, methods)
    device = device_to_ask(args) or choose_device(args.device, args.deterministic, place)
    _check_writable(args.runs)
    benchmarks = [open_benchmark(p, task, args.data_root, args.runs) for p in split(args.protocol)]
    _reject_equal_names(benchmarks)
    for b in benchmarks:
        reject_unknown_methods(b, methods)
    runs = []
    for b, method in itertools.product(benchmarks, methods):
        scale = args.scale or _default_scale(b, device.type)
        try:
            runs += [
                make_run(
                    b,
                    method,
                    scale,
                    seed,
                    settings,
                    device.type,
                    checkpoints,
                    args.eval_only,
                    place,
                    args.batch_per_device,
                )
                for seed in seeds
            ]
        except UnsuitableRecipe as error:
            if method.key in split(args.methods):
                raise
            if not args.only:
                print(f"{b.protocol.name}: {method.key} is left out: {error}", file=sys.stderr)
    return device, benchmarks, runs


def _announce(
    args: argparse.Namespace, benchmarks: list[Benchmark], runs: list[Run], device: str, launcher: object
) -> None:
    for b in benchmarks:
        kind = (
            "SYNTHETIC STAND-IN, not comparable with published numbers"
            if b.dataset.is_synthetic
            else "real data"
        )
        print(f"{b.protocol.name}: {b.dataset.title}, {b.protocol.setting}; {kind}", file=sys.stderr)
    num_methods = len({run.method.key for run in runs})
    beside = f", {launcher}" if launcher else ""
    print(
        f"{len(runs)} runs ({num_methods} methods, seeds {args.seeds}) on {device}{beside}", file=sys.stderr
    )
    divided: dict[str, list[str]] = {}
    for run in runs:
        if run.share.parts > 1:
            names = divided.setdefault(run.share.describe(run.recipe.batch), [])
            names += [run.name] if run.name not in names else []
    for batch, names in divided.items():
        print(f"batch {batch}: {', '.join(names)}", file=sys.stderr)


def _checkpoints(args: argparse.Namespace) -> list[CheckpointFile]:
    from benchmarks.checkpoints import read_checkpoint

    if args.eval_only and not args.checkpoint:
        raise ValueError("--eval-only: say what to evaluate with --checkpoint FILE[,FILE]")
    return [read_checkpoint(Path(path)) for path in split(args.checkpoint or "")]


def _check_alone(args: argparse.Namespace, methods: Sequence[MethodClass]) -> None:
    """A checkpoint is one method's after one step of one protocol, and evaluating it twice gives the same."""
    if not args.checkpoint:
        return
    counts = {"--protocol": len(split(args.protocol)), "--methods": len(methods)}
    if args.eval_only:
        counts["--seeds"] = len(_seeds(args.seeds))
    for option, count in counts.items():
        if count > 1:
            raise ValueError(f"--checkpoint: is for one run; give {option} one entry, not {count}")


def _reject_equal_names(benchmarks: Sequence[Benchmark]) -> None:
    names = [b.protocol.name for b in benchmarks]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"--protocol: {name!r} is given twice (an alias, or two files); leave one of them out"
            )


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in split(text)]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {text!r}: write different numbers from 0 on, such as 0,1,2")
    return seeds


def _default_scale(benchmark: Benchmark, device: str) -> str:
    by_paper = benchmark.recipe or (device == "cuda" and not benchmark.dataset.is_synthetic)
    return "paper" if by_paper else "mini"


def _check_writable(folder: Path) -> None:
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"--runs {folder}: cannot be written ({error.strerror}); give another folder"
        ) from error
