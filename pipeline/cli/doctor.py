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
    from pipeline.cli.screen import Screen
    from pipeline.house.finding import Finding

WARNED = TASKS_FAILED
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


def main(settings: Settings, screen: Screen) -> int:  # noqa: ARG001 -- all commands are called alike
    """Look, and tell; the exit code says how bad it is."""
    found = list(findings(settings))
    lines = [_as_json(each) for each in found] if settings.as_json else told(found)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return verdict(found)


def findings(settings: Settings) -> Iterator[Finding]:
    """All that is found, in the order in which a person asks."""
    from pipeline.house import ceilings, machine, makings, quarters

    each = settings.jobs or -(-machine.usable_cpus() // settings.workers)
    jobs = each * settings.workers
    yield makings.python()
    yield makings.libraries()
    yield makings.libzmq()
    yield ceilings.kernel()
    yield ceilings.cpus()
    yield ceilings.memory(jobs)
    yield ceilings.open_files(each, settings.workers)
    yield ceilings.processes(jobs)
    yield ceilings.cgroup_processes(jobs)
    yield quarters.runtime()
    yield quarters.sockets()
    yield quarters.temporary()
    yield quarters.here()
    yield makings.clock()
    yield makings.terminal(os.environ, is_one=sys.stderr.isatty())
    yield quarters.leftovers()
    yield quarters.live()


def verdict(found: Sequence[Finding]) -> int:
    """The exit code: the worst of all."""
    states = {each.state for each in found}
    return INCOMPLETE if "bad" in states else WARNED if "warn" in states else OK


def told(found: Sequence[Finding]) -> Iterator[str]:
    """Lines for a person, and at their end how it stands."""
    width = max(len(each.name) for each in found)
    for each in found:
        yield f"{each.state:<4}  {each.name:<{width}}  {each.says}"
        if each.fix:
            yield f"{'':<4}  {'':<{width}}  -> {each.fix}"
    wrong = sum(each.state != "ok" for each in found)
    yield ""
    yield f"{wrong} of {len(found)} would bite; what to do stands behind each arrow." if wrong else "Nothing bites."


def _as_json(each: Finding) -> str:
    return json.dumps({"name": each.name, "state": each.state, "says": each.says, "fix": each.fix}, ensure_ascii=False)
