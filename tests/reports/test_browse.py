"""Published numbers by themselves."""

from __future__ import annotations

import json
from io import StringIO

import pandas as pd
import pytest

from reports.browse import browse, known_protocols
from reports.papers import published


def test_every_number_is_there_as_printed() -> None:
    frame = pd.read_csv(StringIO(browse(["voc-15-1"], "csv")))
    assert len(frame) == len(published("voc-15-1"))
    own = frame[(frame["method"] == "plop") & (frame["group"] == "all") & (frame["origin"] == "own")]
    assert 54.64 in set(own["value"])
    plain = json.loads(browse(["voc-15-1"], "json"))
    assert [row["value"] for row in plain] == list(frame["value"])


def test_conventions_stand_apart_and_say_what_they_count() -> None:
    text = browse(["ade-100-10"])
    assert "ade-100-10: published mIoU, background counted\n" in text
    assert "ade-100-10: published mIoU, background not counted\n" in text
    assert "void pixels are tested as class 0" in text
    counted = text.partition("ade-100-10: published mIoU, background counted")[2]
    assert "54.0" not in counted and "31.59" in counted


def test_what_is_known_against_a_number_stands_beside_it() -> None:
    line = next(
        line for line in browse(["voc-15-1"]).splitlines() if line.startswith("rcil ") and "59.4" in line
    )
    assert "not-reproduced" in line and "RCIL#8" in line
    assert "not-reproduced: another run of the same differs" in browse(["voc-15-1"])


def test_markdown_links_to_the_paper() -> None:
    assert "](https://arxiv.org/abs/2011.11390)" in browse(["voc-15-1"], "md")


def test_an_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"--published 'ade-100-11': .* near: ade-100-10"):
        browse(["ade-100-11"])


@pytest.mark.parametrize("name", known_protocols())
def test_every_protocol_can_be_shown(name: str) -> None:
    assert browse([name]).startswith(f"{name}: published ")
