"""Those who look on and those who want an end: `pipe top` and `pipe kill`.

They belong to no run: they listen to control, and may say Stop to the sink. They hold no lock and bind nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import zmq

from pipeline.model.errors import INCOMPLETE, OK, PipelineError
from pipeline.model.messages import Kill, RunStatus, StopRequest
from pipeline.model.state_machine import Message, Port
from pipeline.transport import channels
from pipeline.transport.endpoints import Endpoints, resolve_endpoints
from pipeline.transport.sockets import ZmqContext

if TYPE_CHECKING:
    from pipeline.config.settings import Settings

CONNECT_TIMEOUT_SECONDS = 2.0
"""Seconds without a sink after which the person is told."""
LOST_AFTER_SECONDS = 15.0
"""Seconds of silence after which nobody waits for another sink any more."""
GONE_AFTER_SECONDS = 3.0
"""Seconds of silence after which a sink that had said KILL has gone."""
REPEAT_SECONDS = 1.0
"""Seconds after which a Stop that nobody obeyed is said again, and who watches looks again."""


class StatusSubscription:
    """Control, as an onlooker hears it."""

    def __init__(self, context: ZmqContext, endpoints: Endpoints, wakeup_fds: Sequence[int] = ()) -> None:
        self._channel = channels.connect_control(context, endpoints.control, with_status=True)
        self._poller = zmq.Poller()
        for file in (*self._channel.pollables(), *wakeup_fds):
            self._poller.register(file, zmq.POLLIN)

    def receive(self, seconds: float) -> list[Message]:
        """What is said within `seconds`, as soon as anything is; nothing if another file woke us."""
        self._poller.poll(max(0, math.ceil(seconds * 1000)))
        return self._channel.receive()

    def close(self) -> None:
        """Stop listening."""
        self._channel.close()


def watch_status(settings: Settings, wakeup_fds: Sequence[int] = ()) -> Iterator[RunStatus | float]:
    """Each Status of the line at this place, on one subscription that outlives the sinks it hears.

    While none comes, the seconds of silence instead: at each beat, and when a file of `wakes` is readable, which the
    caller then reads. It ends after LOST.

    Raises:
        PipelineError: no sink has spoken within SOON.
    """
    place, own = resolve_endpoints(settings), ZmqContext()
    ear = StatusSubscription(own, place, wakeup_fds)
    heard, met = time.monotonic(), False
    try:
        while True:
            patience = REPEAT_SECONDS if met else CONNECT_TIMEOUT_SECONDS - (time.monotonic() - heard)
            statuses = [word for word in ear.receive(patience) if isinstance(word, RunStatus)]
            silent = time.monotonic() - heard
            if statuses:
                heard, met = time.monotonic(), True
                yield statuses[-1]
            elif not met and silent >= CONNECT_TIMEOUT_SECONDS:
                raise PipelineError(f"no sink at {place.control}; nothing runs there")
            elif silent > LOST_AFTER_SECONDS:
                return
            else:
                yield silent
    finally:
        ear.close()
        own.close()


def request_stop(settings: Settings, mode: Literal["soon", "now"], notify: Callable[[Message], None]) -> int:
    """Ask the sink at this place for KILL and wait for the goodbyes; who is missing is told. The exit code.

    Raises:
        PipelineError: no sink has spoken within SOON.
    """
    place, own = resolve_endpoints(settings), ZmqContext()
    ear, mouth = StatusSubscription(own, place), channels.connect_results(own, place.results)
    try:
        return _wait_for_shutdown(ear, mouth, mode, notify, place.control)
    finally:
        ear.close()
        mouth.close()
        own.close()


def _wait_for_shutdown(
    subscription: StatusSubscription,
    channel: channels.SendChannel,
    mode: Literal["soon", "now"],
    notify: Callable[[Message], None],
    control_endpoint: str,
) -> int:
    heard, said, killed, met = time.monotonic(), -REPEAT_SECONDS, False, False
    awaited: tuple[str, ...] = ()
    while True:
        if time.monotonic() - said >= REPEAT_SECONDS and not killed:
            said = time.monotonic()
            channel.send(Port.RESULTS, StopRequest(mode, "pipe kill"))
        channel.receive()
        words = subscription.receive(0.1)
        killed = killed or any(isinstance(word, Kill) for word in words)
        heard, met = (time.monotonic(), True) if words else (heard, met)
        for status in (word for word in words if isinstance(word, RunStatus) and killed):
            if not status.waiting_for:
                return OK
            if status.waiting_for != awaited:
                notify(status)
            awaited = status.waiting_for
        silent = time.monotonic() - heard
        if not met and silent > CONNECT_TIMEOUT_SECONDS:
            raise PipelineError(f"no sink at {control_endpoint}; nothing runs there")
        if met and silent > GONE_AFTER_SECONDS:
            return OK if killed else INCOMPLETE
