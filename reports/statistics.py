"""What can be said from a few seeds: an interval of the mean, and whether one method beats another.

Both speak of the seeds that were run, nothing else: not of other test images, and not of other protocols.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FEWEST = 3
"""From so many seeds on there is an interval and a test; below, both would pretend."""
RESAMPLES = 1999
LEVEL = 0.95


def bootstrap_intervals(values: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """The 95 % percentile bootstrap interval of each column's mean over seeds.

    With few seeds it is too narrow: three can only be drawn in ten ways. The same values give the same
    interval (fixed draws). Columns of fewer than `FEWEST` seeds, or of fewer than others, have none.
    """
    seeds = max([FEWEST, *map(len, values.values())])
    columns = {name: column for name, column in values.items() if len(column) == seeds}
    if not columns:
        return {}
    sample = np.array(list(columns.values()), dtype=np.float64)
    means = sample @ _weights(seeds)
    tail = 50 * (1 - LEVEL)
    limits = np.percentile(means, (tail, 100 - tail), axis=1).T
    return {name: (low, high) for name, (low, high) in zip(columns, limits.tolist(), strict=True)}


@cache
def _weights(seeds: int) -> NDArray[np.float64]:
    """(seeds, RESAMPLES): how much of each resample's mean is each seed. scipy's `bootstrap` takes five times
    as long, and a table has many rows."""
    drawn = np.random.default_rng(0).integers(0, seeds, (RESAMPLES, seeds))
    counts = (drawn[:, :, None] == np.arange(seeds)).sum(axis=1)
    return np.ascontiguousarray(counts.T / seeds)


def p_values_against_best(rows: Sequence[Mapping[int, float]]) -> list[float | None]:
    """How likely each row's distance to the best one is by chance: two-sided paired t-test over common seeds.

    `rows`: value by seed, higher is better; the best is the one of the highest mean among those of at least
    `FEWEST` seeds. Corrected for the number of rows (Holm). None for the best row itself and for rows that
    have fewer than `FEWEST` seeds in common with it.
    """
    means = [fmean(row.values()) if len(row) >= FEWEST else -math.inf for row in rows]
    best = means.index(max(means)) if rows else 0
    raw = [None if i == best else _paired_p(rows[best], row) for i, row in enumerate(rows)]
    tested = sorted((p, i) for i, p in enumerate(raw) if p is not None)
    corrected, largest = list(raw), 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        corrected[i] = largest
    return corrected


def _paired_p(one: Mapping[int, float], other: Mapping[int, float]) -> float | None:
    common = sorted(one.keys() & other.keys())
    if len(common) < FEWEST:
        return None
    differences = np.array([one[seed] - other[seed] for seed in common])
    if not differences.any():
        return 1.0
    with warnings.catch_warnings():  # equal differences: their variance is 0, and so is p
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(stats.ttest_1samp(differences, 0.0).pvalue)
