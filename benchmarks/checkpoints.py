"""Networks after one step as files of their own: safetensors, with a card that says what is in them.

`import-checkpoint` and `export` write them, `run --checkpoint` reads them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.fingerprint import of_file
from benchmarks.store import packed
from methods.method import Method, MethodClass
from methods.networks.checkpoints import misfits
from protocols.protocol import Protocol, Step

CARD = "contiseg"
"""The one entry of a file's metadata: several would be written in another order each time."""
VERSION = 1


@dataclass(frozen=True)
class CheckpointCard:
    """What a checkpoint says of itself."""

    method: str
    """The key of the method whose network it is."""
    protocol: str
    task: str
    step: int
    """Counted from 0."""
    classes: tuple[str, ...]
    """The class of each channel of the network, as far as they were learnt; the background is one."""
    source: str
    """The file that it was made of, or the run that trained it."""
    sha256: str
    """Of that file, or the key of the stored step."""
    lacks: str = ""
    """What keeps later steps from being trained from it; "" for nothing."""
    incomplete: tuple[str, ...] = ()
    """Parameters that the source did not have, left as they were initialised."""
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)
    version: int = VERSION


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint on disk whose card has been read."""

    path: Path
    card: CheckpointCard

    @cached_property
    def sha256(self) -> str:
        return of_file(str(self.path))

    @property
    def name(self) -> str:
        """File and the beginning of its hash, as a row's name has them."""
        return f"{self.path.name}.{self.sha256[:8]}"

    def tensors(self) -> dict[str, Tensor]:
        """Raises ValueError for a damaged file."""
        return _read(self.path)[1]


def read_checkpoint(path: Path) -> CheckpointFile:
    """Raises ValueError, in one line, for a file that none of our commands wrote, and FileNotFoundError."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; `import-checkpoint` and `export` write them")
    return CheckpointFile(path, _read(path)[0])


def write_checkpoint(path: Path, tensors: dict[str, Tensor], card: CheckpointCard) -> None:
    """Atomically. Raises ValueError where it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    metadata = {CARD: json.dumps(dataclasses.asdict(card), sort_keys=True)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(packed(tensors), temporary, metadata=metadata)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise ValueError(f"{path}: cannot be written ({error}); choose another place for --out") from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def class_names(protocol: Protocol, step: int) -> tuple[str, ...]:
    """The class of each channel after `step`."""
    return tuple(protocol.class_names[label] for label in protocol.channels(step))


def restore(method: Method, step: Step, checkpoint: CheckpointFile) -> None:
    """Bring a method that was just built into the state after `step`.

    Raises ValueError, with all that does not fit, where it is another network's.
    """
    tensors = checkpoint.tensors()
    method.grow_to(step)
    found = {name: t for name, t in tensors.items() if not name.startswith(method.carried)}
    wrong = misfits(method.network.state_dict(), found)
    if wrong:
        raise ValueError(f"{checkpoint.path}: does not fit {method.key}: {summary(wrong)}")
    try:
        method.restore(step, with_defaults(method, tensors))
    except (RuntimeError, KeyError) as error:
        raise ValueError(
            f"{checkpoint.path}: does not fit {method.key}: {' '.join(str(error).split())}"
        ) from error


def with_defaults(method: Method, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, and for those that are absent what the method has just now."""
    return {**method.tensors(), **tensors}


def summary(wrong: dict[str, list[str]], at_most: int = 3) -> str:
    """In one line, `at_most` of each kind."""
    return "; ".join(
        f"{kind} {len(keys)}: {', '.join(keys[:at_most])}{', ...' if len(keys) > at_most else ''}"
        for kind, keys in wrong.items()
    )


def check_for_run(
    files: Sequence[CheckpointFile], protocol: Protocol, method: MethodClass, evaluates_only: bool
) -> dict[int, CheckpointFile]:
    """The files by the step of a run that each of them is for.

    Raises ValueError where their steps, their classes or their method are not the run's, or where training
    cannot go on from them.
    """
    by_step: dict[int, CheckpointFile] = {}
    last = len(protocol.steps) - 1
    for file in files:
        card, step = file.card, file.card.step
        if step in by_step or step > last:
            problem = "there already" if step in by_step else f"not in {protocol.name}, whose last is {last}"
            raise ValueError(f"{file.path}: is of step {step}, which is {problem}; leave it out")
        if card.classes != class_names(protocol, step):
            raise ValueError(
                f"{file.path}: its {len(card.classes)} channels ({card.protocol}, step {step}) are not the "
                f"{len(protocol.channels(step))} classes of {protocol.name} after step {step}, in their order"
            )
        if step and card.method != method.key:
            raise ValueError(
                f"{file.path}: is {card.method}'s, and only a first step can be shared; "
                f"give --methods {card.method}"
            )
        by_step[step] = file
    by_step = dict(sorted(by_step.items()))
    _check_steps(by_step, len(protocol.steps), evaluates_only)
    return by_step


def _check_steps(by_step: dict[int, CheckpointFile], count: int, evaluates_only: bool) -> None:
    if evaluates_only or not by_step:
        return
    steps = list(by_step)
    if steps != list(range(len(steps))):
        raise ValueError(
            f"--checkpoint: of the steps {', '.join(map(str, steps))}; to go on training give those of all "
            "steps from 0 on, or evaluate these alone with --eval-only"
        )
    newest = by_step[steps[-1]]
    if newest.card.incomplete:
        raise ValueError(f"{newest.path}: was imported in part, and can only be evaluated: --eval-only")
    if newest.card.lacks and len(steps) < count:
        raise ValueError(
            f"{newest.path}: lacks {newest.card.lacks}, so it can be evaluated (--eval-only) but "
            "not trained on"
        )


def _read(path: Path) -> tuple[CheckpointCard, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path}: is no checkpoint of ours ({' '.join(str(error).split())}); read a file of the official "
            "code with `python run_benchmark.py import-checkpoint METHOD FILE`"
        ) from error
    return _card(path, metadata), tensors


def _card(path: Path, metadata: dict[str, str]) -> CheckpointCard:
    if CARD not in metadata:
        raise ValueError(f"{path}: has no card of ours; read it with `import-checkpoint METHOD FILE` first")
    try:
        values = json.loads(metadata[CARD])
        card = CheckpointCard(**values)
        classes, incomplete = (tuple(map(str, names)) for names in (card.classes, card.incomplete))
        card = dataclasses.replace(card, classes=classes, incomplete=incomplete)
    except (TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: its card cannot be read ({reason}); make the file again") from error
    texts = (card.method, card.protocol, card.task, card.source, card.sha256, card.lacks)
    if card.version != VERSION:
        raise ValueError(f"{path}: its card is of version {card.version!r}, not {VERSION}; update ContiSeg")
    if type(card.step) is not int or card.step < 0 or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path}: its card has values of the wrong type; make the file again")
    return card
