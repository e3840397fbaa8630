"""The names of protocols: `voc-15-1-disjoint+mib@b` -> Protocol.

<dataset>-<base>-<increment>[-overlapped|-disjoint|-partitioned][+mib][@order]   overlapped by default
<dataset>-offline                                                                a single step
ade-<base>-<increment>-panoptic|-instance[-disjoint|-partitioned][@order]        segments, not pixels
cityscapes-domain-11-5|11-1|1-1|offline[-clean]                                  new cities a step
"""

from __future__ import annotations

import difflib
import re

from protocols.datasets import DATASETS
from protocols.datasets.cityscapes import CITIES
from protocols.orders import ORDERS, SORTED_INSIDE_STEPS, class_order, cut
from protocols.protocol import RULES, SETTINGS, TASKS, Protocol, Step

SEMANTIC = TASKS[0]

HINT = "`run_benchmark.py ls protocols` lists them all; one's own is given by its .toml file"
_TAIL = (
    r"(?:-(?P<task>semantic|panoptic|instance))?(?:-(?P<setting>overlapped|disjoint|partitioned))?"
    r"(?P<mib>\+mib)?(?:@(?P<order>[A-Za-z0-9-]+))?"
)
_CLASS_NAME = re.compile(
    rf"(?P<dataset>voc|ade|cityscapes)-(?:(?P<base>\d+)-(?P<increment>\d+)|offline){_TAIL}"
)
_HEAD = re.compile(rf"[^+@]*?(?=(?:-clean)?{_TAIL}$)")
"""What may be an alias: the name without its tail."""
_DOMAIN_NAME = re.compile(r"cityscapes-domain-(?P<cut>11-5|11-1|1-1|offline)(?P<clean>-clean)?")
_DOMAIN_CUTS = {"11-5": [11, 5, 5], "11-1": [11] + [1] * 10, "1-1": [1] * 21, "offline": [21]}
_LEAKED_PER_CENT = {"11-5": 71.4, "11-1": 72.1, "1-1": 77.8}

_PUBLISHED = {
    "voc": ("19-1", "15-5", "15-1", "10-10", "10-5", "10-2", "10-1", "5-5", "5-3", "5-1", "2-2", "2-1"),
    "ade": ("100-50", "100-10", "100-5", "50-50", "50-20", "50-10"),
    "cityscapes": ("14-1", "10-9"),
}
_PUBLISHED_PANOPTIC = ("100-50", "100-10", "100-5", "50-50", "50-20", "50-10")
_PUBLISHED_INSTANCE = ("50-50", "50-10", "50-5")
_MIB_PAPER = {"voc": ("19-1", "15-5", "15-1"), "ade": ("100-50", "100-10", "50-50")}


def aliases() -> dict[str, str]:
    """Names used in papers and repositories -> our canonical name."""
    names = {
        "voc-15-5s": "voc-15-1",
        "voc-10-10s": "voc-10-1",
        "voc-10-5-5": "voc-10-5",
        "voc-19-1b": "voc-19-1@19-1b",
        "ade-50": "ade-50-50",
        "ade-50-50-50": "ade-50-50",
        "cityscapes-domain-10-1": "cityscapes-domain-11-1",
        "cityscapes_domain-10-1": "cityscapes-domain-11-1",
    }
    names |= {f"voc-15-5s_{order}": f"voc-15-1@{order}" for order in ORDERS["voc"] if len(order) == 1}
    for order in ORDERS["ade"]:
        names |= {f"ade-50{order}": f"ade-50-50@{order}"}
        names |= {f"ade-{cut}{order}": f"ade-{cut}@{order}" for cut in ("100-50", "100-10", "50-50")}
    names |= {f"cityscapes_domain-{cut}": f"cityscapes-domain-{cut}" for cut in _DOMAIN_CUTS}
    return names


def known(task: str = SEMANTIC) -> list[str]:
    """The canonical names of the literature's protocols for `task`; other even divisions parse too."""
    if task != SEMANTIC:
        divisions = {"panoptic": _PUBLISHED_PANOPTIC, "instance": _PUBLISHED_INSTANCE}[task]
        return [f"ade-{division}-{task}" for division in (*divisions, "offline")]
    names = []
    for dataset, divisions in _PUBLISHED.items():
        names += [f"{dataset}-{division}" for division in divisions]
        names.append(f"{dataset}-offline")
    names += [f"voc-{division}-disjoint" for division in ("19-1", "15-5", "15-1", "10-1")]
    names += [f"voc-{d}{setting}+mib" for d in _MIB_PAPER["voc"] for setting in ("", "-disjoint")]
    names += [f"ade-{d}-partitioned+mib{order}" for d in _MIB_PAPER["ade"] for order in ("", "@b")]
    names += [f"voc-15-1@{order}" for order in ORDERS["voc"] if len(order) == 1] + ["voc-19-1@19-1b"]
    names += [f"ade-{d}@{order}" for d in _MIB_PAPER["ade"] for order in ORDERS["ade"]]
    names += [
        f"cityscapes-domain-{division}{clean}" for division in _LEAKED_PER_CENT for clean in ("", "-clean")
    ]
    names.append("cityscapes-domain-offline")
    return names


def task_in(name: str) -> str | None:
    """The task that a protocol's name ends on or implies, as "panoptic" in ade-100-10-panoptic, else None."""
    match = _CLASS_NAME.fullmatch(_resolve_alias(name))
    return match["task"] if match else None


def parse(name: str, task: str | None = None) -> Protocol:
    """The protocol called `name`, an alias of it, or any other even division of a data set's classes.

    The task is the one in the name, or `task`, or semantic. The result carries the canonical name: aliases
    resolved, "-overlapped" and "@a" left out, the task in it unless it is semantic. ValueError for an unknown
    name (with the nearest known ones), an uneven division, or a task that the data set does not have.
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"unknown task {task!r}: there are {', '.join(TASKS)}")
    resolved = _resolve_alias(name)
    if match := _DOMAIN_NAME.fullmatch(resolved):
        return _domain(match["cut"], bool(match["clean"]), task or SEMANTIC)
    match = _CLASS_NAME.fullmatch(resolved)
    if not match:
        raise ValueError(_unknown(name, task or SEMANTIC))
    if task and match["task"] and task != match["task"]:
        raise ValueError(
            f"protocol {name!r} is for the task {match['task']}, not {task}: leave out one of them"
        )
    return _class_protocol(name, match, task or match["task"] or SEMANTIC)


def _class_protocol(name: str, match: re.Match[str], task: str) -> Protocol:
    dataset, order = match["dataset"], match["order"] or ""
    data = DATASETS[dataset]
    if task not in data.tasks:
        raise ValueError(_without_task(name, task))
    if match["mib"] and task != SEMANTIC:
        raise ValueError(
            f"protocol {name!r}: +mib is about background, which the {task} task does not have: leave it out"
        )
    label_ids = _label_ids(dataset, order, task)
    sizes = _sizes(name, len(label_ids), match["base"], match["increment"])
    pieces = cut(label_ids, sizes, ascending=dataset in SORTED_INSIDE_STEPS and order in ORDERS[dataset])
    preset = "mib" if match["mib"] else "plop"
    return Protocol(
        name=_canonical(match, task),
        dataset=dataset,
        task=task,
        setting=match["setting"] or SETTINGS[0],
        steps=class_steps(pieces),
        class_names=data.class_names,
        background=task == SEMANTIC,
        rules=RULES[preset],
        things=tuple(sorted(data.things)) if task != SEMANTIC else (),
    )


def class_steps(pieces: list[tuple[int, ...]]) -> tuple[Step, ...]:
    """The steps that learn `pieces` (label ids) one after another."""
    starts = range(len(pieces))
    return tuple(Step(i, pieces[i], tuple(c for piece in pieces[:i] for c in piece)) for i in starts)


def _resolve_alias(name: str) -> str:
    """Literature names, also with a task, setting, rules or order behind them: voc-15-5s-disjoint."""
    table = aliases()
    head = _HEAD.match(name)
    if not head or head[0] not in table:
        return name
    target, tail = table[head[0]], name[head.end() :]
    base, at, order = target.partition("@")
    return name if at and "@" in tail else base + tail + at + order


def _label_ids(dataset: str, order: str, task: str) -> tuple[int, ...]:
    """All label ids to be learnt, in class order; for instances the things alone."""
    ids = class_order(dataset, order, len(DATASETS[dataset].class_names) - 1)
    return tuple(i for i in ids if i in DATASETS[dataset].things) if task == "instance" else ids


def _sizes(name: str, total: int, base: str | None, increment: str | None) -> list[int]:
    """Classes a step. ValueError when the increments do not come out even."""
    if base is None or increment is None:
        return [total]
    first, each = int(base), int(increment)
    if not 0 < first < total or each == 0:
        raise ValueError(
            f"protocol {name!r}: base and increment must be at least 1 and leave some of the {total} classes"
        )
    steps, rest = divmod(total - first, each)
    if rest:
        domain = f"cityscapes-domain-{base}-{increment}"
        hint = f", or did you mean {domain}?" if domain in known() and name.startswith("cityscapes") else ""
        raise ValueError(
            f"protocol {name!r}: {total - first} classes after the base do not divide into steps of {each}, "
            f"{rest} would be left: choose another increment{hint}"
        )
    return [first] + [each] * steps


def _canonical(match: re.Match[str], task: str) -> str:
    base, increment, setting, order = (match[key] for key in ("base", "increment", "setting", "order"))
    name = f"{match['dataset']}-" + ("offline" if base is None else f"{int(base)}-{int(increment)}")
    if task != SEMANTIC:
        name += f"-{task}"
    if setting not in (None, SETTINGS[0]):
        name += f"-{setting}"
    if match["mib"]:
        name += "+mib"
    return name if order in (None, "a") else f"{name}@{order}"


def _domain(division: str, clean: bool, task: str) -> Protocol:
    """Cityscapes city by city (PLOP `dataset/cityscapes_domain.py`): 19 classes, no background channel."""
    clean = clean and division in _LEAKED_PER_CENT
    name = f"cityscapes-domain-{division}" + ("-clean" if clean else "")
    if task != SEMANTIC:
        raise ValueError(_without_task(name, task))
    class_names = DATASETS["cityscapes"].class_names
    classes = tuple(range(1, len(class_names)))
    sizes = _DOMAIN_CUTS[division]
    seen = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    steps = tuple(
        Step(i, classes, classes if i else (), CITIES[seen[i] : seen[i + 1]], CITIES[: seen[i]])
        for i in range(len(sizes))
    )
    setting = "domain-clean" if clean else "domain"
    notes = _domain_notes(division, clean)
    return Protocol(name, "cityscapes", task, setting, steps, class_names, background=False, notes=notes)


def _domain_notes(division: str, clean: bool) -> tuple[str, ...]:
    pool = (
        "train and val of Cityscapes are pooled and split 80/20 anew: the official val set is trained on too"
    )
    if clean:
        return (
            pool,
            "clean: the test images are the held-out fifths of the cities seen so far, no step trains on one",
        )
    if division not in _LEAKED_PER_CENT:
        return (pool,)
    return pool, (
        f"published split with a leak: {_LEAKED_PER_CENT[division]} % of the last step's test images "
        f"were training images of some step; cityscapes-domain-{division}-clean has no leak"
    )


def _without_task(name: str, task: str) -> str:
    return f"protocol {name!r} has no {task} task: only ade-* has, such as {known(task)[0]}"


def _unknown(name: str, task: str) -> str:
    candidates = [*known(task), *(aliases() if task == SEMANTIC else ())]
    near = difflib.get_close_matches(name, candidates, n=3, cutoff=0.5)
    guess = f"did you mean {', '.join(near)}? " if near else ""
    return f"unknown protocol {name!r}: {guess}{HINT}"
