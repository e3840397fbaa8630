"""`validate` against the protocols and methods that are ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cli import main
from benchmarks.kernels.many_records import plain_record
from benchmarks.recording import card_of
from protocols import names
from protocols.datasets import DATASETS
from reports.codec import dumps

Capture = pytest.CaptureFixture[str]
Plain = dict[str, Any]


def record_of(name: str) -> Plain:
    """A sound record of a protocol of the literature."""
    protocol = names.parse(name)
    title = DATASETS[protocol.dataset].title
    card = json.loads(json.dumps(asdict(card_of(protocol, title, protocol.notes))))
    truth = np.full(len(protocol.class_names), 1000)
    plain = plain_record(np.random.default_rng(0), card, truth, "theirs", 0)
    plain["data"] |= {"train_images": 10582, "val_images": 1449}
    for step in plain["steps"]:
        step["test_images"] = 1449
    return plain


def output(plain: Plain, folder: Path, capsys: Capture, status: int) -> list[str]:
    path = folder / "seed-0.json"
    path.write_text(dumps(plain))
    assert main(["validate", str(path)]) == status
    return [line.removeprefix(f"{path}: ") for line in capsys.readouterr().out.splitlines()]


def test_a_sound_record(tmp_path: Path, capsys: Capture) -> None:
    lines = output(record_of("voc-15-1"), tmp_path, capsys, 0)
    assert lines[0].startswith(f"ok: {tmp_path / 'seed-0.json'}: voc-15-1 theirs seed 0, mIoU ")
    assert lines[1:] == ["1 of 1 record sound"]


def swap_classes(plain: Plain) -> None:
    first, second = plain["protocol"]["steps"][:2]
    first["classes"][0], second["classes"][0] = second["classes"][0], first["classes"][0]
    plain["steps"][0]["channels"][1] = first["classes"][0]


WRONG: dict[str, tuple[Callable[[Plain], Any], str]] = {
    "classes": (swap_classes, "protocol.steps[0].classes[0]: 16, but 1 in voc-15-1; correct it"),
    "setting": (
        lambda r: r["protocol"].update(setting="disjoint"),
        "protocol.setting: 'disjoint', but 'overlapped' in voc-15-1",
    ),
    "rules": (
        lambda r: r["protocol"]["rules"].update(void_in_training=0),
        "protocol.rules.void_in_training: 0, but 255",
    ),
    "class-name": (
        lambda r: r["protocol"]["class_names"].__setitem__(3, "birds"),
        "protocol.class_names[3]: 'birds', but 'bird'",
    ),
    "alias": (
        lambda r: r["protocol"].update(name="voc-15-5s"),
        "protocol.name: 'voc-15-5s' is another name of 'voc-15-1'; write that",
    ),
    "other-protocol": (
        lambda r: r["protocol"].update(name="voc-15-5"),
        "protocol.steps: 6 entries, but 2 in voc-15-5",
    ),
    "our-key": (
        lambda r: r["method"].update(key="mib"),
        "method.key: 'mib' is that of a built-in method, and this one is from 'file: theirs.py'",
    ),
    "our-name": (
        lambda r: r["method"].update(name="mib[a=1]"),
        "method.name: 'mib[a=1]' is that of a built-in method",
    ),
    "our-origin": (
        lambda r: r["method"].update(origin="built-in"),
        "method.origin: 'built-in', but there is no such method 'theirs'",
    ),
    "our-provenance": (
        lambda r: r["method"].update(origin="built-in", key="mib", name="mib"),
        "method.provenance: 'paper only', but the built-in 'mib' is 'port of fcdl94/MiB@",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_contradicts_us(tmp_path: Path, capsys: Capture, case: str) -> None:
    plain = record_of("voc-15-1")
    change, message = WRONG[case]
    change(plain)
    lines = output(plain, tmp_path, capsys, 1)
    assert lines[0].startswith(message)
    assert lines[-1] == "0 of 1 record sound"


def test_a_leak_must_be_told(tmp_path: Path, capsys: Capture) -> None:
    plain = record_of("cityscapes-domain-11-5")
    plain |= {"status": "failed", "reason": "killed", "steps": [], "cost": None}
    note = plain["protocol"]["notes"].pop()
    assert output(plain, tmp_path, capsys, 1)[0].startswith(f'protocol.notes: lack "{note[:20]}')


def test_a_data_set_in_part_is_doubtful(tmp_path: Path, capsys: Capture) -> None:
    plain = record_of("voc-15-1")
    plain["data"]["val_images"] = 1450
    lines = output(plain, tmp_path, capsys, 0)
    assert "data.val_images: 1450, PASCAL VOC 2012 has 1449; is the data set complete?" in lines[1]
    assert lines[2] == "1 of 1 record sound, 1 warning"


def test_a_mistake_on_the_command_line(tmp_path: Path, capsys: Capture) -> None:
    assert main(["validate", str(tmp_path / "none.json")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as error:
        main(["validate"])
    assert error.value.code == 2


def test_a_name_of_several_lines_stays_one(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "two\nlines.json"
    path.write_text("{")
    assert main(["validate", str(path)]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert "two\\nlines.json: not valid JSON" in first
    assert last == "0 of 1 record sound"
