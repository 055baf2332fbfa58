"""`pipe kill`: ask the sink to broadcast KILL, and wait for the goodbyes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.cli.screen import Screen

HELP = """End a run early.

Nothing new starts, running tasks finish; with --now they are killed.

\b
Examples:
  pipe kill
  pipe kill --now --name hashes
"""


def main(settings: Settings, screen: Screen) -> int:  # noqa: ARG001 -- all commands are called alike
    """Stop the run that meets here."""
    from pipeline import line

    return line.stop(settings, "now" if settings.now else "soon")
