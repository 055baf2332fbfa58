"""What a worker runs now, for those who look on: the executor is asked at each beat, and the sink is told.

A person may ask, too. Nothing depends on it; a glance that is lost is followed by another.
"""

from __future__ import annotations

from pipeline.words.errands import QueryActivity
from pipeline.words.messages import WorkerActivity
from pipeline.words.notices import StatusReport
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace


class ActivityReporter:
    """Of the worker of this name."""

    def __init__(self, worker: str) -> None:
        self._worker, self._is_status_requested = worker, False

    def query_activity(self, *, has_run: bool = True) -> list[Send]:
        """Ask the executor; `joined`: there is a run."""
        return [Send(Port.EXECUTOR, QueryActivity())] if has_run else []

    def on_status_request(self) -> list[Send]:
        """A person wants to know."""
        self._is_status_requested = True
        return self.query_activity()

    def on_activity(self, glance: WorkerActivity, *, has_run: bool) -> list[Send]:
        """The executor has answered; `joined`: there is a run, and a sink to be told."""
        glance = replace(glance, worker=self._worker)
        asked, self._is_status_requested = self._is_status_requested, False
        told = [Send(Port.USER, StatusReport(glance))] if asked else []
        return [*told, *([Send(Port.RESULTS, glance)] if has_run else [])]
