"""The name grammar."""

from __future__ import annotations

import pytest

from protocols.datasets.ade import THING_IDS
from protocols.names import aliases, known, parse, task_in
from protocols.protocol import RULES, TASKS


@pytest.mark.parametrize("task", TASKS)
def test_every_known_name_is_canonical_and_covers_its_classes(task: str) -> None:
    for name in known(task):
        protocol = parse(name, task)
        assert protocol.name == name
        last = protocol.steps[-1]
        learnt = last.classes if protocol.is_domain_incremental else last.old_classes + last.classes
        if task != "instance":
            assert sorted(learnt) == list(range(1, len(protocol.class_names)))
        assert len(known(task)) == len(set(known(task)))


def test_every_alias_resolves_to_its_canonical_name() -> None:
    for alias, name in aliases().items():
        assert parse(alias).name == name
        assert parse(name).name == name


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("voc-15-1-overlapped", "voc-15-1"),
        ("voc-15-1@a", "voc-15-1"),
        ("voc-15-5s-disjoint+mib", "voc-15-1-disjoint+mib"),
        ("ade-50-partitioned+mib", "ade-50-50-partitioned+mib"),
        ("ade-100-50b-disjoint", "ade-100-50-disjoint@b"),
        ("cityscapes_domain-11-5-clean", "cityscapes-domain-11-5-clean"),
        ("cityscapes-domain-10-1", "cityscapes-domain-11-1"),
        ("voc-17-3", "voc-17-3"),
    ],
)
def test_canonical_names(name: str, canonical: str) -> None:
    assert parse(name).name == canonical


def test_steps_hold_current_and_old_classes() -> None:
    protocol = parse("voc-15-1")
    assert [len(step.classes) for step in protocol.steps] == [15, 1, 1, 1, 1, 1]
    assert protocol.steps[2].classes == (17,)
    assert protocol.steps[2].old_classes == tuple(range(1, 17))
    assert protocol.setting == "overlapped"
    assert protocol.rules is RULES["plop"]
    assert parse("voc-15-1+mib").rules is RULES["mib"]
    assert parse("voc-offline").steps == parse("voc-15-1").joint().steps


def test_domain_protocol_meets_cities_and_has_no_background() -> None:
    protocol = parse("cityscapes-domain-11-5")
    assert [len(step.domains) for step in protocol.steps] == [11, 5, 5]
    assert protocol.steps[1].old_domains == protocol.steps[0].domains
    assert protocol.steps[2].domains[-3:] == ("frankfurt", "lindau", "munster")
    assert protocol.channels(2) == tuple(range(1, 20))
    assert not protocol.background
    assert any("71.4 %" in note for note in protocol.notes)
    assert not any("leak:" in note for note in parse("cityscapes-domain-11-5-clean").notes)


def test_instances_learn_the_things_in_ascending_order() -> None:
    protocol = parse("ade-50-10", "instance")
    assert [len(step.classes) for step in protocol.steps] == [50, 10, 10, 10, 10, 10]
    assert (protocol.steps[0].classes[0], protocol.steps[0].classes[-1]) == (8, 81)
    assert not protocol.background


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_the_task_stands_in_the_name_or_beside_it(task: str) -> None:
    protocol = parse("ade-50-50", task)
    assert protocol.name == f"ade-50-50-{task}"
    assert protocol == parse(protocol.name) == parse(protocol.name, task)
    assert protocol.is_division("ade-50-50")
    assert protocol.things == THING_IDS and parse("ade-50-50").things == ()
    assert parse(f"ade-50b-{task}-disjoint").name == f"ade-50-50-{task}-disjoint@b"
    assert parse("ade-50-50-semantic") == parse("ade-50-50")
    assert (task_in(protocol.name), task_in("ade-50-50"), task_in("zebra")) == (task, None, None)


def test_published_divisions_of_each_task() -> None:
    """Spec: BalConpas, SimCIS, ECLIPSE; steps as their tables count them."""
    steps = {name: len(parse(name).steps) for task in ("panoptic", "instance") for name in known(task)}
    assert steps == {
        "ade-100-50-panoptic": 2,
        "ade-100-10-panoptic": 6,
        "ade-100-5-panoptic": 11,
        "ade-50-50-panoptic": 3,
        "ade-50-20-panoptic": 6,
        "ade-50-10-panoptic": 11,
        "ade-offline-panoptic": 1,
        "ade-50-50-instance": 2,
        "ade-50-10-instance": 6,
        "ade-50-5-instance": 11,
        "ade-offline-instance": 1,
    }
    assert all(name.removesuffix("-panoptic") in known() for name in steps if name.endswith("-panoptic"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ade-100-10-panoptic+mib", r"\+mib is about background, which the panoptic task does not have"),
        ("ade-100-10-instance", "leave some of the 100 classes"),
        ("voc-15-1-panoptic", "has no panoptic task: only ade"),
        ("voc-15-one", "unknown protocol 'voc-15-one': did you mean voc-1.*ls protocols"),
        ("zebra", "unknown protocol 'zebra': `run_benchmark.py ls protocols`"),
        ("voc-15-1-disjont", "did you mean.*voc-15-1-disjoint"),
        ("voc-15-2", "'voc-15-2': 5 classes after the base do not divide into steps of 2, 1 would be left"),
        ("voc-20-1", "leave some of the 20 classes"),
        ("voc-15-0", "base and increment must be at least 1"),
        ("cityscapes-11-5", "3 would be left.*did you mean cityscapes-domain-11-5"),
        ("cityscapes-domain-11-5+mib", "unknown protocol.*cityscapes-domain-11-5"),
        ("", "unknown protocol ''"),
    ],
)
def test_mistakes_are_one_line_with_a_remedy(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(name)
    assert "\n" not in str(caught.value)


def test_a_task_without_annotations_is_refused() -> None:
    for name in ("voc-15-1", "cityscapes-domain-11-5"):
        with pytest.raises(ValueError, match="has no panoptic task: only ade"):
            parse(name, "panoptic")
    with pytest.raises(ValueError, match="unknown task 'depth': there are semantic"):
        parse("voc-15-1", "depth")
    with pytest.raises(ValueError, match="is for the task panoptic, not instance: leave out one of them"):
        parse("ade-50-50-panoptic", "instance")
