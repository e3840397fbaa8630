"""What is wrong with records, or doubtful, beyond what `reports.record.read` refuses: for who sends one in.

An error makes a row untrue: it must be mended. A warning leaves a row true but with less to say, or points at
what is legitimate sometimes: whoever looks at the record decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reports.columns import METRICS
from reports.measures import measure
from reports.record import Counts, InstanceCounts, PanopticCounts, Record, SemanticCounts, StepRecord, read

PROVENANCE = re.compile(r"port of [^\s@]+@\S+|paper only|baseline|official code of [^\s@]+@\S+|new|example")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or doubtful, at a field's dotted path: its value and the remedy."""

    field: str
    problem: str
    is_error: bool = True


@dataclass
class Checked:
    """A file, the record in it where it holds one, and what was found."""

    path: Path
    record: Record | None
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return not any(finding.is_error for finding in self.findings)

    @property
    def lines(self) -> list[str]:
        """For the terminal: what it is, if it is sound, and a line a finding."""
        ok = [f"ok: {self.path}: {_summary(self.record)}"] if self.record and self.is_sound else []
        return ok + [
            f"{'' if finding.is_error else 'warning: '}{self.path}: "
            + (f"{finding.field}: {finding.problem}" if finding.field else finding.problem)
            for finding in self.findings
        ]


More = Callable[[Record], Iterable[Finding]]
"""What somebody else knows of a record, such as the protocols of the literature."""


def files_in(path: Path) -> list[Path]:
    """The file itself, or the `seed-*.json` below a folder, in order.

    Raises:
        ValueError: there is nothing.
    """
    if not path.is_dir():
        if not path.exists() and not path.is_symlink():
            raise ValueError(f"{path}: no such file or folder; give records, or a folder of them")
        return [path]
    found = sorted(path.rglob("seed-*.json"))
    if not found:
        raise ValueError(f"{path}: no seed-*.json in it; give a folder of records, or the files by name")
    return found


def validate(paths: Sequence[Path], more: More = lambda _: ()) -> list[Checked]:
    """Check every file by itself, then the records against one another."""
    checked = [_checked(path, more) for path in paths]
    sound = [each for each in checked if each.record is not None]
    _compare_runs(sound)
    _compare_truth(sound)
    return checked


def summary_line(checked: Sequence[Checked]) -> str:
    sound = sum(each.is_sound for each in checked)
    warnings = sum(not finding.is_error for each in checked for finding in each.findings)
    noted = f", {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    return f"{sound} of {len(checked)} {'record' if len(checked) == 1 else 'records'} sound{noted}"


def _checked(path: Path, more: More) -> Checked:
    try:
        record = read(path)
    except ValueError as error:
        return Checked(path, None, [Finding("", str(error).removeprefix(f"{path}: "))])
    findings = [*_of_the_name(path, record), *_of_the_record(record), *more(record)]
    return Checked(path, record, findings)


def _summary(record: Record) -> str:
    head = f"{record.protocol.name} {record.method.name} seed {record.seed}"
    kind = ", synthetic data" if record.data.synthetic else ""
    if not record.finished:
        return f"{head}, failed: {record.reason}{kind}"
    value = measure(record).final["all"]
    text = "undefined" if value is None else f"{value:.1f}"
    return f"{head}, {METRICS[record.protocol.task]} {text}{kind}"


def _of_the_name(path: Path, record: Record) -> Iterator[Finding]:
    if path.name != f"seed-{record.seed}.json":
        problem = f"{record.seed} in a file named {path.name!r}; name it seed-{record.seed}.json, else"
        yield Finding("seed", f"{problem} `report` may not find it", is_error=False)


def _of_the_record(record: Record) -> Iterator[Finding]:
    """What one record says that cannot be, or that a reader of the table would miss."""
    if record.network is not None and record.network.parameters == 0:
        yield Finding("network.parameters", "0, but a network has some; count them after the last step")
    if not PROVENANCE.fullmatch(record.method.provenance):
        problem = f"{record.method.provenance!r}; say 'port of REPO@commit', 'official code of REPO@commit',"
        yield Finding("method.provenance", f"{problem} 'paper only', 'baseline' or 'new'", is_error=False)
    if record.finished and record.cost is None:
        problem = "null; the table will have no time and no memory: add them where they were measured"
        yield Finding("cost", problem, is_error=False)
    counts = record.steps[-1].counts if record.steps else None
    unassigned = counts.unassigned if isinstance(counts, SemanticCounts) else ()
    if record.protocol.zero_is_unlabelled and unassigned is None:
        problem = "null; the columns over labelled pixels stay empty: count it and prediction_on_background"
        yield Finding(f"steps[{len(record.steps) - 1}].counts.unassigned", problem, is_error=False)
    for step in record.steps:
        yield from _of_the_step(record, step)
    yield from _changes_of_truth(record)


def _of_the_step(record: Record, step: StepRecord) -> Iterator[Finding]:
    here = f"steps[{step.index}]"
    if step.test_images == 0 or not any(_truth(step.counts)):
        yield Finding(f"{here}.counts", "nothing was tested; measure on the validation set")
    if isinstance(step.counts, SemanticCounts):
        yield from _of_the_pixels(step.counts, f"{here}.counts")
    if step.test_images > record.data.val_images and not record.protocol.is_domain_incremental:
        most = f"the {record.data.val_images} of data.val_images"
        yield Finding(f"{here}.test_images", f"{step.test_images} exceeds {most}; correct one of them")
    if step.train_images == 0 or step.iterations == 0:
        problem = "nothing was trained (0 images or iterations); is that so?"
        yield Finding(f"{here}.iterations", problem, is_error=False)
    for name, loss in step.final_loss.items():
        if loss is None:
            problem = "null: the loss was not finite at the end; was the training sound?"
            yield Finding(f"{here}.final_loss.{name}", problem, is_error=False)


def _of_the_pixels(counts: SemanticCounts, here: str) -> Iterator[Finding]:
    """No pixel is predicted twice; one that is predicted as background has one true channel."""
    limits = [("prediction", sum(counts.prediction), "ground_truth", sum(counts.ground_truth))]
    if counts.unassigned is not None and counts.prediction_on_background is not None:
        on_background = sum(counts.prediction_on_background)
        limits.append(("prediction_on_background", on_background, "ground_truth[0]", counts.ground_truth[0]))
        limits.append(("unassigned", sum(counts.unassigned), "prediction[0]", counts.prediction[0]))
    for part, pixels, whole, most in limits:
        if pixels > most:
            problem = f"{pixels} pixels in all, but {most} in {whole}; count the same pixels in both"
            yield Finding(f"{here}.{part}", problem)


def _changes_of_truth(record: Record) -> Iterator[Finding]:
    """Every image that shows a class is tested from the step on that learns it, so its truth never changes.

    Where the test set itself changes with the step (domains), nothing follows.
    """
    first: dict[int, tuple[int, int]] = {}
    tested = {step.test_images for step in record.steps}
    if record.protocol.is_domain_incremental and len(tested) > 1:
        return
    for step in record.steps:
        for label, count in _foreground(record, step).items():
            before, when = first.setdefault(label, (count, step.index))
            if count != before:
                where = f"steps[{step.index}].counts ({_truth_name(step.counts)})"
                found = f"{count} for class {label} {record.protocol.class_names[label]!r}, but {before}"
                yield Finding(where, f"{found} after step {when}; test on the same images at every step")
                return


def _compare_runs(checked: Sequence[Checked]) -> None:
    """No run and no seed of a row counts twice."""
    seen: dict[tuple[object, ...], Checked] = {}
    for each in checked:
        assert each.record is not None
        record = each.record
        name = (record.protocol.name, record.protocol.task, record.method.name)
        setup = (record.scale, record.data.kind, record.seed)
        run = (*name, *setup, str(record.recipe), str(record.hyperparameters))
        other = seen.setdefault(run, each)
        if other is not each:
            assert other.record is not None
            same = other.record.key == record.key
            what = f"{record.key!r} is the same run as" if same else f"{record.seed} is also the seed of"
            problem = f"{what} {other.path}; delete one of the two"
            each.findings.append(Finding("key" if same else "seed", problem))


def _compare_truth(checked: Sequence[Checked]) -> None:
    """A validation set has the same pixels of each class for every method, but for the crop of its network.

    That is why it is a warning: DeepLab's methods are tested on centre crops, Mask2Former's on whole images.
    """
    groups: dict[tuple[object, ...], list[tuple[Checked, dict[int, int]]]] = {}
    for each in checked:
        record = each.record
        assert record is not None
        if record.finished:
            key = (record.protocol.name, record.protocol.task, record.data.kind, record.scale)
            groups.setdefault(key, []).append((each, _foreground(record, record.steps[-1])))
    for members in groups.values():
        times = Counter(tuple(sorted(truth.items())) for _, truth in members)
        for each, truth in members:
            if len(members) > 1 and times[tuple(sorted(truth.items()))] == 1:
                each.findings.append(_lonely(each, truth, members))


def _lonely(each: Checked, truth: dict[int, int], members: list[tuple[Checked, dict[int, int]]]) -> Finding:
    assert each.record is not None
    other, expected = next((o, t) for o, t in members if t != truth)
    label = next(label for label in truth if truth[label] != expected.get(label))
    name = each.record.protocol.class_names[label]
    step = each.record.steps[-1]
    problem = (
        f"no other record here has its numbers: {truth[label]} for class {label} {name!r}, "
        f"{expected.get(label)} in {other.path}; is it the same validation set, and the same crop?"
    )
    where = f"steps[{step.index}].counts ({_truth_name(step.counts)})"
    return Finding(where, problem, is_error=False)


def _foreground(record: Record, step: StepRecord) -> dict[int, int]:
    """What the truth has of each class by label id; the background's share changes as classes leave it."""
    pairs = zip(step.channels, _truth(step.counts), strict=True)
    return {label: count for label, count in pairs if label or not record.protocol.background}


def _truth(counts: Counts) -> tuple[int, ...]:
    """(K,) pixels, segments or instances of each channel in the ground truth."""
    if isinstance(counts, SemanticCounts):
        return counts.ground_truth
    if isinstance(counts, InstanceCounts):
        return counts.instances
    assert isinstance(counts, PanopticCounts)
    pairs = zip(counts.true_positives, counts.false_negatives, strict=True)
    return tuple(found + missed for found, missed in pairs)


def _truth_name(counts: Counts) -> str:
    if isinstance(counts, SemanticCounts):
        return "ground_truth"
    return "instances" if isinstance(counts, InstanceCounts) else "true_positives + false_negatives"
