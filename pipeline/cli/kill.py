"""`pipe kill`: ask the sink to broadcast KILL, wait for the goodbyes, and name whose is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.cli import messages
from pipeline.config.settings import Settings
from pipeline.model.messages import RunStatus
from pipeline.model.state_machine import Message

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole

HELP = """End a run early.

Nothing new starts, running tasks finish; with --now they are killed.

\b
Examples:
  pipe kill
  pipe kill --now --name hashes
"""


def main(settings: Settings, console: UserConsole) -> int:
    """Stop the run that meets here; 0 when all have gone."""
    from pipeline.runtime import control_client

    def notify(message: Message) -> None:
        if isinstance(message, RunStatus):
            console.print_message(messages.waiting_for_text(message))
        else:
            console.notify(message)

    return control_client.request_stop(settings, "now" if settings.now else "soon", notify)
