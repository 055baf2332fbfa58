"""Who may work in a run: those whose command is that of its first worker. Who may not is turned away, by name.

Knows no connections; what is said to whom is the desk's.
"""

from __future__ import annotations

from pipeline.words.messages import Heartbeat
from pipeline.words.notices import PeerRejected
from pipeline.words.station import Port, Send


class CommandCheck:
    """One run's command, and who was refused so far."""

    def __init__(self) -> None:
        self._digest, self._command = "", ""
        self._refused_workers: set[tuple[str, str]] = set()

    def set_command(self, digest: str, command: str) -> None:
        """What the run's first worker runs, which may have come in a former life of the desk; empty: nobody has."""
        self._digest, self._command = digest or self._digest, command or self._command

    def mismatch(self, heartbeat: Heartbeat) -> str:
        """Why this worker may not work here; empty if it may. The first one may, whatever it runs."""
        if self._digest and heartbeat.digest != self._digest:
            return f"it would run {heartbeat.command!r}, this run is {self._command!r}"
        self.set_command(heartbeat.digest, heartbeat.command)
        return ""

    def refuse(self, name: str, reason: str) -> list[Send]:
        """The person is told, once."""
        news = (name, reason) not in self._refused_workers
        self._refused_workers.add((name, reason))
        return [Send(Port.USER, PeerRejected(name, reason))] if news else []
