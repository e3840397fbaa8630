"""Every measure against numbers computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reports.measures import measure
from reports.record import ProtocolCard, ProtocolStep, Record

Make = Callable[..., Record]
SERIES = [[90, 60, 50], [90, 50, 40, 30], [90, 40, 55, 20, 10]]


def near(value: float) -> object:
    return pytest.approx(value, abs=1e-6)


def test_groups_with_and_without_background(make: Make) -> None:
    measures = measure(make(SERIES))
    final = measures.final
    assert final["old"] == near((90 + 40 + 55) / 3)
    assert final["new"] == near((20 + 10) / 2)
    assert final["all"] == near((90 + 40 + 55 + 20 + 10) / 5)
    assert final["old_no_background"] == near((40 + 55) / 2)
    assert final["all_no_background"] == near((40 + 55 + 20 + 10) / 4)
    assert measures.histories[-1] == {0: near(90), 1: near(40), 2: near(55), 3: near(20), 4: near(10)}


def test_each_step_counts_the_classes_known_by_then(make: Make) -> None:
    measures = measure(make(SERIES))
    first, second, _ = measures.steps
    assert first is not None and second is not None
    assert first["all"] == first["old"] == near(200 / 3)
    assert first["new"] is None
    assert second["new"] == near(30)
    assert second["all"] == near(210 / 4)
    assert measures.averages["average"] == near((200 / 3 + 210 / 4 + 215 / 5) / 3)


def test_forgetting_is_from_the_best_earlier_step_over_foreground_classes(make: Make) -> None:
    """Cat 60 -> 40, dog 50 -> 55 (better: negative), cow 30 -> 20; horse was learnt last."""
    assert measure(make(SERIES)).forgetting == near((20 - 5 + 10) / 3)


def test_classes_without_ground_truth_are_left_out(make: Make) -> None:
    measures = measure(make([[90, 60, None], [90, 50, 40, None], [90, 40, None, None, None]]))
    assert measures.final["old"] == near(65)
    assert measures.final["new"] is None
    assert measures.final["all"] == near(65)
    assert measures.forgetting == near(20)
    assert measures.histories[-1][2] is None


def test_joint_has_no_series(make: Make) -> None:
    measures = measure(make([SERIES[-1]]))
    assert measures.steps[:2] == (None, None)
    assert measures.final["all"] == near(43)
    assert measures.forgetting is None
    assert measures.averages["average"] is None


def test_a_protocol_of_one_step_has_no_new_classes(make: Make, protocol: ProtocolCard) -> None:
    offline = replace(protocol, steps=(ProtocolStep(classes=(1, 2)),))
    measures = measure(make([[90, 60, 50]], protocol=offline))
    assert (measures.final["new"], measures.forgetting) == (None, None)
    assert measures.averages["average"] == measures.final["all"] == near(200 / 3)


def test_without_a_background_class_label_zero_is_nothing_special(make: Make, protocol: ProtocolCard) -> None:
    steps = (ProtocolStep(classes=(0, 1)), ProtocolStep(classes=(2,)))
    bare = replace(protocol, background=False, steps=steps)
    measures = measure(make([[90, 60], [70, 50, 40]], protocol=bare, channels=[(0, 1), (0, 1, 2)]))
    assert measures.final["old"] == measures.final["old_no_background"] == near(60)
    assert measures.final["all"] == measures.final["all_no_background"] == near(160 / 3)
    assert measures.forgetting == near(15)


def test_domains_have_all_only(make: Make, protocol: ProtocolCard) -> None:
    steps = tuple(ProtocolStep(classes=(1, 2), domains=(city,)) for city in ("bonn", "jena", "ulm"))
    cities = replace(protocol, setting="domain", background=False, steps=steps)
    measures = measure(make([[60, 50], [70, 60], [64, 50]], protocol=cities, channels=[(1, 2)] * 3))
    assert (measures.final["old"], measures.final["new"]) == (None, None)
    assert measures.final["all"] == near(57)
    assert measures.forgetting == near(65 - 57)
    assert measures.averages["average"] == near((55 + 65 + 57) / 3)


def test_a_failed_run_has_no_measures(make: Make) -> None:
    with pytest.raises(ValueError, match="mib seed 0: status 'failed'"):
        measure(make(SERIES[:1], reason="out of memory"))


@pytest.mark.parametrize(
    ("base", "rest", "background", "old", "new", "published"),
    [
        (15, 5, True, 65.12, 21.11, 54.64),
        (100, 50, True, 41.87, 14.89, 32.94),
        (15, 5, False, 71.8, 43.3, 64.7),
    ],
)
def test_the_arithmetic_of_the_papers(
    make: Make,
    protocol: ProtocolCard,
    base: int,
    rest: int,
    background: bool,
    old: float,
    new: float,
    published: float,
) -> None:
    """PLOP VOC 15-1 and ADE 100-50 (background counted), MiB VOC 15-5 (not): old and new give `all`."""
    labels = tuple(range(1 - background, base + rest + 1))
    first, later = tuple(range(1, base + 1)), tuple(range(base + 1, base + rest + 1))
    wide = replace(
        protocol,
        background=background,
        class_names=tuple(f"class {label}" for label in range(base + rest + 1)),
        steps=(ProtocolStep(classes=first), ProtocolStep(classes=later)),
    )
    num_old = len(labels) - rest
    series = [[80] * num_old, [old] * num_old + [new] * rest]
    record = make([[0] * num_old, [0] * len(labels)], protocol=wide, channels=[labels[:num_old], labels])
    step = record.steps[1]
    pixels = 1_000_000
    both = tuple(round(value / 100 * pixels) for value in series[1])
    counts = replace(step.counts, intersection=both, ground_truth=(pixels,) * len(labels), prediction=both)
    final = measure(replace(record, steps=(record.steps[0], replace(step, counts=counts)))).final
    assert final["old"] == pytest.approx(old, abs=1e-3)
    assert final["new"] == pytest.approx(new, abs=1e-3)
    assert final["all"] == pytest.approx(published, abs=0.05 if not background else 0.006)
