"""`export`: the network of a finished step as a checkpoint, with its model card."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.commands.arguments import check_out
from reports.record import Record


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "export",
        help="write the network of a finished step, with a model card",
        description="Write the network that a run has after a step as one .safetensors file, which "
        "`run --checkpoint` reads, and beside it a model card in Markdown.",
    )
    parser.add_argument("protocol", help="as the leaderboard is named")
    parser.add_argument("method", help="as the row is named, such as mib or mib[kd_weight=10]")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--step", type=int, help="counted from 0, as in `show` (default: the last)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the run (default: runs)")
    parser.add_argument(
        "--out", type=Path, metavar="OUT", help="a .safetensors file (default: in exports/ of that folder)"
    )
    parser.set_defaults(command=_export)


def _export(args: argparse.Namespace) -> int:
    if args.out is not None:
        check_out(args.out)
    weights, page = export(args.runs, args.protocol, args.method, args.seed, args.step, args.out)
    print(f"wrote {weights} and {page}")
    return 0


def export(
    runs: Path, protocol: str, method: str, seed: int, step: int | None, out: Path | None
) -> tuple[Path, Path]:
    """Write both files; returns their paths. `step` None: the last.

    Raises ValueError or FileNotFoundError, in one line, where there is no such run or its weights are gone.
    """
    from benchmarks.checkpoints import CheckpointCard, sha256_of, write_checkpoint
    from benchmarks.store import Store
    from reports.files import write_text
    from reports.model_card import model_card
    from reports.samples import folder_of

    record = _find(runs, protocol, method, seed)
    last = len(record.steps) - 1
    step = last if step is None else step
    if not 0 <= step <= last:
        raise ValueError(f"--step {step}: {method} on {protocol} has the steps 0 to {last}")
    measured, store = record.steps[step], Store(runs / "store")
    if not store.has(measured.key):
        raise FileNotFoundError(
            f"{store.folder / measured.key}: the step is no longer in the store; run the benchmark again"
        )
    first = len(record.protocol.steps) - len(record.steps) if record.knows_last_step_alone else 0
    row = folder_of(record.method.name)
    weights = out or runs / "exports" / protocol / f"{row}-seed-{seed}-step-{step}.safetensors"
    card = CheckpointCard(
        method=record.method.key,
        protocol=record.protocol.name,
        task=record.protocol.task,
        step=step if record.is_offline else first + step,
        classes=tuple(record.protocol.class_names[label] for label in measured.channels),
        source=f"{record.method.name}/seed-{seed}",
        sha256=measured.key,
        recipe=dict(record.recipe),
    )
    write_checkpoint(weights, store.tensors(measured.key), card)
    page = weights.with_suffix(".md")
    write_text(page, model_card(record, step, weights.name, sha256_of(weights)))
    return weights, page


def _find(runs: Path, protocol: str, method: str, seed: int) -> Record:
    from reports.load import load_records

    if not runs.is_dir():
        raise FileNotFoundError(f"{runs}: no such folder; give --runs the folder of an earlier run")
    records = load_records(runs)[0]
    for record in records:
        if (record.protocol.name, record.method.name, record.seed) == (protocol, method, seed):
            if not record.finished:
                raise ValueError(f"{method} on {protocol}, seed {seed}: the run failed: {record.reason}")
            return record
    there = sorted({f"{r.protocol.name} {r.method.name} --seed {r.seed}" for r in records if r.finished})
    known = ", ".join(there) or "none"
    raise ValueError(f"no run of {method} on {protocol} with seed {seed} in {runs}; there are: {known}")
