"""`pipe ventilate`: the station that reads tasks and distributes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.config.settings import Settings

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole

HELP = """Read tasks from files or stdin, and distribute them to workers.

It ends when all tasks are settled. Workers and sink may start before or after it, here or on other machines.
Started again with the same input, it continues; with --spool this works for a stdin that is a pipe, too.

\b
Examples:
  find . -type f | pipe ventilate
  pipe ventilate --name hashes words-1.txt words-2.txt
  pipe ventilate ::: one two three
  pipe ventilate --block 1M access.log        each task is a block of whole lines
  pipe ventilate --from-failed failed.jsonl   the tasks that `pipe sink --failed` wrote
"""


def main(settings: Settings, console: UserConsole) -> int:
    """Run the ventilator, and return the run's exit code."""
    from pipeline.cli import resume
    from pipeline.runtime import file_conflicts, stations

    inputs = file_conflicts.input_files(settings)
    file_conflicts.check_conflicts(
        inputs, [file_conflicts.RunFile("--spool", settings.spool)] if settings.spool else []
    )
    prompt_for_tasks(settings, console)
    if settings.no_spool:
        resume.warn_not_resumable(settings, console.print_message)
    return stations.run_ventilator(settings, console.notify)


def prompt_for_tasks(settings: Settings, console: UserConsole) -> None:
    """Ask the user to type tasks if they are read from a terminal."""
    from pipeline.runtime import run_files

    if os.isatty(0) and run_files.reads_stdin(settings) and not settings.quiet:
        console.print_message("reading tasks from this terminal, one per line; press Ctrl-D to end")
