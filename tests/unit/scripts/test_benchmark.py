"""The benchmark keeps its figures, reports changes by its rule, and counts the CPU time of all processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.benchmark.report import CaseResult, Report, WorkloadResult, check_target, compare, compare_reports
from scripts.benchmark.workloads import (
    ALTERNATIVES,
    WORKLOADS,
    Inputs,
    Programs,
    Target,
    Workload,
    greedy_seconds,
    makespan,
    seconds,
)
from tests.support.processes import ROOT

ORPHAN = """
import os, time
if os.fork() == 0:
    while time.process_time() < 0.2:
        pass
"""
"""Exits before its child, which uses the CPU for 0.2 s."""


def report(pipe: list[float], xargs: list[float]) -> Report:
    cases = {"pipe": CaseResult(2, pipe, pipe), "xargs": CaseResult(1, xargs, xargs)}
    workload = WorkloadResult("two commands", "s", "xargs", [("pipe", "xargs")], cases)
    return Report({"rounds": len(pipe)}, {"commands": workload})


def test_report_written_and_read_is_equal(tmp_path: Path) -> None:
    before = report([1.5, 1.25, 1.0], [2.0, 2.0, 2.0])
    before.write(tmp_path / "new" / "report.json")
    assert Report.read(tmp_path / "new" / "report.json") == before


def test_report_of_other_format_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"format": 0}')
    with pytest.raises(ValueError, match="format 0 instead of 1"):
        Report.read(tmp_path / "report.json")


@pytest.mark.parametrize(
    ("before", "after", "conclusion"),
    [
        ([10, 11, 12], [7, 8, 9], "LOWER"),
        ([7, 8, 9], [10, 11, 12], "HIGHER"),
        ([10, 11, 12], [8, 9, 10], "no change beyond the noise"),  # differ by the spread
        ([10, 10, 10], [1, 7, 12], "no change beyond the noise"),  # the spread of one side is larger
        ([10, 10, 10], [10, 10, 10], "no change beyond the noise"),
        ([10, 10], [1, 1], "unknown: fewer than 3 rounds"),
    ],
)
def test_compare_medians_beyond_both_spreads_is_change(
    before: list[float], after: list[float], conclusion: str
) -> None:
    assert compare(before, after).conclusion == conclusion


def test_compare_reports_prints_change_and_ratios() -> None:
    old, new = report([4, 4, 4], [1, 2, 3]), report([2, 2, 2], [1, 2, 3])
    lines = [" ".join(line.split()) for line in compare_reports(old, new)]
    assert "pipe time 4 s -> 2 s 0.50 x LOWER" in lines
    assert "xargs CPU 2 s -> 2 s 1.00 x no change beyond the noise" in lines
    assert "pipe / xargs, per round: 1.00 -> 0.50 0.50 x no change beyond the noise" in lines


def test_compare_reports_with_different_workloads_compares_none() -> None:
    old, new = report([1], [1]), report([1], [1])
    old.workloads["commands"].title = "three commands"
    assert [line.strip() for line in compare_reports(old, new)][1:] == [
        "not comparable: the first report measured three commands"
    ]
    assert "only in the first report" in "".join(compare_reports(old, Report({})))
    assert "only in the second report" in "".join(compare_reports(Report({}), new))


def test_target_is_met_up_to_factor_and_slack() -> None:
    result = report([4, 4, 4], [1, 1, 1]).workloads["commands"]  # 2 s and 1 s a task
    workload = Workload("two commands", seconds(), {}, (), "xargs")
    assert check_target(workload, Target("pipe", "", 2, "xargs"), result)[0]
    assert check_target(workload, Target("pipe", "", 1, "xargs", 1), result)[0]
    assert not check_target(workload, Target("pipe", "", 1.9, "xargs"), result)[0]
    assert not check_target(workload, Target("pipe", "", slack=1.9), result)[0]
    assert "not measured" in check_target(workload, Target("pipe", "", 1, "parallel"), result)[1]


@pytest.mark.parametrize("name", WORKLOADS)
def test_workload_targets_and_limit_name_its_cases(name: str, tmp_path: Path) -> None:
    inputs = Inputs(tmp_path, 10, is_quick=True)
    inputs.record_count = 2
    workload = WORKLOADS[name](Programs("python", {"": "pipe", " (against)": "old/pipe"}, inputs))
    named = {target.case for target in workload.targets} | {target.other for target in workload.targets} | {""}
    assert named | {workload.limit} <= {"", *workload.cases}
    assert any(case.endswith(" (against)") for case in workload.cases)


def test_cpu_time_of_orphan_is_counted() -> None:
    code = f"""
from scripts.benchmark.measurement import adopt_orphans, run
adopt_orphans()
print(run([{sys.executable!r}, "-c", {ORPHAN!r}], 0, 1)[1].cpu_seconds)
"""
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout
    assert float(printed) >= 0.2


def test_loops_process_each_line_once(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("".join(f"{'x' * (number % 7)}\n" for number in range(50)))
    paths = [str(tmp_path / "lines"), str(tmp_path / "results")]
    command = [sys.executable, str(ALTERNATIVES), "loops", "len", *paths]
    subprocess.run(command, check=True)
    results = "".join(path.read_text() for path in tmp_path.glob("results.*"))
    assert sorted(map(int, results.split())) == sorted(number % 7 for number in range(50))


def test_makespan_is_from_first_start_to_last_end(tmp_path: Path) -> None:
    rows = ["Seq\tStarttime\tJobRuntime", "1\t100.5\t2.0", "2\t100.0\t1.0"]
    (tmp_path / "joblog").write_text("\n".join(rows))
    assert makespan(tmp_path / "joblog") == 2.5


def test_greedy_schedule_uses_first_free_slot() -> None:
    assert greedy_seconds([3, 1, 1, 1], 2) == 3
    assert greedy_seconds([1, 1, 3], 2) == 4
