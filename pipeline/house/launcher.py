"""The launcher: children and their roster. It forks the posts of a run, watches them, and buries what they leave.

It is the keeper of all: it runs no user code, holds no ZeroMQ context, and when it ends nothing is left below
it. It decides nothing; the roster does. It waits for events only, and never looks around in between.
"""

from __future__ import annotations

import math
import select
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from pipeline.house.decisions import Decision, GiveUp, PassOn, Say, Signal, Spawn
from pipeline.house.processes import Child, become_subreaper, fork, kill_descendants
from pipeline.house.roster import Roster
from pipeline.house.signals import ASKED, Signals
from pipeline.words.errors import PipelineError
from pipeline.words.station import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Post(Struct, frozen=True):
    """A process of the run: what it runs, answering with an exit code; and what the next one runs when it has died.

    None: it is not replaced. Names mean what they mean to the roster: the sink, the ventilator, workers.
    """

    name: str
    run: Callable[[], int]
    restart: Callable[[], int] | None = None


def launch(posts: Sequence[Post], say: Callable[[str], None], *, verbose: bool = False) -> int:
    """Run all posts, the sink first, until the last has ended; the exit code of the run. `verbose` names each pid."""
    become_subreaper()
    with Signals() as signals:
        try:
            return _Crew(posts, say, verbose=verbose).see_through(signals)
        finally:
            kill_descendants()


class _Crew:
    """The living children, by the descriptor that tells of their end."""

    def __init__(self, posts: Sequence[Post], say: Callable[[str], None], *, verbose: bool) -> None:
        self._posts = {post.name: post for post in posts}
        self._next = {post.name: post.run for post in posts}
        self._say = say
        self._verbose = verbose
        self._roster = Roster({post.name: post.restart is not None for post in posts})
        self._children: dict[str, Child] = {}
        self._names: dict[int, str] = {}
        self._poll = select.poll()

    def see_through(self, signals: Signals) -> int:
        """From the first start to the last end."""
        self._poll.register(signals.fileno(), select.POLLIN)
        self._obey(self._roster.tick(time.monotonic()))
        while not self._roster.done:
            ready = dict(self._poll.poll(self._patience()))
            # What a person asked comes first: it explains the deaths that came with it.
            for signum in signals.taken():
                self._obey(self._asked() if signum == ASKED else self._roster.stop(signum, time.monotonic()))
            for pidfd in ready.keys() & self._names.keys():
                self._bury(self._names[pidfd])
            self._obey(self._roster.tick(time.monotonic()))
        return self._roster.outcome

    def _asked(self) -> list[Decision]:
        """The sink knows what runs."""
        return [PassOn("sink", ASKED)]

    def _patience(self) -> int | None:
        """Milliseconds to the roster's deadline, rounded up."""
        if self._roster.deadline == NEVER:
            return None
        return max(0, math.ceil(1000 * (self._roster.deadline - time.monotonic())))

    def _bury(self, name: str) -> None:
        """Reap one that has ended. What it has left is ours now, and goes before another comes."""
        child = self._children.pop(name)
        del self._names[child.pidfd]
        self._poll.unregister(child.pidfd)
        status = child.reap()
        if status:
            kill_descendants(keep={other.pid for other in self._children.values()})
        self._obey(self._roster.ended(name, status, time.monotonic()))

    def _obey(self, decisions: Sequence[Decision]) -> None:
        """Do what the roster says."""
        for decision in decisions:
            match decision:
                case Spawn(name):
                    self._spawn(name, self._next.pop(name))
                case PassOn(name, signum) if name in self._children:
                    self._children[name].pass_on(signum)
                case Signal(name, signum) if name in self._children:
                    self._children[name].send(signum)
                case GiveUp(name, reason):
                    self._say(f"{name} {reason}")
                case Say(text):
                    self._say(text)

    def _spawn(self, name: str, run: Callable[[], int]) -> None:
        self._next[name] = self._posts[name].restart or run
        try:
            child = fork(run)
        except PipelineError as error:
            self._say(f"{name}: {error}")
            self._obey(self._roster.ended(name, error.exit_code, time.monotonic()))
            return
        self._children[name] = child
        self._names[child.pidfd] = name
        self._poll.register(child.pidfd, select.POLLIN)
        if self._verbose:
            self._say(f"{name} {child.pid}")
