"""`pipe doctor`: check this machine, and say what to do about each problem.

It changes nothing. Each check has one line; a check that needs attention has a second line with the cure.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.config.settings import Settings
from pipeline.model.errors import INCOMPLETE, OK, TASKS_FAILED

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole
    from pipeline.doctor.system_checks import CheckResult

WARNING_EXIT_CODE = TASKS_FAILED
HELP = """Check this machine for problems.

It checks limits, cgroups, directories, versions, clock and terminal, and lists leftovers of dead runs and running
pipelines. Give --jobs and --workers as for the run. The exit code is 0 if all checks passed, 1 if there are warnings,
3 if something cannot work.

\b
Examples:
  pipe doctor
  pipe doctor --jobs 500
  pipe doctor --json | jq -r 'select(.state != "ok") | .fix'
"""


def main(settings: Settings, console: UserConsole) -> int:  # noqa: ARG001 -- all commands are called alike
    """Print the results of all checks, and return the exit code of the worst."""
    results = list(run_checks(settings))
    lines = [_to_json(each) for each in results] if settings.as_json else format_report(results)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return exit_code(results)


def run_checks(settings: Settings) -> Iterator[CheckResult]:
    """Run all checks, from the basic ones to the special ones."""
    from pipeline.doctor import environment_checks, system_checks
    from pipeline.system import resources

    slots = settings.jobs or -(-resources.usable_cpus() // settings.workers)  # of each worker
    jobs = slots * settings.workers
    yield environment_checks.check_python()
    yield environment_checks.check_libraries()
    yield environment_checks.check_libzmq()
    yield system_checks.check_kernel()
    yield system_checks.check_cpus()
    yield system_checks.check_memory(jobs)
    yield system_checks.check_open_files(slots, settings.workers)
    yield system_checks.check_processes(jobs)
    yield system_checks.check_cgroup_processes(jobs)
    yield environment_checks.check_runtime_folder()
    yield environment_checks.check_sockets()
    yield environment_checks.check_temporary_folder()
    yield environment_checks.check_current_folder()
    yield environment_checks.check_clock()
    yield environment_checks.check_terminal(os.environ, is_terminal=sys.stderr.isatty())
    yield environment_checks.check_leftovers()
    yield environment_checks.check_live_runs()


def exit_code(results: Sequence[CheckResult]) -> int:
    """Return the exit code of the worst result."""
    states = {each.state for each in results}
    return INCOMPLETE if "bad" in states else WARNING_EXIT_CODE if "warn" in states else OK


def format_report(results: Sequence[CheckResult]) -> Iterator[str]:
    """Return the lines of a report for the user, with a summary at the end."""
    width = max(len(each.name) for each in results)
    for each in results:
        yield f"{each.state:<4}  {each.name:<{width}}  {each.detail}"
        if each.fix:
            yield f"{'':<4}  {'':<{width}}  -> {each.fix}"
    problems = sum(each.state != "ok" for each in results)
    yield ""
    yield f"{problems} of {len(results)} checks need attention (see ->)" if problems else "all checks passed"


def _to_json(result: CheckResult) -> str:
    row = {"name": result.name, "state": result.state, "detail": result.detail, "fix": result.fix}
    return json.dumps(row, ensure_ascii=False)
