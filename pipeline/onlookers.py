"""Those who look on and those who want an end: `pipe top` and `pipe kill`.

They belong to no run: they listen to control, and may say Stop to the sink. They hold no lock and bind nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import zmq

from pipeline.wire import calling
from pipeline.wire.places import Place, meeting_place
from pipeline.wire.sockets import Sockets
from pipeline.words.errors import INCOMPLETE, OK, PipelineError
from pipeline.words.messages import Kill, Status, Stop
from pipeline.words.station import Message, Port

if TYPE_CHECKING:
    from pipeline.words.settings import Settings

SOON = 2.0
"""Seconds without a sink after which the person is told."""
LOST = 15.0
"""Seconds of silence after which nobody waits for another sink any more."""
GONE = 3.0
"""Seconds of silence after which a sink that had said KILL has gone."""
BEAT = 1.0
"""Seconds after which a Stop that nobody obeyed is said again, and who watches looks again."""


class _Ear:
    """Control, as an onlooker hears it."""

    def __init__(self, own: Sockets, place: Place, wakes: Sequence[int] = ()) -> None:
        self._edge = calling.control(own, place.control, looks_on=True)
        self._poller = zmq.Poller()
        for file in (*self._edge.files(), *wakes):
            self._poller.register(file, zmq.POLLIN)

    def hear(self, seconds: float) -> list[Message]:
        """What is said within `seconds`, as soon as anything is; nothing if another file woke us."""
        self._poller.poll(max(0, math.ceil(seconds * 1000)))
        return self._edge.receive()

    def close(self) -> None:
        """Stop listening."""
        self._edge.close()


def watch(settings: Settings, wakes: Sequence[int] = ()) -> Iterator[Status | float]:
    """Each Status of the line at this place, on one subscription that outlives the sinks it hears.

    While none comes, the seconds of silence instead: at each beat, and when a file of `wakes` is readable, which the
    caller then reads. It ends after LOST.

    Raises:
        PipelineError: no sink has spoken within SOON.
    """
    place, own = meeting_place(settings), Sockets()
    ear = _Ear(own, place, wakes)
    heard, met = time.monotonic(), False
    try:
        while True:
            patience = BEAT if met else SOON - (time.monotonic() - heard)
            statuses = [word for word in ear.hear(patience) if isinstance(word, Status)]
            silent = time.monotonic() - heard
            if statuses:
                heard, met = time.monotonic(), True
                yield statuses[-1]
            elif not met and silent >= SOON:
                raise PipelineError(f"no sink at {place.control}; nothing runs there")
            elif silent > LOST:
                return
            else:
                yield silent
    finally:
        ear.close()
        own.close()


def stop(settings: Settings, mode: Literal["soon", "now"], told: Callable[[Message], None]) -> int:
    """Ask the sink at this place for KILL and wait for the goodbyes; who is missing is told. The exit code.

    Raises:
        PipelineError: no sink has spoken within SOON.
    """
    place, own = meeting_place(settings), Sockets()
    ear, mouth = _Ear(own, place), calling.results(own, place.results)
    try:
        return _until_gone(ear, mouth, mode, told, place.control)
    finally:
        ear.close()
        mouth.close()
        own.close()


def _until_gone(
    ear: _Ear, mouth: calling.Out, mode: Literal["soon", "now"], told: Callable[[Message], None], at: str
) -> int:
    heard, said, killed, met = time.monotonic(), -BEAT, False, False
    awaited: tuple[str, ...] = ()
    while True:
        if time.monotonic() - said >= BEAT and not killed:
            said = time.monotonic()
            mouth.send(Port.RESULTS, Stop(mode, "pipe kill"))
        mouth.receive()
        words = ear.hear(0.1)
        killed = killed or any(isinstance(word, Kill) for word in words)
        heard, met = (time.monotonic(), True) if words else (heard, met)
        for status in (word for word in words if isinstance(word, Status) and killed):
            if not status.awaited:
                return OK
            if status.awaited != awaited:
                told(status)
            awaited = status.awaited
        silent = time.monotonic() - heard
        if not met and silent > SOON:
            raise PipelineError(f"no sink at {at}; nothing runs there")
        if met and silent > GONE:
            return OK if killed else INCOMPLETE
