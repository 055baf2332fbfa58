"""`pipe kill`: ask the sink to broadcast KILL, wait for the goodbyes, and name whose is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.cli import render
from pipeline.words.messages import Status
from pipeline.words.settings import Settings
from pipeline.words.station import Message

if TYPE_CHECKING:
    from pipeline.cli.screen import Screen

HELP = """End a run early.

Nothing new starts, running tasks finish; with --now they are killed.

\b
Examples:
  pipe kill
  pipe kill --now --name hashes
"""


def main(settings: Settings, screen: Screen) -> int:
    """Stop the run that meets here; 0 when all have gone."""
    from pipeline import onlookers

    def told(message: Message) -> None:
        if isinstance(message, Status):
            screen.say(render.goodbyes(message))
        else:
            screen.told(message)

    return onlookers.stop(settings, "now" if settings.now else "soon", told)
