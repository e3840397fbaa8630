"""Files of the official code -> checkpoints of ours."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from benchmarks.checkpoints import CheckpointCard, class_names, sha256_of, summary, with_defaults
from benchmarks.configure import Setup
from methods.method import Method, MethodClass
from methods.networks.checkpoints import misfits, read_state
from protocols.protocol import Protocol, Step


@dataclass(frozen=True)
class Imported:
    """What was read, by our names; and what was amiss and let pass."""

    tensors: dict[str, Tensor]
    card: CheckpointCard
    misfits: dict[str, list[str]]


def import_official(
    files: Sequence[Path],
    method_class: MethodClass,
    setup: Setup,
    protocol: Protocol,
    step_index: int,
) -> Imported:
    """The network that the official code saved after the step `step_index` of `protocol`.

    Several files are read as one: SimCIS's bank of queries lies beside its network. What does not fit is in
    `misfits`: parameters that the files do not have, or of another shape, are as they were initialised, and
    those that the network does not have are left out.

    Raises ValueError, naming the file, for one that cannot be read.
    """
    trained = protocol.joint() if method_class.trains_jointly else protocol
    if not 0 <= step_index < len(trained.steps):
        last = len(trained.steps) - 1
        raise ValueError(f"--step {step_index}: {method_class.key} on {protocol.name} has steps 0 to {last}")
    step, source = trained.steps[step_index], " + ".join(file.name for file in files)
    state = _read_all(files)
    method = _grown(method_class, setup, trained, step)
    tensors = _by_our_names(method, step, state, source)
    own = method.tensors()
    wrong = _misfits(method, own, tensors)
    faulty = {fault.split(" ", 1)[0] for kind in ("misshapen", "damaged") for fault in wrong.get(kind, ())}
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith(method.carried) or (name in own and name not in faulty)
    }
    card = CheckpointCard(
        method=method.key,
        protocol=protocol.name,
        task=protocol.task,
        step=step_index,
        classes=class_names(trained, step_index),
        source=source,
        sha256=" + ".join(sha256_of(file) for file in files),
        lacks=method.lacks(step, tensors),
        incomplete=tuple(sorted({*wrong.get("missing", ()), *faulty})),
        recipe=json.loads(json.dumps(dataclasses.asdict(setup.recipe))),
    )
    return Imported(with_defaults(method, kept), card, wrong)


def report(imported: Imported) -> str:
    """What was read, and all that was amiss, one parameter a line."""
    card = imported.card
    lines = [
        f"{card.source}: {card.method} after step {card.step} of {card.protocol}, "
        f"{len(card.classes)} channels, {len(imported.tensors)} tensors",
        *(f"  {kind}: {key}" for kind, keys in imported.misfits.items() for key in keys),
    ]
    if card.lacks:
        lines.append(f"  lacks {card.lacks}: it can be evaluated, not trained on")
    return "\n".join(lines)


def refusal(imported: Imported) -> str:
    """Why it was not written, in one line."""
    card = imported.card
    return (
        f"{card.source}: does not fit {card.method} after step {card.step} of {card.protocol} "
        f"({len(card.classes)} channels): {summary(imported.misfits)}; check --protocol, --task, --step, "
        "--scale and --set, or keep what fits with --partial"
    )


def _read_all(files: Sequence[Path]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for file in files:
        found = read_state(file)
        for key in found:
            if key in state:
                raise ValueError(f"{file}: {key} is in another of the files too; give each of them once")
        state |= found
    return state


def _grown(method_class: MethodClass, setup: Setup, protocol: Protocol, step: Step) -> Method:
    """A method as it is after `step`, without anything learnt."""
    method = method_class(setup.hyperparameters, dataclasses.replace(setup.recipe, weights=""))
    method.build(protocol)
    method.step = step
    method.grow_to(step)
    return method


def _by_our_names(method: Method, step: Step, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    try:
        return method.official_tensors(step, state)
    except (KeyError, IndexError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{source}: is not a file of {method.key}'s official code ({type(error).__name__}: {reason})"
        ) from error


def _misfits(
    method: Method, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> dict[str, list[str]]:
    """Of the network; what a method carries beside it may be absent, and is told by `lacks`."""

    def network(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in named.items() if not name.startswith(method.carried)}

    return misfits(network(own), network(tensors))
