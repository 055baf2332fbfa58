"""`pipe kill`: ask the sink to stop the run, and wait until its processes have disconnected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.cli import messages
from pipeline.config.settings import Settings
from pipeline.model.messages import RunStatus
from pipeline.model.state_machine import Message

if TYPE_CHECKING:
    from pipeline.cli.terminal import UserConsole

HELP = """Stop a run early.

No further task starts, and running tasks finish; with --now they are killed.

\b
Examples:
  pipe kill
  pipe kill --now --name hashes
"""


def main(settings: Settings, console: UserConsole) -> int:
    """Stop the run at these endpoints; 0 when all processes have disconnected."""
    from pipeline.runtime import control_client

    def notify(message: Message) -> None:
        if isinstance(message, RunStatus):
            if not settings.quiet:
                console.print_message(messages.waiting_for_text(message))
        else:
            console.notify(message)

    return control_client.request_stop(settings, "now" if settings.now else "soon", notify)
