"""The page beside an exported network: what it is, how it was trained, what it reaches, whose terms bind."""

from __future__ import annotations

from reports.columns import METRICS
from reports.facts import STAND_IN, as_markdown, protocol_facts, warning
from reports.measures import measure
from reports.record import Record, StepRecord
from reports.text import pipe_table
from reports.variants import flat_hyperparameters, flat_recipe


def model_card(record: Record, step: int, file: str, sha256: str) -> str:
    """Markdown for the network after `record.steps[step]`, whose weights are in `file`."""
    protocol, method, measured = record.protocol, record.method, record.steps[step]
    lines = [f"# {method.title} on {protocol.name}, step {step}", ""]
    if record.data.synthetic:
        lines += [f"> **{STAND_IN}** {warning(protocol.dataset_title, False)}", ""]
    lines += [
        f"Weights: `{file}`, SHA-256 `{sha256}`. Read them with",
        "",
        f"    python run_benchmark.py --protocol {protocol.name} --methods {method.key} \\",
        f"        --checkpoint {file} --eval-only",
        "",
        "## Numbers",
        "",
        *_numbers(record, step),
        "",
        "## Protocol",
        "",
        *as_markdown(protocol_facts(protocol)),
        "",
        "## Classes",
        "",
        ", ".join(f"{place} {protocol.class_names[label]}" for place, label in enumerate(measured.channels)),
        "",
        "## Method",
        "",
        *_method(record, measured),
        "",
        "## Recipe and hyperparameters",
        "",
        _table("parameter", flat_recipe(record) | flat_hyperparameters(record)),
        "",
        "## Licence",
        "",
        *_licence(record),
    ]
    return "\n".join(lines) + "\n"


def _numbers(record: Record, index: int) -> list[str]:
    values, step = measure(record).steps[index - len(record.steps)], record.steps[index]
    assert values is not None, "the steps of a record are the last ones of its protocol"
    found = {name: f"{value:.2f}" for name, value in values.items() if value is not None}
    return [
        f"{METRICS[record.protocol.task]} in per cent on {step.test_images} images, after this step: `old` "
        "are the classes of the first step, `new` those of later ones.",
        "",
        _table("measure", found),
    ]


def _method(record: Record, step: StepRecord) -> list[str]:
    method, network, cost = record.method, record.network, record.cost
    assert network is not None, "a finished run has a network"
    lines = [
        f"- **Method:** {method.title} (`{method.name}`), {method.provenance}"
        + (f", {method.url}" if method.url else ""),
        f"- **Network:** {network.name}, {network.backbone}, {network.parameters} parameters in the end",
        f"- **Scale:** {record.scale}; seed {record.seed}; {step.iterations} iterations on "
        f"{step.train_images} images of {record.data.root}",
        f"- **Trained by:** {step.trained_by}, stored step `{step.key}`",
    ]
    if cost is not None:
        lines.append(
            f"- **Made:** {cost.created} by ContiSeg {cost.environment.version}, "
            f"torch {cost.environment.torch}, {cost.environment.device_name}"
        )
    return lines


def _licence(record: Record) -> list[str]:
    weights = record.recipe.get("weights")
    lines = [
        f"- The weights were learnt from {record.protocol.dataset_title}, whose terms bind their users.",
        "- The code that made them, ContiSeg, is under the MIT licence; that of the official implementation "
        f"({record.method.provenance}) may be another one.",
    ]
    if weights:
        lines.append(f"- The backbone started from `{weights}`, which has a licence of its own.")
    if "checkpoint" in record.overrides:
        lines.append(f"- They go on from `{record.overrides['checkpoint']}`, which has a licence of its own.")
    return lines


def _table(heading: str, values: dict[str, str]) -> str:
    return pipe_table(
        [heading, "value"], [[name, value.replace("|", "\\|")] for name, value in values.items()], set()
    )
