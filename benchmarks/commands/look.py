"""`ls` and `show`: which protocols and methods there are, and a protocol's card."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.commands.arguments import add_task_and_data, one_task
from protocols.protocol import TASKS


def add(commands: argparse._SubParsersAction) -> None:
    ls = commands.add_parser("ls", help="list the protocols or the methods")
    ls.add_argument("what", choices=("protocols", "methods"))
    ls.set_defaults(command=_ls)
    show = commands.add_parser("show", help="print a protocol's card: steps, classes, image counts, rules")
    show.add_argument("protocol", help="a name of `ls protocols`, or a .toml file")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.add_argument("--runs", type=Path, default=Path("runs"), help="its cache is used (default: runs)")
    add_task_and_data(show)
    show.set_defaults(command=_show)


def _ls(args: argparse.Namespace) -> int:
    if args.what == "methods":
        from methods.registry import builtin_methods
        from reports.text import plain_table

        infos = {key: method.info for key, method in builtin_methods().items()}
        rows = [
            [
                key,
                info.title,
                f"{info.venue} {info.year}" if info.venue else "",
                ", ".join(info.tasks),
                info.provenance,
            ]
            for key, info in infos.items()
        ]
        print(plain_table(["method", "title", "published", "tasks", "provenance"], rows, set()))
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

    card, text = open_card(args.protocol, one_task(args.task, [args.protocol]), args.data_root, args.runs)
    print(json.dumps(card, indent=2, ensure_ascii=False) if args.json else text)
    return 0
