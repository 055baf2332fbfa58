"""`pipe ventilate`: the station that reads tasks and spreads them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.config.settings import Settings

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole

HELP = """Read tasks from files or stdin, and spread them.

It ends when the sink has settled all. Workers and sink may be started before or after, here or on other machines.
Started again with the same input, it goes on; of a stdin that is a pipe, --spool keeps what is needed for that.

\b
Examples:
  find . -type f | pipe ventilate
  pipe ventilate --name hashes words-1.txt words-2.txt
  pipe ventilate ::: one two three
  pipe ventilate --block 1M access.log        each task a block of whole lines
  pipe ventilate --from-failed failed.jsonl   what `pipe sink --failed` wrote, once more
"""


def main(settings: Settings, console: UserConsole) -> int:
    """Be the ventilator; the run's exit code."""
    from pipeline.cli import resume
    from pipeline.runtime import stations

    prompt_for_tasks(settings, console)
    if settings.no_spool:
        resume.warn_not_resumable(settings, console.print_message)
    return stations.run_ventilator(settings, console.notify)


def prompt_for_tasks(settings: Settings, console: UserConsole) -> None:
    """Say that tasks are to be typed, where they come from a terminal: else it would wait in silence."""
    from pipeline.runtime import run_files

    if os.isatty(0) and run_files.reads_stdin(settings) and not settings.quiet:
        console.print_message("tasks are read from this terminal, one a line; ^D ends them")
