"""The partitioned ADE20K splits are MiB's lists."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from protocols import partition
from protocols.datasets import Ade
from protocols.names import parse

# Count and md5 (12 hex, little-endian int64) of MiB's `data/ade/<task>/train-<t>.npy`, sorted. Where
# MiB's own array is sorted (first steps, 50-50) this is the sum of its file, elsewhere of a sorted copy.
OFFICIAL = {
    "ade-100-50-partitioned": "13452 8da8f8c6e749, 6744 95f2fa1b7643",
    "ade-100-10-partitioned": "13452 8da8f8c6e749, 1130 8ec2cbbc2c0f, 1200 6ef42ab03dd7, 1366 85b8e3714a2e, "
    "1550 2f80d59d3bc5, 1498 5c8c2e878f30",
    "ade-50-50-partitioned": "8219 3e22f5827d6a, 6384 0fa761bba08e, 5593 b250ebffad91",
    "ade-100-50-partitioned@b": "10375 b6b4f91ebd2c, 9821 1818eba45491",
    "ade-100-10-partitioned@b": "10375 b6b4f91ebd2c, 1362 8cf4816532e6, 1346 f8de1a3c669c, "
    "2084 1557b1eda686, 2609 4f591b07b413, 2420 be92e03f82ab",
    "ade-50-50-partitioned@b": "6659 cd851ab19406, 7483 cb86a8290147, 6054 2d450dbf1d40",
}
NEVER = [5148, 5149, 5151, 5332, 5904, 6509, 13297, 14633, 14635, 14883, 15319, 15329, 15927, 19872]


@pytest.fixture
def ade(tmp_path: Path) -> Ade:
    (tmp_path / "annotations" / "training").mkdir(parents=True)
    return Ade(tmp_path)


@pytest.mark.parametrize("name", OFFICIAL)
def test_shipped_lists_equal_the_official_arrays(name: str, ade: Ade) -> None:
    present = np.zeros((20210, 256), dtype=bool)
    protocol = parse(name)
    steps = partition.assign_steps(protocol, ade, present)
    found = []
    for step in protocol.steps:
        indices = np.flatnonzero(steps == step.index).astype("<i8")
        found.append(f"{len(indices)} {hashlib.md5(indices.tobytes()).hexdigest()[:12]}")
    assert found == OFFICIAL[name].split(", ")
    assert np.flatnonzero(steps == partition.NEVER).tolist() == NEVER


def test_the_rules_of_the_mib_paper_change_no_list_and_joint_takes_them_all(ade: Ade) -> None:
    present = np.zeros((20210, 256), dtype=bool)
    plain = partition.assign_steps(parse("ade-100-10-partitioned@b"), ade, present)
    protocol = parse("ade-100-10-partitioned+mib@b")
    assert np.array_equal(partition.assign_steps(protocol, ade, present), plain)
    joint = partition.assign_steps(protocol.joint(), ade, present)
    assert (joint == 0).sum() == 20196


@pytest.mark.parametrize("name", ["ade-100-5-partitioned", "ade-100-50-partitioned@c", "ade-100-10"])
def test_no_official_list_for_other_divisions(name: str) -> None:
    assert partition.official_assignment(name) is None


def test_a_standin_or_another_size_is_split_by_the_rule(ade: Ade) -> None:
    present = np.zeros((4, 256), dtype=bool)
    present[0, [1, 101]] = present[1, [1, 101]] = present[2, 101] = True
    protocol = parse("ade-100-50-partitioned")
    # n = 2, 3. Image 0: 120 + 5/2 beats 120 + 5/3. Image 1: class 1 is at 60 + 5/2, class 101 at 120 + 5/3.
    with pytest.warns(UserWarning, match="4 training images instead of 20210"):
        steps = partition.assign_steps(protocol, ade, present)
    assert steps.tolist() == [0, 1, 1, partition.NEVER]
    (ade.root / "STANDIN.json").write_text("{}")
    many = np.zeros((20210, 256), dtype=bool)
    many[:, 7] = True
    assert (partition.assign_steps(protocol, ade, many) == 0).all()
