"""`verify`: every photograph and mask is opened; what is missing, damaged or does not fit is named."""

from __future__ import annotations

import os
from pathlib import Path

from tqdm import tqdm

from protocols.datasets import DATASETS, SPLITS, Dataset, Sample
from protocols.datasets.dataset import check_size
from protocols.datasets.synthetic import read_marker
from protocols.prepare.processes import in_processes
from protocols.prepare.sources import Say, Source, check_archives


def verify(source: Source, data_root: Path, say: Say, workers: int | None = None) -> list[str]:
    """Check a data set in `data_root`; tell `say` what was found, and return what is wrong, one line each.

    FileNotFoundError where there is no such data set.
    """
    dataset = DATASETS[source.key](source.folder(data_root))
    workers = workers or os.cpu_count() or 1
    problems = []
    for split in SPLITS:
        problems += _check_split(dataset, split, say, workers)
    problems += source.check(dataset, say, workers)
    return [*problems, *check_archives(source, dataset.root, data_root, say)]


def _check_split(dataset: Dataset, split: str, say: Say, workers: int) -> list[str]:
    try:
        samples = dataset.samples(split)
    except (FileNotFoundError, ValueError) as error:
        return [str(error)]
    problems = []
    expected = (read_marker(dataset.root) or dataset.official_sizes).get(split)
    if len(samples) != expected:
        problems.append(f"{split}: {len(samples)} images are listed instead of {expected}")
    found = in_processes(sample_problems, samples, dataset, workers=workers)
    for lines in tqdm(found, total=len(samples), desc=f"checking {split}", unit="image", disable=None):
        problems += lines
    say(f"{split}: {len(samples)} images and their masks, problems: {len(problems)}")
    return problems


def sample_problems(sample: Sample, dataset: Dataset) -> list[str]:
    """One line for each file of the sample that is missing or damaged, or if their sizes differ."""
    problems = []
    image = labels = None
    try:
        image = dataset.read_image(sample)
    except (FileNotFoundError, ValueError) as error:
        problems.append(str(error))
    try:
        labels = dataset.read_labels(sample)
    except (FileNotFoundError, ValueError) as error:
        problems.append(str(error))
    if image is not None and labels is not None:
        try:
            check_size(sample.image, image, f"its mask {sample.mask}", labels.shape)
        except ValueError as error:
            problems.append(str(error))
    return problems
