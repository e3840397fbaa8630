"""What several commands share of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from protocols.protocol import TASKS

EXAMPLES = """\
examples:
  python run_benchmark.py --protocol ade-100-10 --methods all
  python run_benchmark.py --protocol voc-15-5,voc-15-1 --methods mib,finetune --seeds 0,1,2 --data-root DIR
  python run_benchmark.py --protocol my_protocol.toml --methods mib,path/to/my_method.py
  python run_benchmark.py --protocol voc-15-1 --methods mib --set mib.kd_weight=10 --dry-run
  python run_benchmark.py import-checkpoint mib 5.pth --protocol voc-15-1 --out mib.safetensors
  python run_benchmark.py --protocol voc-15-1 --methods mib --checkpoint mib.safetensors --eval-only
  python run_benchmark.py export ade-100-10 mib --step 0
  python run_benchmark.py ls protocols
  python run_benchmark.py show ade-100-10 --task panoptic
  python run_benchmark.py prepare ade20k --data-root DIR
  python run_benchmark.py report --runs runs
"""


def add_task_and_data(parser: argparse.ArgumentParser) -> None:
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


def check_out(path: Path) -> None:
    """Raises ValueError unless it is the name of a file of weights."""
    if path.suffix != ".safetensors":
        raise ValueError(f"--out {path}: give a name that ends in .safetensors")


def split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def one_task(asked: str | None, protocols: Sequence[str]) -> str:
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
