"""The roster: which processes of a run should live. Pure: told who ended and what time it is, it says what to do.

The sink speaks for the run: a person's wish to stop goes to it alone, and its exit code is the run's. Workers that
die are started again, and so are a sink and a ventilator that can go on where they were and were killed or fell over a
bug of ours; any other end of these two is the run's. The sink is told of a ventilator that died and is not replaced:
it ends the run, and no other sink is started. Whoever does not leave in time is sent SIGTERM, then SIGKILL.
Starts nothing, and asks no clock, itself.
"""

from __future__ import annotations

from signal import SIGINT, SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING

from pipeline.house.decisions import VENTILATOR_DEAD, Decision, GiveUp, PassOn, Say, Signal, Spawn
from pipeline.house.life import TRIES, Life, Lives
from pipeline.words.errors import INCOMPLETE, INTERRUPTED, OK, OUR_BUG, STDOUT_CLOSED, TASKS_FAILED, TERMINATED, USAGE
from pipeline.words.station import NEVER, VENTILATOR

if TYPE_CHECKING:
    from collections.abc import Mapping

SINK = "sink"
GRACE = 5.0
"""Seconds to end after each word before a harsher one."""
LEAVE = 2.0
"""Seconds to end by oneself after the sink, which had waited for all goodbyes."""
PLANNED = {OK, TASKS_FAILED, INTERRUPTED, TERMINATED, STDOUT_CLOSED}
"""Exit codes of a sink or ventilator that ended with the line's knowledge."""
STOPPING: dict[int, str] = {
    SIGINT: "stopping: running tasks finish, ^C again to kill them",
    SIGTERM: "stopping: running tasks finish, once more to kill them",
}
LOST = {SINK: "there is no journal to go on from", VENTILATOR: "its input can't be read again"}
"""Why the run ends with one that is not started again."""


def fate(status: int) -> str:
    """How a process ended, as a sentence's end; `status` is an exit code, or minus a signal's number."""
    return f"was killed by {Signals(-status).name}" if status < 0 else f"ended with exit code {status}"


class _Urge:
    """Words to those who should leave, each harsher than the one before. `at` is when the next is due."""

    def __init__(self) -> None:
        self.at = NEVER
        self._signum = SIGTERM

    def within(self, seconds: float, now: float) -> None:
        """They have so long, if not less already."""
        self.at = min(self.at, now + seconds)

    def late(self, names: list[str], now: float) -> list[Decision]:
        """They did not end in time, if it is that late."""
        if now < self.at:
            return []
        return [Say(f"{', '.join(names)} did not end in time: {self._signum.name}"), *self.harshly(names, now)]

    def harshly(self, names: list[str], now: float) -> list[Decision]:
        """SIGTERM, SIGKILL the next time. Who listens takes a bare one for an earlier one's echo."""
        signum, self._signum, self.at = self._signum, SIGKILL, now + GRACE
        words = (Signal,) if signum == SIGKILL else (Signal, PassOn)
        return [word(name, signum) for name in names for word in words]


class Roster:
    """Who should live. `restart` names all posts in their starting order, and says who is replaced.

    One is the sink; a ventilator may be there; all others are workers. After `done`, `outcome` is the
    run's exit code.
    """

    def __init__(self, restart: Mapping[str, bool]) -> None:
        self._lives, self._urge = Lives(restart), _Urge()
        self._sink = self._lives.by_name[SINK]
        self._over = False
        self._asked = 0
        self._outcome: int | None = None
        self._fallback = INCOMPLETE

    @property
    def done(self) -> bool:
        """Nobody lives, and nobody will."""
        return not self._lives.go_on

    @property
    def outcome(self) -> int:
        """The run's exit code, once done."""
        return self._fallback if self._outcome is None else self._outcome

    @property
    def deadline(self) -> float:
        """When `tick` wants to be called next; before the first call, at once."""
        return min(self._urge.at, self._lives.due)

    def tick(self, now: float) -> list[Decision]:
        """Time has passed: who is to start, and who must hear a harsher word."""
        said: list[Decision] = [Spawn(name) for name in self._lives.begin(now)]
        return [*said, *self._urge.late(self._lives.living(), now)]

    def stop(self, signum: int, now: float) -> list[Decision]:
        """A person asked to stop, with SIGINT or SIGTERM: first soon, then now."""
        self._asked += 1
        self._close()
        self._fallback = 128 + signum
        said: list[Decision] = [Say(STOPPING[signum])] if self._asked == 1 else []
        if self._sink.deaths and not self._sink.living:  # it was to be replaced
            return [*said, *self._end_all(now)]
        if self._asked > 1:
            self._urge.within(GRACE, now)
        told = [SINK] if self._sink.living else self._lives.living()
        return [*said, *(PassOn(name, signum) for name in told)]

    def ended(self, name: str, status: int, now: float) -> list[Decision]:
        """A process has ended; `status` is its exit code, or minus the signal's number."""
        life = self._lives.by_name[name]
        life.living = False
        if life is self._sink:
            return self._sink_ended(status, now)
        if self._over:
            return []
        decide = self._ventilator_ended if name == VENTILATOR else self._worker_ended
        return decide(life, status, now)

    def _sink_ended(self, status: int, now: float) -> list[Decision]:
        """With the sink the run is over, unless another one goes on; the others know, unless it died."""
        if pause := _pause(self._sink, status, now):
            return [_replaced(self._sink, status, pause)]
        lost = _lost(self._sink, status, over=self._over)
        self._close()
        if self._outcome is None:
            self._outcome = status if status >= 0 else self._fallback
        if status not in PLANNED:
            return [*lost, *self._end_all(now)]
        self._urge.within(LEAVE, now)
        # a worker that still lives has had its KILL, or started too late for it and would wait for another run
        return [PassOn(life.name, SIGTERM) for life in self._workers() if life.living]

    def _ventilator_ended(self, life: Life, status: int, now: float) -> list[Decision]:
        """Its work is done, or another one goes on with it, or the run can't be completed."""
        if status in PLANNED:
            # the sink is replaced even now: what is left to do is its own
            self._close(self._sink)
            return []
        if pause := _pause(life, status, now):
            return [_replaced(life, status, pause)]
        is_dead = _is_crash(status) or status == USAGE  # any other end it has told the sink itself
        return [*_lost(life, status), *self._abort(status, now, VENTILATOR_DEAD if is_dead else SIGTERM)]

    def _worker_ended(self, life: Life, status: int, now: float) -> list[Decision]:
        """It has had its KILL, or it never can work, or it is started again."""
        if status == OK:
            return []
        if status == USAGE:
            return self._abort(status, now)
        if pause := life.again(now):
            return [_replaced(life, status, pause)]
        given_up = GiveUp(life.name, f"{fate(status)}, {TRIES} times in a row")
        if any(other.goes_on for other in self._workers()):
            return [given_up]
        return [given_up, *self._abort(status, now)]

    def _abort(self, status: int, now: float, signum: int = SIGTERM) -> list[Decision]:
        """The run can't be completed. Running tasks have a grace after SIGTERM, none after VENTILATOR_DEAD."""
        self._close()
        self._outcome = status if status > 0 else INCOMPLETE
        if not self._sink.living:
            return self._end_all(now)
        self._urge.within(GRACE, now)
        return [PassOn(SINK, signum)]

    def _end_all(self, now: float) -> list[Decision]:
        """What they hold has nowhere to go any more: a second word, that nothing be finished first."""
        names = self._lives.living()
        return [*self._urge.harshly(names, now), *(PassOn(name, SIGTERM) for name in names)]

    def _close(self, but: Life | None = None) -> None:
        """Nobody is started any more."""
        self._over = True
        self._lives.close(but)

    def _workers(self) -> list[Life]:
        return [life for name, life in self._lives.by_name.items() if name not in {SINK, VENTILATOR}]


def _is_crash(status: int) -> bool:
    """Whether it was killed or fell over a bug of ours; any other end was its own decision."""
    return status < 0 or status == OUR_BUG


def _pause(life: Life, status: int, now: float) -> float:
    """Seconds until a sink or ventilator that ended so is replaced; 0 if it is not."""
    return life.again(now) if life.restart and _is_crash(status) else 0.0


def _replaced(life: Life, status: int, pause: float) -> Decision:
    return Say(f"{life.name} {fate(status)}; starting another in {pause:g} s")


def _lost(life: Life, status: int, *, over: bool = False) -> list[Decision]:
    """A sink or ventilator is not replaced. Who ended by itself has said why."""
    if life.deaths >= TRIES:
        return [GiveUp(life.name, f"{fate(status)}, {TRIES} times in a row")]
    why = "" if over else f"; {LOST[life.name]}"
    return [GiveUp(life.name, fate(status) + why)] if status < 0 else []
