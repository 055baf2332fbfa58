"""`pipe doctor`: what of this machine would bite, in what case, and what to do.

Promises: changes nothing; each fact has one line, and whatever is not well a second one with what to do.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.words.errors import INCOMPLETE, OK, TASKS_FAILED
from pipeline.words.settings import Settings

if TYPE_CHECKING:
    from pipeline.cli.screen import UserConsole
    from pipeline.house.finding import CheckResult

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
    from pipeline.house import ceilings, machine, makings, quarters

    each = settings.jobs or -(-machine.usable_cpus() // settings.workers)
    jobs = each * settings.workers
    yield makings.check_python()
    yield makings.check_libraries()
    yield makings.check_libzmq()
    yield ceilings.check_kernel()
    yield ceilings.check_cpus()
    yield ceilings.check_memory(jobs)
    yield ceilings.check_open_files(each, settings.workers)
    yield ceilings.check_processes(jobs)
    yield ceilings.check_cgroup_processes(jobs)
    yield quarters.check_runtime_folder()
    yield quarters.check_sockets()
    yield quarters.check_temporary_folder()
    yield quarters.check_current_folder()
    yield makings.check_clock()
    yield makings.check_terminal(os.environ, is_terminal=sys.stderr.isatty())
    yield quarters.check_leftovers()
    yield quarters.check_live_runs()


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
