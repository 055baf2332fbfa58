"""`pipe doctor`: what of this machine would bite, in what case, and what to do.

Promises: changes nothing; each fact has one line, and whatever is not well a second one with what to do.
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
HELP = """Look at this machine, and say what would bite.

Limits, cgroups, folders, versions, clock and terminal; what dead runs have left, and which pipelines are live.
Give --jobs and --workers as you will give them to the run. Ends with 0 when nothing bites, with 1 when something
would in the case that is told, with 3 when something cannot work.

\b
Examples:
  pipe doctor
  pipe doctor --jobs 500
  pipe doctor --json | jq -r 'select(.state != "ok") | .fix'
"""


def main(settings: Settings, console: UserConsole) -> int:  # noqa: ARG001 -- all commands are called alike
    """Look, and tell; the exit code says how bad it is."""
    found = list(run_checks(settings))
    lines = [_to_json(each) for each in found] if settings.as_json else format_report(found)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return exit_code(found)


def run_checks(settings: Settings) -> Iterator[CheckResult]:
    """All that is found, in the order in which a person asks."""
    from pipeline.doctor import environment_checks, system_checks
    from pipeline.system import resources

    each = settings.jobs or -(-resources.usable_cpus() // settings.workers)
    jobs = each * settings.workers
    yield environment_checks.check_python()
    yield environment_checks.check_libraries()
    yield environment_checks.check_libzmq()
    yield system_checks.check_kernel()
    yield system_checks.check_cpus()
    yield system_checks.check_memory(jobs)
    yield system_checks.check_open_files(each, settings.workers)
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
    """The exit code: the worst of all."""
    states = {each.state for each in results}
    return INCOMPLETE if "bad" in states else WARNING_EXIT_CODE if "warn" in states else OK


def format_report(results: Sequence[CheckResult]) -> Iterator[str]:
    """Lines for a person, and at their end how it stands."""
    width = max(len(each.name) for each in results)
    for each in results:
        yield f"{each.state:<4}  {each.name:<{width}}  {each.detail}"
        if each.fix:
            yield f"{'':<4}  {'':<{width}}  -> {each.fix}"
    wrong = sum(each.state != "ok" for each in results)
    yield ""
    yield f"{wrong} of {len(results)} would bite; what to do stands behind each arrow." if wrong else "Nothing bites."


def _to_json(result: CheckResult) -> str:
    return json.dumps(
        {"name": result.name, "state": result.state, "says": result.detail, "fix": result.fix}, ensure_ascii=False
    )
