"""A worker's way out: who asked it to leave, and when it goes.

The end of a run replaces a wish that only this worker leave. Nothing here sends.
"""

from __future__ import annotations

from typing import Literal

from pipeline.words import errors
from pipeline.words.messages import Kill, StopRequest
from pipeline.worker.held import HeldTasks
from pipeline.worker.ties import Connections


class Shutdown:
    """A worker's: it was asked to leave, or the run ends soon; it goes when it holds nothing any more."""

    def __init__(self) -> None:
        self.stop_reason, self.exit_code = "", errors.OK
        self.has_begun = self.is_this_worker_only = self.is_run_over = False
        """`alone`: only this worker leaves; the run goes on without it. `over`: it was told that the run is over."""

    def on_run_ending(self, kill: Kill) -> bool:
        """The run ends soon; False if that is no news."""
        news = not self.has_begun or self.is_this_worker_only
        self.has_begun, self.is_this_worker_only, self.stop_reason, self.exit_code = True, False, kill.reason, errors.OK
        return news

    def on_stop_request(self, stop: StopRequest) -> Literal["soon", "now"]:
        """Somebody sent a signal: what runs is finished and answered first; asked again, it is killed."""
        again = self.has_begun and self.is_this_worker_only
        self.stop_reason, self.exit_code = stop.reason, errors.stop_exit_code(stop.reason)
        self.has_begun = self.is_this_worker_only = True
        return "now" if again else stop.mode


def reason_to_end(
    shutdown: Shutdown, held_tasks: HeldTasks, connections: Connections, now: float, heartbeat_timeout: float
) -> tuple[int, str] | None:
    """Why a worker goes now, if it does: exit code and reason."""
    if lost := connections.timeout_reason(now):
        return errors.INCOMPLETE, lost
    if not shutdown.has_begun:
        return None
    if held_tasks.is_empty:
        return shutdown.exit_code, shutdown.stop_reason
    if not held_tasks.unfinished.task_count and connections.sink_monitor.is_silent_for(now, heartbeat_timeout):
        return errors.INCOMPLETE, "results were left that no sink answered for"
    return None
