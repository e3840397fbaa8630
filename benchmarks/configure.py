"""A method's numbers under a protocol, and which of them the user set."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.settings import Setting, field_names, suggest, with_values
from methods.method import MethodClass
from methods.recipe import Recipe
from methods.registry import builtin_methods, source_of
from protocols.protocol import Protocol


@dataclass(frozen=True)
class Setup:
    """The numbers of a run, and which of them the user set."""

    hyperparameters: Any
    recipe: Recipe
    overrides: dict[str, Any]


def configure(
    protocol: Protocol,
    own_recipe: dict[str, Any],
    own_methods: dict[str, dict[str, Any]],
    method: MethodClass,
    scale: str,
    settings: Sequence[Setting],
) -> Setup:
    """A method's numbers under a protocol: the published ones, then the protocol's own, then `--set`.

    Raises ValueError on one that the method does not know, FileNotFoundError for absent weights.
    """
    hyperparameters = with_values(
        method.default_hyperparameters(protocol, scale),
        own_methods.get(method.key, {}),
        f"[methods.{method.key}] of {protocol.name}",
    )
    recipe = method.default_recipe(protocol, scale)
    if own_recipe:
        own = {"source": f"[recipe] of {protocol.name}", **own_recipe}
        recipe = with_values(recipe, own, f"[recipe] of {protocol.name}")
    overrides: dict[str, Any] = {}
    of_recipe = []
    for setting in settings:
        if setting.target not in (method.key, "recipe") or _is_of_another_network(setting, recipe):
            continue
        value = {setting.name: setting.value}
        if setting.target != "recipe" and setting.name in field_names(hyperparameters):
            hyperparameters = with_values(hyperparameters, value, str(setting))
        elif setting.target == "recipe" or setting.name in field_names(recipe):
            recipe = with_values(recipe, value, str(setting))
            of_recipe.append(setting)
        else:
            known = field_names(hyperparameters, recipe)
            raise ValueError(f"{setting}: unknown parameter {setting.name!r}; {suggest(setting.name, known)}")
        overrides |= value
    _reject_idle(of_recipe, recipe)
    _check(method, hyperparameters, recipe)
    return Setup(hyperparameters, recipe, overrides)


def _is_of_another_network(setting: Setting, recipe: Recipe) -> bool:
    """Whether `--set recipe.NAME` is for the recipes of another family, such as DeepLab's `dilations`."""
    if setting.target != "recipe" or setting.name in field_names(recipe):
        return False
    kinds = {typing.get_type_hints(m.default_recipe)["return"] for m in builtin_methods().values()}
    return setting.name in field_names(*kinds)


def _reject_idle(settings: Sequence[Setting], recipe: Recipe) -> None:
    """Epochs that are set where iterations decide would only change the name of the row."""
    for setting in settings:
        iterations = setting.name.replace("epochs", "iterations")
        if iterations != setting.name and (number := getattr(recipe, iterations)):
            raise ValueError(
                f"{setting}: has no effect, this recipe counts {iterations} = {number}; "
                f"set those, or recipe.{iterations}=0 too"
            )


def _check(method: MethodClass, hyperparameters: Any, recipe: Recipe) -> None:
    """Find out before anything is trained. Raises ValueError or FileNotFoundError."""
    if recipe.weights and not Path(recipe.weights).is_file():
        raise FileNotFoundError(f"{recipe.weights}: no such file of weights; correct `weights` of the recipe")
    try:
        json.dumps(dataclasses.asdict(hyperparameters), allow_nan=False)
        method(hyperparameters, recipe)
    except ValueError:
        raise
    except Exception as error:
        where = f"{source_of(method)}, method {method.key!r}"
        raise ValueError(f"{where}: {type(error).__name__}: {error}; mend the method file") from error
