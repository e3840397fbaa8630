"""Records as a large study would leave them, drawn at random: for timings, and for tests of many rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reports.codec import dumps

Plain = dict[str, Any]
PIXELS = 100_000


def many_records(
    protocols: int, methods: int, seeds: int, steps: int = 6, classes: int = 150
) -> Iterator[tuple[Path, Plain]]:
    """Where each record lies below a runs folder, and its plain JSON. The same numbers at every call."""
    random = np.random.default_rng(0)
    for number in range(protocols):
        protocol = plain_protocol(f"study-{number}", steps, classes)
        truth = random.integers(0, PIXELS, classes + 1)
        for method in range(methods):
            for seed in range(seeds):
                path = Path("records") / protocol["name"] / f"method-{method}" / f"seed-{seed}.json"
                yield path, plain_record(random, protocol, truth, f"method-{method}", seed)


def write_records(folder: Path, *sizes: int, **more: int) -> list[Path]:
    """Write the records of `many_records` below the runs folder."""
    paths = []
    for path, plain in many_records(*sizes, **more):
        paths.append(folder / path)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_text(dumps(plain) + "\n", encoding="utf-8")
    return paths


def plain_protocol(name: str, steps: int, classes: int) -> Plain:
    """Two thirds of the classes first, the others in equal steps; with background, as in ADE20K."""
    increment = classes // 3 // (steps - 1)
    starts = [1, *(classes - increment * left + 1 for left in range(steps - 1, 0, -1)), classes + 1]
    pieces = [list(range(start, end)) for start, end in pairwise(starts)]
    rules = {"void_in_training": 255, "future_at_test": 0, "unlabelled_at_test": 0, "other_classes": 255}
    return {
        "name": name,
        "title": "",
        "dataset": "study",
        "dataset_title": "Study",
        "task": "semantic",
        "setting": "overlapped",
        "rules": {"name": "plop", **rules},
        "background": True,
        "class_names": ["unlabelled", *(f"class {label}" for label in range(1, classes + 1))],
        "steps": [{"classes": piece, "domains": []} for piece in pieces],
        "things": [],
        "notes": [],
    }


def plain_record(
    random: np.random.Generator, protocol: Plain, truth: np.ndarray, method: str, seed: int
) -> Plain:
    """A finished run; `truth` (K + 1,) are the test pixels of each label id."""
    steps, known = [], [0]
    for index, step in enumerate(protocol["steps"]):
        known = known + step["classes"]
        steps.append(_plain_step(random, index, known, truth, f"{method}/seed-{seed}"))
    one_step = {"train_seconds": 60.5, "eval_seconds": 2.25, "peak_memory_mb": 900.5}
    texts = ("python", "torch", "platform", "device_name", "version")
    return {
        "schema": 2,
        "status": "finished",
        "reason": "",
        "key": f"{protocol['name']}-{method}-{seed}",
        "protocol": protocol,
        "method": {
            "name": method,
            "key": method,
            "title": method.title(),
            "venue": "CVPR",
            "year": 2024,
            "provenance": "paper only",
            "origin": f"file: {method}.py",
            "url": "",
        },
        "scale": "mini",
        "seed": seed,
        "device": "cpu",
        "data": {"synthetic": False, "root": "study", "train_images": 20210, "val_images": 2000},
        "hyperparameters": {f"weight_{number}": number / 4 for number in range(8)},
        "overrides": {},
        "recipe": {f"setting_{number}": number / 4 for number in range(28)} | {"dilations": [2, 4, 6]},
        "network": {"name": "DeepLabv3", "backbone": "resnet101", "parameters": 58_000_000},
        "replay_images": 0,
        "steps": steps,
        "cost": {
            "created": "2026-01-02T03:04:05+00:00",
            "steps": [one_step] * len(steps),
            "environment": dict.fromkeys(texts, "some") | {"threads": 2},
        },
    }


def _plain_step(
    random: np.random.Generator, index: int, known: list[int], truth: np.ndarray, run: str
) -> Plain:
    """What is missed is predicted as background."""
    there = truth[known]
    intersection = (there * random.uniform(size=len(known))).astype(int)
    unassigned = there - intersection
    classes = len(known) - 1
    on_background = random.multinomial(unassigned[0], np.full(classes, 1 / classes))
    unassigned[0] = intersection[0]
    columns = {
        "intersection": intersection,
        "ground_truth": there,
        "prediction": np.array([unassigned.sum(), *(intersection[1:] + on_background)]),
        "prediction_on_background": np.array([intersection[0], *on_background]),
        "unassigned": unassigned,
    }
    return {
        "index": index,
        "channels": known,
        "train_images": 2000,
        "test_images": 2000,
        "iterations": 1000,
        "final_loss": {"cross_entropy": 0.25, "distillation": 0.5},
        "counts": {name: column.tolist() for name, column in columns.items()} | {"task": "semantic"},
        "trained_by": run,
        "key": f"{run}-{index}",
    }
