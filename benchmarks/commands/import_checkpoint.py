"""`import-checkpoint`: what the official code of a method saved."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.commands.arguments import add_task_and_data, check_out, one_task


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "import-checkpoint",
        help="read a checkpoint of a method's official code",
        description="Read what the official code of a method saved after a step, and write it as a "
        "checkpoint of ours, for `run --checkpoint OUT`: with --eval-only, or to train the later steps. "
        "Nothing in a pickle is executed; benchmarks/pickle_to_safetensors.py converts what is more than "
        "tensors.",
    )
    parser.add_argument("method", help="a name of `ls methods`, or a .py file")
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help=".pth, .safetensors or .npz; several are read as one",
    )
    parser.add_argument("--protocol", required=True, help="a name of `ls protocols`, or a .toml file")
    parser.add_argument("--step", type=int, help="counted from 0, as in `show` (default: the last)")
    parser.add_argument("--scale", choices=("paper", "mini"), default="paper", help="default: paper")
    parser.add_argument(
        "--set", action="append", default=[], metavar="METHOD.PARAMETER=VALUE", dest="settings",
        help="as in `run`: a network of other sizes",
    )  # fmt: skip
    parser.add_argument(
        "--partial", action="store_true", help="keep what fits, and let the rest be random: for evaluation"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="a .safetensors file")
    add_task_and_data(parser)
    parser.set_defaults(command=_import)


def _import(args: argparse.Namespace) -> int:
    from benchmarks.checkpoints import write_checkpoint
    from benchmarks.configure import configure
    from benchmarks.importing import import_official, refusal, report
    from benchmarks.plan import open_protocol
    from benchmarks.settings import Setting, reject_unknown_targets
    from methods.registry import find_methods

    check_out(args.out)
    task = one_task(args.task, [args.protocol])
    methods = find_methods(args.method, task)
    if len(methods) > 1:
        raise ValueError(f"{args.method}: {len(methods)} methods; a file is one method's, name that one")
    settings = [Setting.parse(text) for text in args.settings]
    reject_unknown_targets(settings, [methods[0].key])
    protocol, own_recipe, own_methods = open_protocol(args.protocol, task, args.data_root, methods[0])
    setup = configure(protocol, own_recipe, own_methods, methods[0], args.scale, settings)
    step = (0 if methods[0].trains_jointly else len(protocol.steps) - 1) if args.step is None else args.step
    imported = import_official(args.files, methods[0], setup, protocol, step)
    print(report(imported))
    if imported.misfits and not args.partial:
        raise ValueError(refusal(imported))
    write_checkpoint(args.out, imported.tensors, imported.card)
    print(f"wrote {args.out}")
    return 0
