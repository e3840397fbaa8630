"""The protocol card on top of every leaderboard, in words."""

from __future__ import annotations

from reports.record import ProtocolCard

SETTINGS = {
    "overlapped": "a step sees every image with a pixel of its classes; other classes are unlabelled there",
    "disjoint": "a step sees the images with a pixel of its classes and none of later classes",
    "partitioned": "each image is seen in exactly one step",
    "domain": "each step brings the images of other domains, always with all classes",
}
PLACES = {0: "background", 255: "ignored"}
RULE_OF_SEGMENTS = (
    "- **At test:** images that show no class learnt so far are left out; "
    "what is predicted on classes of later steps is wrong"
)
FEW_CLASSES = 25
"""Up to so many classes are listed by name."""


def announcement(dataset_title: str, partly: bool) -> str:
    """The first line of a table on synthetic data. `partly`: other sections are on real data."""
    where = "The sections marked synthetic were" if partly else "All numbers below were"
    return (
        f"> **Synthetic stand-in.** {where} measured on drawn images, not on {dataset_title}: "
        "they compare methods with each other and are not comparable with published numbers."
    )


def card_lines(protocol: ProtocolCard) -> list[str]:
    """The card as Markdown list items."""
    meaning = SETTINGS.get(protocol.setting)
    sizes = [len(step.domains) if step.domains else len(step.classes) for step in protocol.steps]
    unit = "domains" if protocol.is_domain_incremental else "classes"
    total = len({label for step in protocol.steps for label in step.classes})
    learnt = f"{' + '.join(map(str, sizes))} {unit}; {total} classes in all"
    lines = [
        f"- **Data set:** {protocol.dataset_title}",
        f"- **Task:** {protocol.task} segmentation",
        f"- **Setting:** {protocol.setting}" + (f": {meaning}" if meaning else ""),
        f"- **Steps:** {len(protocol.steps)}, of {learnt}",
        *(_named_steps(protocol) if total <= FEW_CLASSES else []),
        *(_rules_of_pixels(protocol) if protocol.task == "semantic" else [RULE_OF_SEGMENTS]),
    ]
    return lines + [f"- **Note:** {note}" for note in protocol.notes]


def _named_steps(protocol: ProtocolCard) -> list[str]:
    lines = []
    for index, step in enumerate(protocol.steps):
        names = step.domains or tuple(protocol.class_names[label] for label in step.classes)
        lines.append(f"  - step {index}: {', '.join(names)}")
    return lines


def _rules_of_pixels(protocol: ProtocolCard) -> list[str]:
    counted = "counted as a class" if protocol.background else "none"
    return [
        f"- **Background:** {counted}",
        f"- **Label rules** ({protocol.rules.name}): {_rules(protocol)}",
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
