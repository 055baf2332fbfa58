"""The roster: which processes of a run should live. Pure: told who ended and what time it is, it says what to do.

The sink speaks for the run: a person's wish to stop goes to it alone, and its exit code is the run's. Workers
that die are started again, later and later, and given up in the end. Sink and ventilator are not: the run ends
with them. Whoever does not leave in time is sent SIGTERM, then SIGKILL. Starts nothing, and asks no clock, itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from signal import SIGINT, SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING

from pipeline.errors import INCOMPLETE, INTERRUPTED, OK, STDOUT_CLOSED, TASKS_FAILED, TERMINATED, USAGE
from pipeline.station import NEVER

if TYPE_CHECKING:
    from collections.abc import Mapping

BACK_OFF = 0.5
"""Seconds before the first new start; doubled at each death in a row."""
TRIES = 5
"""Deaths in a row after which a worker is given up."""
LONG_LIFE = 30.0
"""Seconds of life after which a death is no longer in a row with the one before."""
GRACE = 5.0
"""Seconds to end after each word before a harsher one."""
LEAVE = 2.0
"""Seconds to end by oneself after the sink, which had waited for all goodbyes."""
PLANNED = {OK, TASKS_FAILED, INTERRUPTED, TERMINATED, STDOUT_CLOSED}
"""Exit codes of a sink or ventilator that ended with the line's knowledge."""
STOPPING: dict[int, str] = {
    SIGINT: "stopping: running tasks finish, ^C again to kill them",
    SIGTERM: "stopping: running tasks finish",
}


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start this one. It counts as living from now on."""

    name: str


@dataclass(frozen=True, slots=True)
class PassOn:
    """Let this one know that a person asked to stop, with SIGINT or SIGTERM."""

    name: str
    signum: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Send this one a signal."""

    name: str
    signum: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """For the person: this one is not started again, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Say:
    """For the person."""

    text: str


Decision = Spawn | PassOn | Signal | GiveUp | Say


def fate(status: int) -> str:
    """How a process ended, as a sentence's end; `status` is an exit code, or minus a signal's number."""
    return f"was killed by {Signals(-status).name}" if status < 0 else f"ended with exit code {status}"


def _untold(name: str, status: int) -> list[Decision]:
    """Who ended by itself has said why."""
    return [GiveUp(name, fate(status))] if status < 0 else []


@dataclass(slots=True)
class _Life:
    """One post. `due` is when to start it (NEVER: not planned), `deaths` how many there were in a row."""

    name: str
    restart: bool
    due: float = -NEVER
    living: bool = False
    since: float = 0.0
    deaths: int = 0


class Roster:
    """Who should live. `restart` names all posts in their starting order, the sink first, and who is replaced.

    After `done`, `outcome` is the run's exit code.
    """

    def __init__(self, restart: Mapping[str, bool]) -> None:
        self._lives = {name: _Life(name, again) for name, again in restart.items()}
        self._sink = next(iter(self._lives.values()))
        self._over = False
        self._asked = 0
        self._outcome: int | None = None
        self._fallback = INCOMPLETE
        self._harsher_at = NEVER
        self._harsher = SIGTERM

    @property
    def done(self) -> bool:
        """Nobody lives, and nobody will."""
        return not any(life.living or life.due < NEVER for life in self._lives.values())

    @property
    def outcome(self) -> int:
        """The run's exit code, once done."""
        return self._fallback if self._outcome is None else self._outcome

    @property
    def deadline(self) -> float:
        """When `tick` wants to be called next; before the first call, at once."""
        return min(self._harsher_at, *(life.due for life in self._lives.values()))

    def tick(self, now: float) -> list[Decision]:
        """Time has passed: who is to start, and who must hear a harsher word."""
        due = [life for life in self._lives.values() if life.due <= now]
        for life in due:
            life.due, life.living, life.since = NEVER, True, now
        said: list[Decision] = [Spawn(life.name) for life in due]
        if now >= self._harsher_at:
            names = ", ".join(self._living())
            said += [Say(f"{names} did not end in time: {self._harsher.name}"), *self._harshly(now)]
        return said

    def stop(self, signum: int, now: float) -> list[Decision]:
        """A person asked to stop, with SIGINT or SIGTERM: first soon, then now."""
        self._asked += 1
        self._close()
        self._fallback = 128 + signum
        told = [self._sink.name] if self._sink.living else self._living()
        if self._asked > 1:
            self._harsher_at = min(self._harsher_at, now + GRACE)
        said: list[Decision] = [Say(STOPPING[signum])] if self._asked == 1 else []
        return [*said, *(PassOn(name, signum) for name in told)]

    def ended(self, name: str, status: int, now: float) -> list[Decision]:
        """A process has ended; `status` is its exit code, or minus the signal's number."""
        life = self._lives[name]
        life.living = False
        if life is self._sink:
            return self._sink_ended(status, now)
        if self._over:
            return []
        if life.restart:
            return self._worker_ended(life, status, now)
        if status in PLANNED:
            self._close()
            return []
        return [*_untold(name, status), *self._abort(status, now)]

    def _sink_ended(self, status: int, now: float) -> list[Decision]:
        """With the sink the run is over; the others know, unless it died."""
        self._close()
        if self._outcome is None:
            self._outcome = status if status >= 0 else self._fallback
        if status in PLANNED:
            self._harsher_at = min(self._harsher_at, now + LEAVE)
            # a worker that still lives has had its KILL, or started too late for it and would wait for another run
            late = [life.name for life in self._lives.values() if life.living and life.restart]
            return [PassOn(name, SIGTERM) for name in late]
        # what they hold has nowhere to go any more: a second word, that nothing be finished first
        twice = [PassOn(name, SIGTERM) for name in self._living()]
        return [*_untold(self._sink.name, status), *self._harshly(now), *twice]

    def _worker_ended(self, life: _Life, status: int, now: float) -> list[Decision]:
        """It has had its KILL, or it never can work, or it is started again, later each time."""
        if status == OK:
            return []
        if status == USAGE:
            return self._abort(status, now)
        life.deaths = 1 if now - life.since > LONG_LIFE else life.deaths + 1
        if life.deaths < TRIES:
            pause = BACK_OFF * 2 ** (life.deaths - 1)
            life.due = now + pause
            return [Say(f"{life.name} {fate(status)}; starting another in {pause:g} s")]
        said: list[Decision] = [GiveUp(life.name, f"{fate(status)}, {TRIES} times in a row")]
        if any(other.restart and (other.living or other.due < NEVER) for other in self._lives.values()):
            return said
        return [*said, *self._abort(status, now)]

    def _abort(self, status: int, now: float) -> list[Decision]:
        """The run can't be completed. Running tasks have a grace."""
        self._close()
        self._outcome = status if status > 0 else INCOMPLETE
        self._harsher_at = now + GRACE
        return [PassOn(self._sink.name, SIGTERM)]

    def _harshly(self, now: float) -> list[Decision]:
        """SIGTERM to all that live, SIGKILL the next time. Who listens takes a bare one for an earlier one's echo."""
        signum, self._harsher, self._harsher_at = self._harsher, SIGKILL, now + GRACE
        words = (Signal,) if signum == SIGKILL else (Signal, PassOn)
        return [word(name, signum) for name in self._living() for word in words]

    def _close(self) -> None:
        """Nobody is started any more."""
        self._over = True
        for life in self._lives.values():
            life.due = NEVER

    def _living(self) -> list[str]:
        return [life.name for life in self._lives.values() if life.living]
