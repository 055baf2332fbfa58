"""Reports of benchmark runs: their JSON, their tables, and the comparison of two.

A difference of two medians is a change if it is larger than the spread (maximum minus minimum) of each side, and both
sides have at least three rounds. Where nothing changed, five rounds pass this rule by chance in about 1 of 200 cases.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

from scripts.benchmark.workloads import AGAINST, Target, Workload

FORMAT = 1
MIN_ROUNDS = 3


@dataclass
class CaseResult:
    """Costs and CPU seconds of one case, one for each round."""

    tasks: int
    costs: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    @property
    def cost_per_task(self) -> float:
        """Return the median."""
        return median(self.costs) / self.tasks


@dataclass
class WorkloadResult:
    """The cases of one workload. `ratios` are pairs of a case and its alternative or limit."""

    title: str
    unit: str
    limit: str
    ratios: list[tuple[str, str]]
    cases: dict[str, CaseResult]


@dataclass
class Report:
    """All results of one run, and where it took place."""

    environment: dict[str, object]
    workloads: dict[str, WorkloadResult] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Replace the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Report:
        """Return the report in a file, or raise ValueError."""
        content = json.loads(path.read_text())
        if content.get("format") != FORMAT:
            raise ValueError(f"{path}: format {content.get('format')} instead of {FORMAT}")
        workloads = {name: _read_workload(fields) for name, fields in content["workloads"].items()}
        return cls(content["environment"], workloads)


def _read_workload(fields: dict[str, object]) -> WorkloadResult:
    result = WorkloadResult(**fields)  # type: ignore[arg-type]
    result.ratios = [(case, other) for case, other in result.ratios]
    result.cases = {name: CaseResult(**case) for name, case in result.cases.items()}  # type: ignore[arg-type]
    return result


class Change(NamedTuple):
    """The difference between two series of the same figure."""

    before: float
    after: float
    conclusion: str

    def __str__(self) -> str:
        """Format the ratio and the conclusion."""
        ratio = f"{self.after / self.before:.2f} x" if self.before else "no ratio"
        return f"{ratio:>8}  {self.conclusion}"


def compare(before: list[float], after: list[float]) -> Change:
    """Apply the rule of this module; costs are better when they are lower."""
    medians = median(before), median(after)
    spread = max(max(before) - min(before), max(after) - min(after))
    if min(len(before), len(after)) < MIN_ROUNDS:
        return Change(*medians, f"unknown: fewer than {MIN_ROUNDS} rounds")
    if abs(medians[1] - medians[0]) <= spread:
        return Change(*medians, "no change beyond the noise")
    return Change(*medians, "LOWER" if medians[1] < medians[0] else "HIGHER")


def compare_cases(before: CaseResult, after: CaseResult, unit: str) -> Iterator[str]:
    """Yield a line for the cost and one for the CPU seconds."""
    for name, old, new in (
        ("memory" if unit == "bytes" else "time", before.costs, after.costs),
        ("CPU", before.cpu_seconds, after.cpu_seconds),
    ):
        change = compare(old, new)
        figures = f"{_figure(change.before, name)} -> {_figure(change.after, name)}"
        yield f"{name:<6} {figures:>24} {change}"


def _figure(value: float, name: str) -> str:
    return f"{value / 1e6:.1f} MB" if name == "memory" else f"{value:.4g} s"


def compare_reports(before: Report, after: Report) -> Iterator[str]:
    """Yield the comparison of all workloads and cases that both reports have."""
    for name, new in after.workloads.items():
        old = before.workloads.get(name)
        if old is None:
            yield f"\n{name}: only in the second report"
            continue
        yield f"\n{name}  {new.title}"
        if old.title != new.title:
            yield f"    not comparable: the first report measured {old.title}"
            continue
        for case in new.cases:
            if case in old.cases:
                for line in compare_cases(old.cases[case], new.cases[case], new.unit):
                    yield f"    {case:<22} {line}"
        for case, other in new.ratios:
            if all(name in result.cases for name in (case, other) for result in (old, new)):
                change = compare(_round_ratios(old, case, other), _round_ratios(new, case, other))
                yield f"    {case} / {other}, per round: {change.before:.2f} -> {change.after:.2f} {change}"
    for name in before.workloads.keys() - after.workloads.keys():
        yield f"\n{name}: only in the first report"


def _round_ratios(result: WorkloadResult, case: str, other: str) -> list[float]:
    """Return the cost per task of a case in each round, divided by the other's in the same round."""
    upper, lower = result.cases[case], result.cases[other]
    scale = lower.tasks / upper.tasks
    return [scale * cost / base for cost, base in zip(upper.costs, lower.costs, strict=True)]


def new_result(workload: Workload) -> WorkloadResult:
    """Return a result without rounds."""
    cases = {name: CaseResult(case.tasks) for name, case in workload.cases.items()}
    pairs = [(target.case, other) for target in workload.targets for other in (target.other, workload.limit)]
    ratios = [(case, other) for case, other in dict.fromkeys(pairs) if other]
    return WorkloadResult(workload.title, "bytes" if workload.is_memory else "s", workload.limit, ratios, cases)


def format_table(workload: Workload, result: WorkloadResult) -> Iterator[str]:
    """Yield a line for each case, the limit, and the changes against the other environment."""
    for name, case in result.cases.items():
        scale = 1e-6 if workload.is_memory else 1.0
        unit = "MB" if workload.is_memory else "s"
        cost = _format_series([scale * cost for cost in case.costs], unit)
        cpu = _format_series(case.cpu_seconds)
        yield f"    {name:<22} {workload.show(case.cost_per_task):>18}   {cost:<32} CPU {cpu}"
    limit = result.cases.get(result.limit)
    for name, case in result.cases.items():
        if limit and name.removesuffix(AGAINST) in {target.case for target in workload.targets}:
            figure, times = workload.show(limit.cost_per_task), case.cost_per_task / limit.cost_per_task
            yield f"    limit   {figure} ({result.limit}); {name} costs {times:.2f} x the limit"
    for name, case in result.cases.items():
        if name.endswith(AGAINST):
            now = name.removesuffix(AGAINST)
            for line in compare_cases(case, result.cases[now], result.unit):
                yield f"    change  {now}: {line}"


def _format_series(values: list[float], unit: str = "s") -> str:
    spread = f" ({min(values):.4g} to {max(values):.4g})" if len(values) > 1 else ""
    return f"{median(values):.4g} {unit}{spread}"


def check_target(workload: Workload, target: Target, result: WorkloadResult) -> tuple[bool, str]:
    """Return whether the case meets its target, and a line that says so."""
    case, other = result.cases.get(target.case), result.cases.get(target.other)
    if case is None or (target.other and other is None):
        return True, f"    not measured  {target.case}: {target.text}"
    base = other.cost_per_task if other else 0.0
    is_met = case.cost_per_task <= target.factor * base + target.slack
    figure = workload.show(case.cost_per_task)
    if other:
        ratio = case.cost_per_task / base
        figure = f"{ratio:.2f} x the cost, {1 / ratio:.2f} x the rate"
    return is_met, f"    {'met   ' if is_met else 'MISSED'}  {target.case}: {target.text}: {figure}"
