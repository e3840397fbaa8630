"""The Cityscapes domain splits: published sizes, the published leak, and a clean variant without it."""

from __future__ import annotations

import numpy as np
import pytest

from protocols.domains import domain_indices
from protocols.names import parse

# Images per city of leftImg8bit/train and val (counted from the public lists train.lst and val.lst of HRNet).
TRAIN = {
    **{"aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85, "dusseldorf": 221},
    **{"erfurt": 109, "hamburg": 248, "hanover": 196, "jena": 119, "krefeld": 99, "monchengladbach": 94},
    **{"strasbourg": 365, "stuttgart": 196, "tubingen": 144, "ulm": 95, "weimar": 142, "zurich": 122},
}
VAL = {"frankfurt": 267, "lindau": 59, "munster": 174}
POOL = [city for cities in (TRAIN, VAL) for city, count in sorted(cities.items()) for _ in range(count)]


def leaks(name: str) -> list[float]:
    """The share of each step's test images that were training images so far."""
    trained: set[int] = set()
    shares = []
    for train, test in domain_indices(parse(name), POOL):
        trained |= set(train.tolist())
        shares.append(len(trained & set(test.tolist())) / len(test))
    return shares


def test_pool_has_the_published_size() -> None:
    assert len(POOL) == 3475


def test_sizes_of_11_5() -> None:
    steps = domain_indices(parse("cityscapes-domain-11-5"), POOL)
    assert [len(train) for train, _ in steps] == [1504, 702, 573]
    assert [len(test) for _, test in steps] == [376, 552, 695]


def test_published_leak() -> None:
    assert leaks("cityscapes-domain-11-5") == pytest.approx([0, 0.701, 0.714], abs=5e-4)
    assert leaks("cityscapes-domain-11-1")[-1] == pytest.approx(0.721, abs=5e-4)
    assert leaks("cityscapes-domain-1-1")[-1] == pytest.approx(0.778, abs=5e-4)


@pytest.mark.parametrize("division", ["11-5", "11-1", "1-1"])
def test_clean_variant_has_no_leak_and_one_final_test_set(division: str) -> None:
    protocol = parse(f"cityscapes-domain-{division}-clean")
    assert leaks(protocol.name) == [0] * len(protocol.steps)
    steps = domain_indices(protocol, POOL)
    (joint_train, joint_test), *rest = domain_indices(protocol.joint(), POOL)
    assert not rest
    assert np.array_equal(steps[-1][1], joint_test)
    assert np.array_equal(np.sort(np.concatenate([train for train, _ in steps])), joint_train)
    assert len(joint_train) + len(joint_test) == 3475


def test_published_joint_is_tested_on_the_images_of_the_last_step() -> None:
    protocol = parse("cityscapes-domain-11-1")
    (_, joint_test), *_ = domain_indices(protocol.joint(), POOL)
    assert np.array_equal(domain_indices(protocol, POOL)[-1][1], joint_test)
