"""The command line: `run` (the default), `ls`, `show`, `prepare`, `verify` and `report`."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocols.protocol import TASKS

EXAMPLES = """\
examples:
  python run_benchmark.py --protocol ade-100-10 --methods all
  python run_benchmark.py --protocol voc-15-5,voc-15-1 --methods mib,finetune --seeds 0,1,2 --data-root DIR
  python run_benchmark.py --protocol my_protocol.toml --methods mib,path/to/my_method.py
  python run_benchmark.py --protocol voc-15-1 --methods mib --set mib.kd_weight=10 --dry-run
  python run_benchmark.py ls protocols
  python run_benchmark.py show ade-100-10 --task panoptic
  python run_benchmark.py prepare ade20k --data-root DIR
  python run_benchmark.py report --runs runs
"""


def main(arguments: Sequence[str]) -> int:
    """Parse, do, and return the exit status: 0 fine, 1 a run failed, 2 a mistake, 130 interrupted."""
    parser = _parser()
    args = parser.parse_args(_with_default_command(list(arguments)))
    args.arguments = arguments
    try:
        return int(args.command(args))
    except BrokenPipeError:  # `... | head` has read enough
        return 0
    except (ValueError, OSError) as error:
        if os.environ.get("CONTISEG_TRACEBACK"):
            raise
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130


def _with_default_command(arguments: list[str]) -> list[str]:
    commands = {"run", "ls", "show", "prepare", "verify", "report"}
    if arguments and (arguments[0] in commands or arguments[0] in ("-h", "--help")):
        return arguments
    return ["run", *arguments]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_benchmark.py",
        description="Compare methods for continual image segmentation under one protocol.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="{run,ls,show,prepare,verify,report}"
    )
    _add_run(commands)
    ls = commands.add_parser("ls", help="list the protocols or the methods")
    ls.add_argument("what", choices=("protocols", "methods"))
    ls.set_defaults(command=_ls)
    show = commands.add_parser("show", help="print a protocol's card: steps, classes, image counts, rules")
    show.add_argument("protocol", help="a name of `ls protocols`, or a .toml file")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.add_argument("--runs", type=Path, default=Path("runs"), help="its cache is used (default: runs)")
    _add_task_and_data(show)
    show.set_defaults(command=_show)
    _add_data_commands(commands)
    report = commands.add_parser("report", help="redraw the leaderboards from the records of a folder")
    report.add_argument("--protocol", help="only these (comma-separated); all by default")
    report.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of the records (default: runs)"
    )
    report.set_defaults(command=_report)
    return parser


def _add_run(commands: argparse._SubParsersAction) -> None:
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
        "--jobs",
        type=int,
        metavar="N",
        help="runs side by side, a process each (default: one a core, up to 4, at mini scale on the "
        "CPU; else 1)",
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
    _add_task_and_data(run)
    run.set_defaults(command=_run)


def _add_data_commands(commands: argparse._SubParsersAction) -> None:
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


def _add_task_and_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task",
        choices=TASKS,
        help="what is segmented (default: as the protocol's name or file says, else semantic)",
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        help="folder with the data sets (default: ./data, and where that has none, a synthetic stand-in)",
    )


def _run(args: argparse.Namespace) -> int:
    # Heavy imports wait until the command line is known to be right.
    from benchmarks.device import choose_device, choose_workers
    from benchmarks.grid import plan_text, run_grid, write_reports
    from benchmarks.plan import make_run, open_benchmark, reject_unknown_methods
    from benchmarks.run import RunOptions
    from benchmarks.settings import Setting, reject_unknown_targets
    from benchmarks.side_by_side import SideBySide, choose_jobs, end_with_parent, name_of
    from methods.method import UnsuitableRecipe
    from methods.registry import find_methods

    settings = [Setting.parse(text) for text in args.settings]
    seeds = _seeds(args.seeds)
    task = _task(args.task, _split(args.protocol))
    methods = find_methods(args.methods, task)
    reject_unknown_targets(settings, [method.key for method in methods])
    device = choose_device(args.device, args.deterministic)
    _check_writable(args.runs)
    benchmarks = [open_benchmark(p, task, args.data_root, args.runs) for p in _split(args.protocol)]
    _reject_equal_names(benchmarks)
    for b in benchmarks:
        reject_unknown_methods(b, methods)
    runs = []
    for b, method in itertools.product(benchmarks, methods):
        scale = args.scale or _default_scale(b, device.type)
        try:
            runs += [make_run(b, method, scale, seed, settings, device.type) for seed in seeds]
        except UnsuitableRecipe as error:
            if method.key in _split(args.methods):
                raise
            if not args.only:
                print(f"{b.protocol.name}: {method.key} is left out: {error}", file=sys.stderr)
    workers = choose_workers(args.workers, device)
    options = RunOptions(device, workers, args.checkpoint_seconds)
    if args.only:
        end_with_parent()
        return 1 if run_grid([r for r in runs if name_of(r) == args.only], args.runs, options).failed else 0
    jobs = choose_jobs(args.jobs, runs, device.type)
    for b in benchmarks:
        kind = (
            "SYNTHETIC STAND-IN, not comparable with published numbers"
            if b.dataset.is_synthetic
            else "real data"
        )
        print(f"{b.protocol.name}: {b.dataset.title}, {b.protocol.setting}; {kind}", file=sys.stderr)
    beside = f", {jobs} side by side" if jobs > 1 else ""
    print(
        f"{len(runs)} runs ({len(methods)} methods, seeds {args.seeds}) on {device}{beside}", file=sys.stderr
    )
    if args.dry_run:
        print(plan_text(runs, args.runs))
        return 0
    beside_each_other = SideBySide(args.arguments, args.runs, options, jobs) if jobs > 1 else None
    outcome = run_grid(runs, args.runs, options, beside_each_other)
    paths = write_reports([b.protocol.name for b in benchmarks], args.runs)
    print(f"\n{outcome.trained} trained, {outcome.kept} kept, {outcome.failed} failed. "
          f"Leaderboards: {', '.join(str(path) for path in paths if path.suffix == '.md')}")  # fmt: skip
    return 1 if outcome.failed else 0


def _ls(args: argparse.Namespace) -> int:
    if args.what == "methods":
        from methods.registry import builtin_methods

        for method in builtin_methods().values():
            info = method.info
            venue = f"{info.venue} {info.year}" if info.venue else "baseline"
            print(
                f"{method.key:<12} {info.title:<18} {venue:<12} {','.join(info.tasks):<10} {info.provenance}"
            )
        return 0
    from protocols import names

    also: dict[str, list[str]] = {}
    for alias, name in names.aliases().items():
        also.setdefault(name, []).append(alias)
    for name in (name for task in TASKS for name in names.known(task)):
        protocol = names.parse(name)
        other = f"  also {', '.join(also[name])}" if name in also else ""
        print(f"{name:<32} {len(protocol.steps):>2} steps  {protocol.setting}{other}")
    return 0


def _show(args: argparse.Namespace) -> int:
    from benchmarks.plan import open_card

    card, text = open_card(args.protocol, _task(args.task, [args.protocol]), args.data_root, args.runs)
    print(json.dumps(card, indent=2, ensure_ascii=False) if args.json else text)
    return 0


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


def _report(args: argparse.Namespace) -> int:
    from benchmarks.grid import write_reports
    from reports.load import load_records

    if not args.runs.is_dir():
        raise FileNotFoundError(f"{args.runs}: no such folder; give --runs the folder of an earlier run")
    known = sorted({record.protocol.name for record in load_records(args.runs)[0]})
    chosen = _split(args.protocol) if args.protocol else known
    for name in chosen:
        if name not in known:
            raise ValueError(
                f"--protocol {name!r}: no record of it in {args.runs}; there are: {', '.join(known)}"
            )
    paths = write_reports(chosen, args.runs)
    print(f"\nLeaderboards: {', '.join(str(path) for path in paths if path.suffix == '.md') or 'none'}")
    return 0


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _reject_equal_names(benchmarks: Sequence[Any]) -> None:
    names = [b.protocol.name for b in benchmarks]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"--protocol: {name!r} is given twice (an alias, or two files); leave one of them out"
            )


def _task(asked: str | None, protocols: Sequence[str]) -> str:
    """The one task of a command. Raises ValueError where its protocols are of several."""
    from protocols import custom, names

    tasks = {
        (custom.task_of(Path(p)) if p.endswith(".toml") else asked or names.task_in(p)) or TASKS[0]
        for p in protocols
    }
    if len(tasks) > 1:
        raise ValueError(
            f"--protocol {','.join(protocols)}: {' and '.join(sorted(tasks))} protocols are run apart: "
            "give one command each"
        )
    return tasks.pop() if tasks else TASKS[0]


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in _split(text)]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {text!r}: write different numbers from 0 on, such as 0,1,2")
    return seeds


def _default_scale(benchmark: object, device: str) -> str:
    from benchmarks.plan import Benchmark

    assert isinstance(benchmark, Benchmark)
    by_paper = benchmark.recipe or (device == "cuda" and not benchmark.dataset.is_synthetic)
    return "paper" if by_paper else "mini"


def _check_writable(folder: Path) -> None:
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"--runs {folder}: cannot be written ({error.strerror}); give another folder"
        ) from error
