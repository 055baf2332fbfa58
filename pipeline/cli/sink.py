"""`pipe sink`: the station that writes results and decides when the run is complete.

It shows progress while it runs, and prints a summary however it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.settings import Settings

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole

HELP = """Write the results, and end the run when all are written.

Results go to stdout or to a file, each task's output whole; a task's stderr goes to stderr. With -o FILE there is a
journal beside it, FILE.journal. If the sink is killed, the same command continues the run.

\b
Examples:
  pipe sink > results.txt
  pipe sink -o results.txt --keep-order
  pipe sink -o results.txt --retries 3 --failed failed.jsonl
  pipe sink --halt now,fail=10% > results.txt
  pipe sink --at tcp://10.0.0.5 --insecure -o results.txt
"""


def main(settings: Settings, console: UserConsole) -> int:
    """Run the sink, and return the run's exit code."""
    from pipeline.cli import resume
    from pipeline.runtime import file_conflicts

    file_conflicts.check_conflicts((), file_conflicts.output_files(settings))
    resume.announce_resume(settings, console.print_message)
    return run_sink_with_display(settings, console)


def run_sink_with_display(settings: Settings, console: UserConsole, *, is_replacement: bool = False) -> int:
    """Run the sink with progress and summary, and return the run's exit code."""
    from pipeline.runtime import stations

    try:
        return stations.run_sink(
            settings, console.notify, console.stderr_writer, console.display, is_replacement=is_replacement
        )
    finally:
        console.finish()
