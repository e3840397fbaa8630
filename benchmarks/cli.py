"""The command line: one file a group of commands, in `benchmarks/commands/`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Sequence

from benchmarks.commands import data, export, import_checkpoint, look, report, run, status, validate
from benchmarks.commands.arguments import EXAMPLES
from benchmarks.place import EndedByAnother, only_first_speaks
from benchmarks.stopping import CANNOT_WRITE, Interrupted, signals_stop
from reports.files import CannotWrite


def main(arguments: Sequence[str]) -> int:
    """Parse, do, and return the exit status.

    0 fine, 1 a run failed, 2 a mistake, 74 nothing can be written any more, 128 and more stopped by a signal.
    """
    with only_first_speaks(), signals_stop():
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    parser, names = _parser()
    args = parser.parse_args(_with_default_command(list(arguments), names))
    args.arguments = arguments
    try:
        return int(args.command(args))
    except BrokenPipeError:  # `... | head` has read enough
        return 0
    except EndedByAnother as error:
        return error.status
    except (ValueError, OSError) as error:
        if os.environ.get("CONTISEG_TRACEBACK"):
            raise
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return CANNOT_WRITE if isinstance(error, CannotWrite) else 2
    except Interrupted as stop:
        if not getattr(args, "only", None):  # else the command that started this one says it
            print(
                f"\nstopped by {stop.name}; the same command goes on where this one stopped", file=sys.stderr
            )
        return stop.status


def _with_default_command(arguments: list[str], known: Collection[str]) -> list[str]:
    if arguments and (arguments[0] in known or arguments[0] in ("-h", "--help")):
        return arguments
    return ["run", *arguments]


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser, and the names of its commands."""
    parser = argparse.ArgumentParser(
        prog="run_benchmark.py",
        description="Compare methods for continual image segmentation under one protocol.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True)
    for group in (run, status, look, data, report, validate, import_checkpoint, export):
        group.add(commands)
    names = list(commands.choices)
    commands.metavar = f"{{{','.join(names)}}}"
    return parser, names
