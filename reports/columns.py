"""What the columns of a leaderboard mean, in the words that stand below every table."""

from __future__ import annotations

from collections.abc import Mapping

from reports.record import InstanceCounts, PanopticCounts, ProtocolCard, SemanticCounts

METRICS = {
    "semantic": SemanticCounts.metric,
    "panoptic": PanopticCounts.metric,
    "instance": InstanceCounts.metric,
}
"""The metric of each task."""
QUALITIES = {"semantic": "IoU", "panoptic": "PQ", "instance": "AP"}
"""What a class has of it."""
LABELLED = ("old_labelled", "new_labelled", "all_labelled", "average_labelled")
ASSIGNED = ("old_assigned", "new_assigned", "all_assigned", "average_assigned")
EXTRA = {"panoptic": ("sq", "rq", "things", "stuff"), "instance": ("ap50", "ap75")}
LOWER_IS_BETTER = ("forgetting",)
INTERVALS = ("old", "new", "all", "forgetting", "average")
"""The columns with an interval over seeds."""


def step_columns(protocol: ProtocolCard) -> list[str]:
    return [f"step_{index}" for index in range(len(protocol.steps))]


def measured_columns(protocol: ProtocolCard) -> list[str]:
    """Columns that are a mean over seeds and so have a `_std` beside them."""
    groups = ["old", "new", "all", "forgetting"]
    if protocol.task == "semantic":
        groups += ["old_no_background", "all_no_background"]
    labelled = [*LABELLED, *ASSIGNED] if protocol.zero_is_unlabelled else []
    extra = EXTRA.get(protocol.task, ())
    return [*groups, "average", *labelled, *extra, *step_columns(protocol)]


def column_names(protocol: ProtocolCard) -> list[str]:
    """All columns of the CSV and of the JSON rows, in order."""
    measured = measured_columns(protocol)
    spread = [f"{name}_std" for name in measured]
    limits = [f"{name}_{limit}" for name in INTERVALS for limit in ("low", "high")]
    return [
        *("method", "status", "metric", *measured, *spread, *limits),
        *_definitions_of_comparison(),
        *definitions_of_run(),
    ]


def main_columns(protocol: ProtocolCard) -> list[str]:
    """The measured columns of the first table of a page: what is defined, without steps and other pixels."""
    columns = ["old", "new", "all", "forgetting", "average", *EXTRA.get(protocol.task, ())]
    if protocol.background:
        columns += ["old_no_background", "all_no_background"]
    if protocol.is_domain_incremental:
        columns = [name for name in columns if not name.startswith(("old", "new"))]
    return columns


def definitions(protocol: ProtocolCard) -> dict[str, str]:
    """One sentence a column, true for this protocol."""
    quality = QUALITIES[protocol.task]
    background = "background counted" if protocol.background else "the protocol has no background class"
    counted = f", {background}" if protocol.task == "semantic" else ""
    if protocol.is_domain_incremental:
        old = new = "not defined: each step of a domain-incremental protocol learns all classes anew"
        lost = "best `all` after an earlier step minus `all` after the last step, in points"
    else:
        old = f"mean {quality} of the classes of the first step{counted}"
        new = f"mean {quality} of the classes of all later steps"
        lost = (
            f"mean over the foreground classes learnt before the last step of the best {quality} after an "
            f"earlier step minus the {quality} after the last step, in points; "
            "undefined where all are trained as one"
        )
    meant = "any segment, true or predicted," if protocol.task == "panoptic" else "ground truth"
    return {
        "method": "the method, with what was set by hand in brackets",
        "status": "ok, or how many seeds failed and why; a mean is over the seeds that finished; "
        "`not run` names seeds that other rows have",
        "metric": "per cent on the whole validation set after the last step, mean over seeds; "
        f"a mean over classes is over those with {meant} in that set",
        "old": old,
        "new": new,
        "all": f"mean {quality} of all classes{counted}",
        "forgetting": lost,
        **_definitions_of_task(protocol),
        "average": "mean of `all` over the steps, the first included; undefined where all are trained as one",
        **(_definitions_of_labelled() if protocol.zero_is_unlabelled else {}),
        "step_<t>": "`all` after step t, over the classes known by then",
        "<column>_std": "standard deviation over seeds (n - 1), from two seeds up",
        "<column>_low, <column>_high": "95 % bootstrap interval of the mean over seeds, from three seeds up; "
        "with so few it is rather too narrow, and it says nothing of other images",
        **_definitions_of_comparison(),
        **definitions_of_run(),
    }


def meaning(name: str, definitions: Mapping[str, str]) -> str:
    """The definition of a column, also of one that is defined as one of a family; "" if there is none."""
    family = "step_<t>" if name.startswith("step_") else f"<column>_{name.rpartition('_')[2]}"
    if family in ("<column>_low", "<column>_high"):
        family = "<column>_low, <column>_high"
    return definitions.get(name) or definitions.get(family, "")


def _definitions_of_task(protocol: ProtocolCard) -> dict[str, str]:
    if protocol.task == "panoptic":
        return {
            "sq": "segmentation quality: the IoU of the matched segments, mean over all classes",
            "rq": "recognition quality: the F1 score of the segments, mean over all classes",
            "things": "mean PQ of the countable classes",
            "stuff": "mean PQ of the other classes",
        }
    if protocol.task == "instance":
        return {
            "ap50": "mean AP of all classes at an IoU of 50 %",
            "ap75": "mean AP of all classes at an IoU of 75 %",
        }
    return {
        "old_no_background": "`old` without the background",
        "all_no_background": "`all` without the background",
    }


def _definitions_of_labelled() -> dict[str, str]:
    return {
        "<column>_labelled": "mean IoU over the pixels labelled with a class learnt so far: other pixels are "
        "not tested, the background is no class, a pixel left in it is missed (BalConpas's evaluation)",
        "<column>_assigned": "`<column>_labelled` without the pixels that the method leaves in the "
        "background: what it does not claim is forgiven (SimCIS's evaluation)",
    }


def _definitions_of_comparison() -> dict[str, str]:
    return {
        "p_value": "how likely the distance of `all` to the best ranked row is by chance: paired t-test over "
        "common seeds, two-sided, corrected for the number of rows (Holm); among rows of three seeds or more",
        "published": "the paper's number, only where data, task, setting and the counting of background and "
        "void are the same and nothing was set by hand",
        "difference": "measured minus published, in points",
        "published_column": "the column that measures what the paper printed",
        "published_source": "where it is printed",
        "published_remarks": "who measured it if not the authors, and what is known against it",
    }


def definitions_of_run() -> dict[str, str]:
    """The columns that say what was run, and what each means."""
    return {
        "task": "what is segmented: semantic, panoptic or instance",
        "seeds": "number of seeds that finished",
        "seed_list": "these seeds",
        "variant": "settings in which rows of one name differ; they are never averaged",
        "scale": "paper: the published backbone, resolution and schedule; mini: a small one for CPUs",
        "data": "real, or synthetic: a drawn stand-in, not comparable with published numbers",
        "offline": "true where all steps are trained as one: an upper bound, not ranked",
        "network": "the network",
        "backbone": "its backbone",
        "parameters": "its parameters after the last step",
        "replay_images": "images of earlier steps that the method keeps",
        "train_minutes": "training time of all steps, those taken from the store included",
        "peak_memory_mb": "largest memory of any step and seed, in megabytes",
        "provenance": "port of REPO@commit, paper only, or baseline",
        "origin": "built-in, or the user's own file",
        "title": "the paper",
        "venue": "where it was published",
        "year": "when",
        "url": "its page",
        "reason": "why seeds failed",
    }
