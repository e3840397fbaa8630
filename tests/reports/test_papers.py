"""A file of published numbers is read as it stands; whatever is wrong with it ends in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.papers import read_paper

GOOD = """
title = "A paper"
url = "https://example.org"
[defaults]
columns = ["old", "all"]
background = true
void = "ignored"
origin = { mib = "own" }
[[table]]
source = "Table 1"
protocol = "voc-15-1"
[table.values]
mib = [1, 2.5]
[[table.remarks]]
methods = ["mib"]
columns = ["all"]
flags = ["leak"]
note = "why"
"""


def test_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(GOOD.replace("2.5", '"-"'))
    (row,) = read_paper(path)
    assert (row.paper, row.group, row.value, row.orders, row.flags) == ("small", "old", 1.0, ("a",), ())
    path.write_text(GOOD.replace('"all"]', '"all_no_background"]'))
    _, row = read_paper(path)
    assert (row.group, row.background, row.flags, row.note) == ("all", False, ("leak",), "why")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("void =", "viod =", r"table\[0\].viod: unknown field .* did you mean 'void'"),
        ("source =", "#", r"table\[0\].source: missing field, no value; add it$"),
        ("title =", "#", "title: missing field"),
        ("[[table]]", "[[tables]]", r"not TOML with \[\[table\]\]s"),
        ("[1, 2.5]", "[1]", r"table\[0\].values.mib: 1 values for 2 columns; write \"-\" for a dash"),
        ("2.5", "true", "values.mib: True is no number"),
        ("2.5", '""', "values.mib: '' is no number"),
        ("2.5", "nan", "values.mib.* nan is not a finite number"),
        ("2.5", "100.1", r"table\[0\].values.mib, all: value: 100.1 is not in 0..100; correct it"),
        ("2.5", "-0.1", "value: -0.1 is not in 0..100"),
        ("voc-15-1", "voc-15-5s", "'voc-15-5s' is no protocol; write it as voc-15-1-disjoint"),
        ("voc-15-1", "voc-15-1-overlapped", "is no protocol"),
        ('"old"', '"base"', "'base' is no group; write it as old, all"),
        (
            "voc-15-1",
            "voc-15-1-panoptic",
            "'voc-15-1-panoptic' is panoptic, mIoU is not; name the semantic protocol",
        ),
        ("mib = [1", "MiB = [1", "'MiB' is no method"),
        ("mib = [1", "plop = [1", "plop, old: origin: '' is unknown; use own, rerun"),
        ('"own"', '"first"', "origin: 'first' is unknown; use own, rerun, reprinted, unknown"),
        ('"ignored"', '"dropped"', "void: 'dropped' is unknown; use ignored, background"),
        ('"leak"', '"leaks"', "flags: 'leaks' is unknown; use inconsistent"),
        ('["mib"]', '["plop"]', "remarks.methods: 'plop' is unknown; use mib"),
        ('columns = ["all"]', 'columns = ["new"]', "remarks.columns: 'new' is unknown; use old, all"),
        ("protocol =", 'metric = "QP"\nprotocol =', "metric: 'QP' is unknown; use mIoU"),
        (
            "protocol =",
            'metric = "PQ"\nprotocol =',
            "'voc-15-1' is semantic, PQ is not; name the panoptic protocol",
        ),
        ("protocol =", "group =", "'old' is no protocol"),
        ("protocol =", 'group = "all"\nprotocol =', r"table\[0\]: give either protocol .* or group"),
        ('"all"', '"old"', "Table 1, mib: old of voc-15-1 is there twice; remove one"),
        ("title", "[", r"not TOML with \[\[table\]\]s .*; correct the file"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        read_paper(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value) and "rerun the benchmark" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.toml: .*No such file"):
        read_paper(tmp_path / "absent.toml")
