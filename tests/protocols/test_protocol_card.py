"""The protocol card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from protocols.card import card, card_text
from protocols.datasets import Voc
from protocols.names import known, parse
from protocols.protocol import TASKS
from protocols.splits import step_samples


def test_counts_and_names(voc_masks: Voc, voc_cache: Path) -> None:
    protocol = parse("voc-15-1")
    samples = step_samples(protocol, voc_masks, voc_cache, workers=2)
    content = json.loads(json.dumps(card(protocol, samples)))
    assert [step["train_images"] for step in content["steps"]] == [9568, 487, 299, 491, 500, 548]
    assert [step["val_images"] for step in content["steps"]] == [1240, 1277, 1329, 1353, 1421, 1449]
    assert content["steps"][2]["classes"] == ["sheep"]
    text = card_text(protocol, samples)
    assert "Step 2: 1 class, 299 training and 1329 validation images" in text


def test_without_data_counts_are_null() -> None:
    content = card(parse("ade-100-10"))
    assert {(step["train_images"], step["val_images"]) for step in content["steps"]} == {(None, None)}
    assert len(content["steps"][0]["classes"]) == 100
    assert "no data here" in card_text(parse("ade-100-10"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("voc-15-1+mib", "void pixels (255) are counted as background"),
        ("voc-15-1", "void pixels (255) are ignored"),
        ("voc-15-1+mib", "future classes are ignored, background is scored as class 0"),
        ("ade-100-50", "pixels without a class are scored as class 0"),
        ("ade-100-50-partitioned+mib", "pixels without a class are ignored"),
        ("cityscapes-domain-11-1", "72.1 % of the last step's test images"),
        ("voc-15-5-disjoint", "no class of a later step"),
    ],
)
def test_rules_are_explained(name: str, words: str) -> None:
    assert words in " ".join(card_text(parse(name)).split())


def test_domain_steps_name_their_cities() -> None:
    step = card(parse("cityscapes-domain-11-5"))["steps"][2]
    assert step["domains"] == ["ulm", "zurich", "frankfurt", "lindau", "munster"]
    assert len(step["classes"]) == 19
    assert "Step 0: 11 cities" in card_text(parse("cityscapes-domain-11-5"))


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_cards_of_segments(task: str) -> None:
    protocol = parse("ade-50-50", task)
    content = card(protocol)
    assert (content["name"], content["task"], content["background"]) == (f"ade-50-50-{task}", task, False)
    text = " ".join(card_text(protocol).split())
    assert "the pixels of others are in no target, which is neither background nor ignored" in text
    assert ("pixels without any segment" in text) == (task == "panoptic")
    assert set(content["rules"].values()) == {"plop", "in no segment"}
    if task == "panoptic":
        assert [len(step["things"]) for step in content["steps"]] == [29, 35, 36]
        assert "Step 0: 50 classes (29 things)" in text


def test_every_known_protocol_has_a_card_that_fits_the_terminal() -> None:
    for name in (name for task in TASKS for name in known(task)):
        assert all(len(line) <= 100 for line in card_text(parse(name)).splitlines()[1:]), name
