"""Clients of a running pipeline: `pipe top` and `pipe kill`.

They belong to no run: they subscribe to control, and may send a StopRequest to the sink. They hold no lock and bind no
endpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import zmq

from pipeline.model.errors import INCOMPLETE, OK, PIPE_KILL_REASON, PipelineError
from pipeline.model.messages import Kill, RunStatus, StopRequest
from pipeline.model.state_machine import Message, Port
from pipeline.transport import channels
from pipeline.transport.endpoints import Endpoints, resolve_endpoints
from pipeline.transport.sockets import ZmqContext

if TYPE_CHECKING:
    from pipeline.config.settings import Settings

CONNECT_TIMEOUT_SECONDS = 2.0
"""Time without a message from a sink after which there is none."""
LOST_AFTER_SECONDS = 15.0
"""Silence after which no restarted sink is expected any more."""
GONE_AFTER_SECONDS = 3.0
"""Silence after which a sink that has sent Kill has exited."""
REPEAT_SECONDS = 1.0
"""Interval at which an unanswered StopRequest is repeated, and at which silence is reported."""


def watch_status(settings: Settings, wakeup_fds: Sequence[int] = ()) -> Iterator[RunStatus | float]:
    """Yield each RunStatus of the pipeline, on one subscription that outlives restarts of the sink.

    Without one, it yields the seconds of silence instead: every second, and when a wakeup file is readable, which the
    caller then reads. It ends after LOST_AFTER_SECONDS of silence.

    Raises:
        PipelineError: no sink has answered.
    """
    endpoints, context = resolve_endpoints(settings), ZmqContext()
    subscription = StatusSubscription(context, endpoints, wakeup_fds)
    last_status_at, is_connected = time.monotonic(), False
    try:
        while True:
            silence = time.monotonic() - last_status_at
            messages = subscription.receive(REPEAT_SECONDS if is_connected else CONNECT_TIMEOUT_SECONDS - silence)
            statuses = [message for message in messages if isinstance(message, RunStatus)]
            silence = time.monotonic() - last_status_at
            if statuses:
                last_status_at, is_connected = time.monotonic(), True
                yield statuses[-1]
            elif not is_connected and silence >= CONNECT_TIMEOUT_SECONDS:
                raise _no_sink_error(endpoints)
            elif silence > LOST_AFTER_SECONDS:
                return
            else:
                yield silence
    finally:
        subscription.close()
        context.close()


def request_stop(settings: Settings, mode: Literal["soon", "now"], notify: Callable[[Message], None]) -> int:
    """Ask the sink to end the run, wait until all stations have exited, and return the exit code.

    `notify` receives each RunStatus in which other stations are missing.

    Raises:
        PipelineError: no sink has answered.
    """
    endpoints, context = resolve_endpoints(settings), ZmqContext()
    subscription = StatusSubscription(context, endpoints)
    channel = channels.connect_results(context, endpoints.results)
    try:
        exit_code = _wait_for_shutdown(subscription, channel, mode, notify)
        if exit_code is None:
            raise _no_sink_error(endpoints)
        return exit_code
    finally:
        subscription.close()
        channel.close()
        context.close()


def _wait_for_shutdown(
    subscription: StatusSubscription,
    channel: channels.SendChannel,
    mode: Literal["soon", "now"],
    notify: Callable[[Message], None],
) -> int | None:
    """Request the stop until Kill arrives, then wait for the last Goodbye. Return None if no sink has answered."""
    last_message_at, requested_at, is_killed, is_connected = time.monotonic(), -REPEAT_SECONDS, False, False
    waiting_for: tuple[str, ...] = ()
    while True:
        if time.monotonic() - requested_at >= REPEAT_SECONDS and not is_killed:
            requested_at = time.monotonic()
            channel.send(Port.RESULTS, StopRequest(mode, PIPE_KILL_REASON))
        channel.receive()
        messages = subscription.receive(0.1)
        if messages:
            last_message_at, is_connected = time.monotonic(), True
        is_killed = is_killed or any(isinstance(message, Kill) for message in messages)
        for status in (message for message in messages if isinstance(message, RunStatus) and is_killed):
            if not status.waiting_for:
                return OK
            if status.waiting_for != waiting_for:
                notify(status)
            waiting_for = status.waiting_for
        silence = time.monotonic() - last_message_at
        if not is_connected and silence > CONNECT_TIMEOUT_SECONDS:
            return None
        if is_connected and silence > GONE_AFTER_SECONDS:
            return OK if is_killed else INCOMPLETE


def _no_sink_error(endpoints: Endpoints) -> PipelineError:
    return PipelineError(f"no sink at {endpoints.control}", "nothing runs there; give the --name or --at of the run")


class StatusSubscription:
    """Subscription to the sink's broadcast, with RunStatus."""

    def __init__(self, context: ZmqContext, endpoints: Endpoints, wakeup_fds: Sequence[int] = ()) -> None:
        self._channel = channels.connect_control(context, endpoints.control, with_status=True)
        self._poller = zmq.Poller()
        for file in (*self._channel.pollables(), *wakeup_fds):
            self._poller.register(file, zmq.POLLIN)

    def receive(self, seconds: float) -> list[Message]:
        """Return what arrives within `seconds`, at once if anything does; nothing if a wakeup file became readable."""
        self._poller.poll(max(0, math.ceil(seconds * 1000)))
        return self._channel.receive()

    def close(self) -> None:
        self._channel.close()
