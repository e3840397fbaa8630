"""The facts on top of every leaderboard, in words: the protocol card, and what its runs have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.record import ProtocolCard, Record
from reports.rows import Row
from reports.variants import flat_recipe

SETTINGS = {
    "overlapped": "a step sees every image with a pixel of its classes; other classes are unlabelled there",
    "disjoint": "a step sees the images with a pixel of its classes and none of later classes",
    "partitioned": "each image is seen in exactly one step",
    "domain": "each step brings the images of other domains, always with all classes",
}
PLACES = {0: "background", 255: "ignored"}
RULE_OF_SEGMENTS = (
    "images that show no class learnt so far are left out; "
    "what is predicted on classes of later steps is wrong"
)
RECIPE = "Recipe"
FEW_CLASSES = 25
"""Up to so many classes are listed by name."""
STAND_IN = "Synthetic stand-in."


@dataclass(frozen=True)
class Fact:
    """One item of a card. What stands in `backticks` is code, in Markdown as elsewhere."""

    label: str
    text: str
    details: tuple[str, ...] = ()


def warning(dataset_title: str, partly: bool) -> str:
    """What `STAND_IN` means, before a table on synthetic data. `partly`: other sections are on real data."""
    where = "The sections marked synthetic were" if partly else "All numbers below were"
    return (
        f"{where} measured on drawn images, not on {dataset_title}: "
        "they compare methods with each other and are not comparable with published numbers."
    )


def as_markdown(facts: Iterable[Fact]) -> list[str]:
    """The facts as Markdown list items."""
    lines = []
    for fact in facts:
        lines += [f"- **{fact.label}:** {fact.text}", *(f"  - {detail}" for detail in fact.details)]
    return lines


def protocol_facts(protocol: ProtocolCard) -> list[Fact]:
    """The protocol card."""
    meaning = SETTINGS.get(protocol.setting)
    sizes = [len(step.domains) if step.domains else len(step.classes) for step in protocol.steps]
    unit = "domains" if protocol.is_domain_incremental else "classes"
    total = len({label for step in protocol.steps for label in step.classes})
    learnt = f"{' + '.join(map(str, sizes))} {unit}; {total} classes in all"
    named = _named_steps(protocol) if total <= FEW_CLASSES else ()
    semantic = protocol.task == "semantic"
    return [
        Fact("Data set", protocol.dataset_title),
        Fact("Task", f"{protocol.task} segmentation"),
        Fact("Setting", protocol.setting + (f": {meaning}" if meaning else "")),
        Fact("Steps", f"{len(protocol.steps)}, of {learnt}", named),
        *(_rules_of_pixels(protocol) if semantic else [Fact("At test", RULE_OF_SEGMENTS)]),
        *(Fact("Note", note) for note in protocol.notes),
    ]


def run_facts(records: Sequence[Record], rows: Sequence[Row]) -> list[Fact]:
    """What the runs of one section saw: images, seeds, and the recipe."""
    images = dict.fromkeys(f"{record.data.train_images} training" for record in records)
    tested = dict.fromkeys(f"{record.data.val_images} validation" for record in records)
    return [
        Fact("Images", f"{', '.join(images)}; {', '.join(tested)}"),
        Fact("Seeds", _seeds(rows)),
        *_recipe(records),
    ]


def _seeds(rows: Sequence[Row]) -> str:
    seeds = sorted({int(seed) for row in rows for seed in row["seed_list"].split()})
    spread = "; mean ± standard deviation where two or more finished" if len(seeds) > 1 else ""
    return (", ".join(map(str, seeds)) or "none finished") + spread


def _recipe(records: Sequence[Record]) -> list[Fact]:
    """The recipe that all rows share, and what single methods have otherwise."""
    recipes = {record.method.name: flat_recipe(record) for record in records}
    keys = sorted({key for recipe in recipes.values() for key in recipe})
    shared = [key for key in keys if len({recipe.get(key) for recipe in recipes.values()}) == 1]
    first = next(iter(recipes.values()))
    alike: dict[str, list[str]] = {}
    for name, recipe in recipes.items():
        values = ", ".join(f"{key} = {value}" for key, value in sorted(recipe.items()) if key not in shared)
        if values:
            alike.setdefault(values, []).append(f"`{name}`")
    own = [f"{', '.join(names)} alone: {values}" for values, names in alike.items()]
    text = ", ".join(f"{key} = {first[key]}" for key in shared) or "the methods share no setting"
    return [Fact(RECIPE, text, tuple(own))] if keys else []


def _named_steps(protocol: ProtocolCard) -> tuple[str, ...]:
    names = [
        step.domains or tuple(protocol.class_names[label] for label in step.classes)
        for step in protocol.steps
    ]
    return tuple(f"step {index}: {', '.join(each)}" for index, each in enumerate(names))


def _rules_of_pixels(protocol: ProtocolCard) -> list[Fact]:
    return [
        Fact("Background", "counted as a class" if protocol.background else "none"),
        Fact("Label rules", f"{protocol.rules.name}: {_rules(protocol)}"),
    ]


def _rules(protocol: ProtocolCard) -> str:
    rules = protocol.rules
    places = {
        "void in training": rules.void_in_training,
        "classes of later steps at test": rules.future_at_test,
        "unlabelled pixels at test": rules.unlabelled_at_test,
        "classes in no step": rules.other_classes,
    }
    return "; ".join(f"{what} → {PLACES.get(value, f'label {value}')}" for what, value in places.items())
