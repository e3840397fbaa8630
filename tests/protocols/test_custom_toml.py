"""A user's own protocol from TOML, and each mistake in it as one line with file, key, value and remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from protocols import labels, splits
from protocols.custom import load_toml, task_of
from protocols.protocol import BACKGROUND, IGNORE, RULES

EXAMPLES = Path(__file__).parents[2] / "protocols" / "examples"
GOOD = """
name = "mine"
steps = [["aeroplane", 2], ["bird"]]
[dataset]
layout = "voc"
root = "."
"""


def load(text: str, folder: Path, data_root: Path | None = None):  # type: ignore[no-untyped-def]
    path = folder / "mine.toml"
    path.write_text(text)
    return load_toml(path, data_root)


def test_defaults(tiny_voc: Path) -> None:
    custom = load(GOOD, tiny_voc)
    protocol = custom.protocol
    assert (protocol.name, protocol.dataset, protocol.setting) == ("mine", "voc", "overlapped")
    assert [step.classes for step in protocol.steps] == [(1, 2), (3,)]
    assert protocol.steps[1].old_classes == (1, 2)
    assert (protocol.other_classes, protocol.rules, protocol.background) == (IGNORE, RULES["plop"], True)
    assert custom.recipe == {}
    assert hash(protocol) == hash(load(GOOD, tiny_voc).protocol)


def test_options(tiny_voc: Path) -> None:
    extra = 'setting = "disjoint"\nother_classes = "background"\nrules = "mib"\ntask = "semantic"\n'
    protocol = load(extra + GOOD, tiny_voc).protocol
    assert (protocol.setting, protocol.other_classes, protocol.rules) == (
        "disjoint",
        BACKGROUND,
        RULES["mib"],
    )


def test_root_and_weights_are_found_in_the_data_root_first(tiny_voc: Path, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "net.npz").write_text("")
    home = tmp_path / "home"
    home.mkdir()
    recipe = '[recipe]\nweights = "w/net.npz"\ncrop = 96\nlr = [0.1, 0.01]\n'
    text = GOOD.replace('root = "."', 'root = "VOCdevkit"') + recipe
    custom = load(text, home, data_root=tmp_path)
    assert custom.dataset.root == tmp_path / "VOCdevkit" / "VOC2012"
    assert custom.recipe == {"weights": str(tmp_path / "w" / "net.npz"), "crop": 96, "lr": [0.1, 0.01]}
    assert load(GOOD + '[recipe]\nweights = "none"\n', tiny_voc).recipe == {"weights": "none"}


@pytest.mark.parametrize(("name", "steps"), [("voc-animals-3-3", 2), ("voc-animals-3-1", 4)])
def test_examples(name: str, steps: int, shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    custom = load_toml(EXAMPLES / f"{name}.toml", shared_data("voc-animals").parent)
    assert custom.protocol.name == name
    assert len(custom.protocol.steps) == steps
    assert Path(custom.recipe["weights"]).is_file()
    assert labels.training_lut(custom.protocol, 0)[[0, 8, 15, 9]].tolist() == [0, 1, 0, 255]
    found = splits.step_samples(custom.protocol, custom.dataset, tmp_path, workers=1)
    splits.check_steps(custom.protocol, found)
    in_first = {"cat", "cow", "dog"}
    assert {custom.protocol.class_names[i] for i in custom.protocol.steps[0].classes} == in_first
    assert 690 < len(found[0].train) < 702  # 243 + 160 + 298 images, few with two of the three


def test_camvid_by_ids_of_the_files(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    text = """
name = "camvid-6-5"
steps = [["Sky", 1, 2, 3, 4, 5], [6, 7, 8, 9, "Bicyclist"]]
[dataset]
layout = "folder"
root = "camvid"
masks = "labels"
background = false
ignore = [11]
"""
    protocol = load(text, tmp_path, shared_data("camvid").parent).protocol
    assert [step.classes for step in protocol.steps] == [(1, 2, 3, 4, 5, 6), (7, 8, 9, 10, 11)]
    assert protocol.channels(1) == tuple(range(1, 12))
    assert labels.training_lut(protocol, 1)[[0, 1, 7, 11, 255]].tolist() == [255, 255, 6, 10, 255]
    for wrong, message in (
        ('"Void"', "no class 'Void'"),
        ("11", "class id 11 is outside 0..10"),
        ('"sky"', "did you mean Sky"),
    ):
        with pytest.raises(ValueError, match=message):
            load(text.replace('"Sky"', wrong), tmp_path, shared_data("camvid").parent)
    with pytest.raises(ValueError, match="'Sky' has id 0, which is the background: if it is a class, add"):
        load(text.replace("background = false", ""), tmp_path, shared_data("camvid").parent)
    with_background = load('other_classes = "background"\n' + text, tmp_path, shared_data("camvid").parent)
    assert with_background.protocol.has_background_shift
    assert labels.training_lut(with_background.protocol, 1)[[1, 7, 11, 255]].tolist() == [0, 7, 11, 255]
    with pytest.raises(ValueError, match=r"steps\[1\]: class 7 is in dataset.ignore too"):
        load(text.replace("[11]", "[11, 7]"), tmp_path, shared_data("camvid").parent)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mine"', "", "key 'name' is missing"),
        ('name = "mine"', "name = 3", "name = 3: this must be a string"),
        ('name = "mine"', 'name = "../up"', "name = '../up': it names folders"),
        ('name = "mine"', 'name = "voc-15-5s"', "a published protocol is called so"),
        ('name = "mine"', 'name = "mine"\nsettings = "x"', "unknown key 'settings': did you mean 'setting'"),
        (
            'name = "mine"',
            'name = "mine"\nsetting = "x"',
            "setting = 'x': choose one of overlapped, disjoint",
        ),
        ('name = "mine"', 'name = "mine"\ntask = "panoptic"', "task = 'panoptic': only layout = 'ade'"),
        ('name = "mine"', 'name = "mine"\nother_classes = "drop"', "choose one of ignore, background"),
        ('["bird"]', '["brid"]', r"steps\[1\]: no class 'brid', did you mean bird"),
        ('["bird"]', '["aeroplane"]', r"steps\[1\]: class 'aeroplane' is in steps\[0\] already"),
        ('["bird"]', "[21]", r"steps\[1\]: class id 21 is outside 1..20"),
        ('["bird"]', "[0]", "class id 0 is outside 1..20"),
        ('["bird"]', "[]", r"steps\[1\] = \[\]: this must be a list of classes"),
        ('["bird"]', "[1.5]", r"steps\[1\]: 1.5 is neither a class name nor a class id"),
        ('[["aeroplane", 2], ["bird"]]', "[]", r"steps = \[\]: list the classes"),
        ('layout = "voc"', 'layout = "vox"', "layout = 'vox': choose one of voc, ade, cityscapes, folder"),
        ('layout = "voc"', "", "key 'dataset.layout' is missing"),
        ('layout = "voc"', 'layout = "voc"\nmasks = "m"', "unknown key 'dataset.masks'"),
        ('layout = "voc"', 'layout = "ade"', "holds no ADE20K"),
        ('layout = "voc"', 'layout = "folder"\nignore = [300]', "dataset.ignore: 300 does not belong"),
        (
            'layout = "voc"',
            'layout = "folder"\nbackground = 1',
            "dataset.background = 1: this must be true or false",
        ),
        ('root = "."', 'root = "gone"', "dataset.root = 'gone': .*gone; put it there or give"),
        ('root = "."', 'root = "."\n[recipe]\nweights = "w.npz"', "recipe.weights = 'w.npz'"),
        ('root = "."', 'root = ".', "not a readable TOML file"),
    ],
)
def test_mistakes(old: str, new: str, message: str, tiny_voc: Path) -> None:
    assert old in GOOD
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load(GOOD.replace(old, new), tiny_voc)
    assert str(caught.value).startswith(str(tiny_voc / "mine.toml"))
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone.toml: no such protocol file: check"):
        load_toml(tmp_path / "gone.toml")


def test_instances_of_ade_are_things(tmp_path: Path) -> None:
    for folder in ("training", "validation"):
        (tmp_path / "ADEChallengeData2016" / "annotations" / folder).mkdir(parents=True)
    text = 'name = "mine"\ntask = "instance"\nsteps = [["bed"], ["window"]]\n'
    text += '[dataset]\nlayout = "ade"\nroot = "."\n'
    protocol = load(text, tmp_path).protocol
    assert (protocol.task, protocol.background) == ("instance", False)
    assert protocol.things[:2] == (8, 9) and protocol.channels(1) == (8, 9)
    assert task_of(tmp_path / "mine.toml") == "instance"
    with pytest.raises(
        ValueError, match=r"steps\[1\]: class 'wall' is stuff, task = 'instance' takes things"
    ):
        load(text.replace("window", "wall"), tmp_path)
    with pytest.raises(ValueError, match="task = 'depth': choose one of semantic, panoptic, instance"):
        load(text.replace("instance", "depth"), tmp_path)


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5000])
def test_values_without_end_are_one_line(tmp_path: Path, value: str) -> None:
    with pytest.raises(ValueError, match=r"mine.toml: not a readable TOML file") as error:
        load(f"name = {value}", tmp_path)
    assert "\n" not in str(error.value)
