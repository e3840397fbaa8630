"""Intervals and tests over seeds: against hand-made cases and against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reports.statistics import bootstrap_intervals, p_values_against_best


def test_two_seeds_have_no_interval() -> None:
    assert bootstrap_intervals({"all": [40.0, 42.0], "forgetting": []}) == {}
    assert bootstrap_intervals({}) == {}


def test_interval_of_three_seeds_is_that_of_all_their_resamples() -> None:
    """27 equally likely resamples: 1 in 27 has the smallest value thrice, so the 2.5 % quantile is it."""
    found = bootstrap_intervals({"all": [10.0, 20.0, 60.0]})["all"]
    assert found == pytest.approx((10.0, 60.0))


def test_interval_is_scipys() -> None:
    seeds = [41.0, 44.5, 43.0, 40.5, 42.0]
    found = bootstrap_intervals({"all": seeds})["all"]
    expected = stats.bootstrap(
        (seeds,), np.mean, n_resamples=100_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.11)


def test_interval_of_many_seeds_is_nearly_the_normal_one() -> None:
    seeds = np.random.default_rng(1).normal(50, 2, 400)
    low, high = bootstrap_intervals({"all": seeds.tolist()})["all"]
    half = 1.96 * seeds.std() / 20
    assert low == pytest.approx(seeds.mean() - half, abs=0.03)
    assert high == pytest.approx(seeds.mean() + half, abs=0.03)


def test_interval_is_the_same_every_time_and_for_each_column_alone() -> None:
    columns = {"old": [1.0, 2.0, 4.0, 8.0], "new": [5.0, 5.0, 5.0, 5.0]}
    both = bootstrap_intervals(columns)
    assert both == bootstrap_intervals(columns)
    assert both["old"] == pytest.approx(bootstrap_intervals({"old": columns["old"]})["old"])
    assert both["new"] == pytest.approx((5.0, 5.0))


def test_a_column_that_some_seeds_lack_has_no_interval() -> None:
    assert set(bootstrap_intervals({"all": [1.0, 2.0, 3.0, 4.0], "new": [1.0, 2.0, 3.0]})) == {"all"}


def test_p_value_is_that_of_the_paired_t_test() -> None:
    best, other = [50.0, 52.0, 51.0, 53.0], [48.0, 51.0, 49.5, 50.0]
    found = p_values_against_best([dict(enumerate(other)), dict(enumerate(best))])
    assert found[0] == pytest.approx(stats.ttest_rel(best, other).pvalue)
    assert found[1] is None


def test_p_values_are_corrected_by_holm() -> None:
    best = {0: 50.0, 1: 52.0, 2: 51.0}
    others = [{0: 48.0, 1: 50.5, 2: 49.0}, {0: 40.0, 1: 45.0, 2: 43.0}, {0: 49.0, 1: 52.0, 2: 51.0}]
    raw = [stats.ttest_rel(list(best.values()), list(row.values())).pvalue for row in others]
    assert raw[0] < raw[1] < raw[2]
    found = p_values_against_best([best, *others])
    assert found[1] == pytest.approx(3 * raw[0])
    assert found[2] == pytest.approx(max(3 * raw[0], 2 * raw[1]))
    assert found[3] == pytest.approx(max(3 * raw[0], 2 * raw[1], raw[2]))


def test_seeds_are_paired_by_number_and_two_are_too_few() -> None:
    best, other = {0: 50.0, 1: 52.0, 2: 51.0, 3: 50.0}, {7: 10.0, 2: 49.5, 1: 50.0, 0: 48.0}
    common = stats.ttest_rel([50.0, 52.0, 51.0], [48.0, 50.0, 49.5]).pvalue
    assert p_values_against_best([best, other])[1] == pytest.approx(common)
    assert p_values_against_best([{0: 1.0, 1: 2.0}, {0: 5.0, 1: 6.0}]) == [None, None]
    assert p_values_against_best([best, {0: 1.0, 1: 2.0, 8: 3.0}]) == [None, None]
    assert p_values_against_best([]) == []


def test_equal_rows_and_equal_differences() -> None:
    row = {0: 50.0, 1: 52.0, 2: 51.0}
    assert p_values_against_best([row, dict(row)]) == [None, 1.0]
    lower = {seed: value - 1 for seed, value in row.items()}
    assert p_values_against_best([row, lower])[1] == pytest.approx(0.0)
