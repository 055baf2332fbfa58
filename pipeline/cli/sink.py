"""`pipe sink`: the station that writes results and knows when all is done.

Promises: progress while it runs and a summary at its end, however it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.settings import Settings

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole

HELP = """Write the results, and say KILL when all are here.

Results go to stdout or to a file, each task's output whole; a task's stderr goes to stderr. With -o FILE the run has
a journal beside it, FILE.journal: a sink that was killed is started again in the same way, and goes on.

\b
Examples:
  pipe sink > results.txt
  pipe sink -o results.txt --keep-order
  pipe sink -o results.txt --retries 3 --failed failed.jsonl
  pipe sink --halt now,fail=10% > results.txt
  pipe sink --at tcp://10.0.0.5 --insecure -o results.txt
"""


def main(settings: Settings, console: UserConsole) -> int:
    """Be the sink; the run's exit code."""
    from pipeline.cli import resume

    resume.announce_resume(settings, console.print_message)
    return run_sink_with_display(settings, console)


def run_sink_with_display(settings: Settings, console: UserConsole) -> int:
    """The same, whatever is found of a run before this one; the run's exit code."""
    from pipeline.runtime import stations

    try:
        return stations.run_sink(settings, console.notify, console.stderr_writer, console.display)
    finally:
        console.finish()
