"""`pipe work`: one worker process, and its parent monitor.

When the worker or its monitor dies, everything that it started ends too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.cli.exit_codes import make_guarded
from pipeline.config.settings import Settings
from pipeline.model.structs import replace

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole

HELP = """Run COMMAND for each task that arrives, until the run ends.

Start any number of workers at any time. All workers of a run must have the same COMMAND.
One word of COMMAND is a shell line, several are an argument list. {} is the task; without {} it is appended.

\b
Examples:
  pipe work 'gzip {}'
  pipe work --jobs 8 --name hashes sha256sum
  pipe work --call builtins:len
  pipe work --at tcp://10.0.0.5 --insecure 'convert {} {}.png'
"""


def main(settings: Settings, console: UserConsole) -> int:
    """Run a worker until the run ends, and return its exit code."""
    from pipeline.runtime import stations
    from pipeline.system.processes import run_under_monitor
    from pipeline.system.resources import usable_cpus

    work = replace(settings, jobs=settings.jobs or usable_cpus())
    return run_under_monitor(
        make_guarded(lambda: stations.run_worker(work, console.notify)), keep_background=work.keep_background
    )
