"""`pipe journal`: the events of a journal as JSON, in their order.

It never changes a journal, and does not wait for a sink that is writing it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipeline.config.settings import Settings
from pipeline.model.errors import OK

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole

HELP = """Show the events of a journal, one JSON object per line.

`pipe run -o FILE` and `pipe sink -o FILE` write FILE.journal, and remove it when the run is complete.

\b
Examples:
  pipe journal results.txt.journal
  pipe journal results.txt.journal | tail -n 1
"""


def main(settings: Settings, console: UserConsole) -> int:  # noqa: ARG001 -- all commands are called alike
    """Print the events. Raises UsageError if the file is not a journal."""
    from pipeline.storage import journal_reader

    for line in journal_reader.to_json_lines(settings.journal):
        sys.stdout.write(f"{line}\n")
    return OK
