"""`pipe top`: what a run does now.

Promises: on a terminal the newest view alone is seen, elsewhere each follows the other. Never changes a run.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from pipeline.cli import render
from pipeline.words.errors import OK, PipelineError
from pipeline.words.settings import Settings

if TYPE_CHECKING:
    from pipeline.cli.screen import Screen

KILLED = {"done", "soon", "now"}
PAUSE = 1.0  # seconds between two views
CLEAR = "\x1b[H\x1b[J"
HELP = """Show progress and workers, each second until the end.

\b
Examples:
  pipe top
  pipe top --once --name hashes
"""


def main(settings: Settings, screen: Screen) -> int:  # noqa: ARG001 -- all commands are called alike
    """Print views until the run is over, or one with --once."""
    from pipeline import onlookers

    clear = CLEAR if sys.stdout.isatty() and not settings.once else ""
    seen = False
    while True:
        try:
            status = onlookers.look(settings)
        except PipelineError:
            if seen:  # the sink has gone, and so the run is over
                return OK
            raise
        seen = True
        sys.stdout.write(f"{clear}{render.overview(status)}\n")
        sys.stdout.flush()
        if settings.once or (status.state in KILLED and not status.awaited):
            return OK
        time.sleep(PAUSE)
