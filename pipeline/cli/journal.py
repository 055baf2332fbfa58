"""`pipe journal`: what a journal holds, for a person and for `jq`.

Promises: one JSON object a line, in the order in which things became true. Never changes a journal, nor waits for a
sink that is writing it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipeline.config.settings import Settings
from pipeline.model.errors import OK

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole

HELP = """Show what a journal holds, one JSON object a line.

A journal is what `pipe run -o FILE` and `pipe sink -o FILE` keep in FILE.journal until the run is finished.

\b
Examples:
  pipe journal results.txt.journal
  pipe journal results.txt.journal | tail -n 1
"""


def main(settings: Settings, console: UserConsole) -> int:  # noqa: ARG001 -- all commands are called alike
    """Print it. Raises UsageError for what is no journal."""
    from pipeline.storage import journal_reader

    for line in journal_reader.to_json_lines(settings.journal):
        sys.stdout.write(f"{line}\n")
    return OK
