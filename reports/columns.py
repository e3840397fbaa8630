"""What the columns of a leaderboard mean, in the words that stand below every table."""

from __future__ import annotations

from reports.record import InstanceCounts, PanopticCounts, ProtocolCard, SemanticCounts

METRICS = {
    "semantic": SemanticCounts.metric,
    "panoptic": PanopticCounts.metric,
    "instance": InstanceCounts.metric,
}
"""The metric of each task."""
SPREAD = (
    "old",
    "new",
    "all",
    "forgetting",
    "old_no_background",
    "all_no_background",
    "average",
)
"""Columns that are a mean over seeds and so have a `_std` beside them; the step columns too."""


def step_columns(protocol: ProtocolCard) -> list[str]:
    return [f"step_{index}" for index in range(len(protocol.steps))]


def column_names(protocol: ProtocolCard) -> list[str]:
    """All columns of the CSV and of the JSON rows, in order."""
    measured = [*SPREAD, *step_columns(protocol)]
    spread = [f"{name}_std" for name in measured]
    return ["method", "status", "metric", *measured, *spread, *definitions_of_run()]


def definitions(protocol: ProtocolCard) -> dict[str, str]:
    """One sentence a column, true for this protocol."""
    background = "background counted" if protocol.background else "the protocol has no background class"
    if protocol.is_domain_incremental:
        old = new = "not defined: each step of a domain-incremental protocol learns all classes anew"
        lost = "best `all` after an earlier step minus `all` after the last step, in points"
    else:
        old = f"mean IoU of the classes of the first step, {background}"
        new = "mean IoU of the classes of all later steps"
        lost = (
            "mean over the foreground classes learnt before the last step of the best IoU after an earlier "
            "step minus the IoU after the last step, in points; undefined where all are trained as one"
        )
    return {
        "method": "the method, with what was set by hand in brackets",
        "status": "ok, or how many seeds failed and why; a mean is over the seeds that finished",
        "metric": "per cent on the whole validation set after the last step, mean over seeds; "
        "a mean over classes is over those with ground truth in that set",
        "old": old,
        "new": new,
        "all": f"mean IoU of all classes, {background}",
        "forgetting": lost,
        "old_no_background": "`old` without the background",
        "all_no_background": "`all` without the background",
        "average": "mean of `all` over the steps, the first included; undefined where all are trained as one",
        "step_<t>": "`all` after step t, over the classes known by then",
        "<column>_std": "standard deviation over seeds (n - 1), from two seeds up",
        **definitions_of_run(),
    }


def definitions_of_run() -> dict[str, str]:
    """The columns that say what was run, and what each means."""
    return {
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
