"""Checkpoints of other networks, with other names and shapes, and cards of any content: one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.checkpoints import CARD, VERSION, read_checkpoint
from benchmarks.importing import import_official, refusal, report
from methods.method import MethodClass
from protocols.names import parse
from tests.benchmarks.test_official_checkpoints import grown, official_name, segvit_name

PROTOCOL = parse("voc-15-1")
OFFICIAL: dict[str, Callable[[str], str]] = {
    "mib": lambda name: f"module.{name}",
    "rcil": lambda name: f"module.{name}",
    "balconpas": official_name,
    "simcis": official_name,
    "segvit-cit": segvit_name,
}


@cache
def official(key: str) -> tuple[MethodClass, Any, dict[str, Tensor], set[str]]:
    """The method, its setup, what the official code would have saved, and the names of ours."""
    method, setup = grown(key, PROTOCOL, 1, "mini")
    ours = method.network.state_dict()
    return type(method), setup, {OFFICIAL[key](name): value for name, value in ours.items()}, set(ours)


NAMES = st.sampled_from([
    "", "backbone.res9.0.conv1.weight", "decode_head_freeze_7.q.weight", "queries.9999", "queries.3",
    "backbone.", "backbone.pos_embed", "backbone.layers.0.attn.q.weight", "backbone.blocks.0.attn.q_bias",
    "backbone.relative.tables.0", "backbone.layers.0.attn.relative_position_bias_table", "bank.features",
    "decode_head.q.weight", "teachers.0.tokens.0", "cls.7.weight", "importance.fisher.a", "a\nb", "conv1_w",
    "sem_seg_head.predictor.enc_output.weight", "stem.conv1.weight", "module.module.cls.0.bias",
])  # fmt: skip
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 5, 16, 17, 64]), max_size=4)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, dict[str, Tensor]]:
    key = draw(st.sampled_from(sorted(OFFICIAL)))
    state = dict(official(key)[2])
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(sorted(state)))
        kind = draw(st.sampled_from(["drop", "add", "rename", "shape", "type", "nan"]))
        if kind == "add":
            state[draw(NAMES)] = torch.ones(draw(SHAPES))
        elif kind == "shape":
            state[name] = torch.ones(draw(SHAPES))
        elif kind == "type":
            state[name] = state[name].to(draw(st.sampled_from([torch.int64, torch.bool, torch.complex64])))
        elif kind == "nan":
            state[name] = state[name] * float("nan")
        else:
            value = state.pop(name)
            if kind == "rename":
                state[draw(st.one_of(NAMES, st.text(max_size=4)))] = value
    return key, state


def check_import(folder: Path, key: str, state: dict[str, Tensor]) -> None:
    method_class, setup, _, names = official(key)
    path = folder / "w.pth"
    torch.save({"model": state}, path)
    try:
        found = import_official([path], method_class, setup, PROTOCOL, 1)
    except ValueError as error:
        assert "w.pth" in str(error) and "\n" not in str(error)
        return
    assert report(found).startswith("w.pth: ") and "\n" not in refusal(found)
    assert not names - found.tensors.keys()


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
FIELDS = (
    "method",
    "protocol",
    "task",
    "step",
    "classes",
    "source",
    "sha256",
    "lacks",
    "incomplete",
    "recipe",
)
CARDS = st.one_of(
    st.text(max_size=8),
    JSON.map(json.dumps),
    st.fixed_dictionaries(
        {"version": st.sampled_from([VERSION, 2, "1", None]), **dict.fromkeys(FIELDS, JSON)}
    ).map(json.dumps),
)


def check_card(folder: Path, card: str) -> None:
    path = folder / "w.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={CARD: card})
    try:
        found = read_checkpoint(path).card
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    assert isinstance(found.step, int) and all(isinstance(name, str) for name in found.classes)


def attempts(examples: int) -> Callable[[Any], Any]:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, suppress_health_check=checks)


@attempts(40)
@given(mutation=mutated())
def test_other_names_and_shapes(tmp_path: Path, mutation: tuple[str, dict[str, Tensor]]) -> None:
    check_import(tmp_path, *mutation)


@attempts(100)
@given(card=CARDS)
@example(card='{"\\n": null}')  # a key that no card has is named in the message
def test_cards_of_any_content(tmp_path: Path, card: str) -> None:
    check_card(tmp_path, card)


@pytest.mark.slow
@attempts(2000)
@given(mutation=mutated())
def test_many_other_names_and_shapes(tmp_path: Path, mutation: tuple[str, dict[str, Tensor]]) -> None:
    check_import(tmp_path, *mutation)


@pytest.mark.slow
@attempts(2000)
@given(card=CARDS)
def test_many_cards(tmp_path: Path, card: str) -> None:
    check_card(tmp_path, card)
