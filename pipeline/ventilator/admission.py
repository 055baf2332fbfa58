"""Who may work in a run: those whose command is that of its first worker. Who may not is turned away, by name.

Knows no connections; what is said to whom is the desk's.
"""

from __future__ import annotations

from pipeline.words.messages import Pulse
from pipeline.words.notices import Refused
from pipeline.words.station import Port, Send


class Admission:
    """One run's command, and who was refused so far."""

    def __init__(self) -> None:
        self._digest, self._command = "", ""
        self._refused: set[tuple[str, str]] = set()

    def know(self, digest: str, command: str) -> None:
        """What the run's first worker runs, which may have come in a former life of the desk; empty: nobody has."""
        self._digest, self._command = digest or self._digest, command or self._command

    def objection(self, pulse: Pulse) -> str:
        """Why this worker may not work here; empty if it may. The first one may, whatever it runs."""
        if self._digest and pulse.digest != self._digest:
            return f"it would run {pulse.command!r}, this run is {self._command!r}"
        self.know(pulse.digest, pulse.command)
        return ""

    def refuse(self, name: str, reason: str) -> list[Send]:
        """The person is told, once."""
        news = (name, reason) not in self._refused
        self._refused.add((name, reason))
        return [Send(Port.TOLD, Refused(name, reason))] if news else []
