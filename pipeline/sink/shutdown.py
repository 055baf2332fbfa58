"""The end of the run: normal end, early stop, write failure, and the exit code.

How a run ends:
  - *done*: all tasks are settled and written. A run that is done stays done.
  - *soon* or *now*: an early stop. A more severe stop replaces a milder one, never the reverse.
  - An early stop is journaled before it is announced, so a restarted sink stops the run as well. If the journal does
    not answer within one heartbeat interval, the stop is announced anyway.
  - A sink that shuts down cleanly before the run is complete journals SinkSuspended. The next sink then resumes the
    run instead of stopping it.
  - After a failure to write, the run is incomplete, however it ends.
"""

from __future__ import annotations

from typing import Literal

from pipeline.model import checksums, errors
from pipeline.model.events import Waiting
from pipeline.model.journal_events import RunStarted, RunStopped, SinkSuspended
from pipeline.model.messages import Kill, VentilatorState
from pipeline.model.option_values import HaltCondition
from pipeline.model.state_machine import NEVER, Port, Send
from pipeline.model.structs import replace
from pipeline.sink.ledger import Ledger
from pipeline.sink.result_writer import ResultWriter

SEVERITY = {"done": 0, "soon": 1, "now": 2}
DISK_SPACE_WAIT_SECONDS = 10.0
"""Seconds that a stopping run waits for space on a full disk."""


class ShutdownController:
    """The end of one run, as one sink process announces it."""

    def __init__(
        self,
        ledger: Ledger,
        writer: ResultWriter,
        halt_condition: HaltCondition | None,
        heartbeat_interval: float,
        *,
        has_journal: bool,
    ) -> None:
        self._ledger, self._writer, self._halt_condition = ledger, writer, halt_condition
        self._heartbeat_interval, self._has_journal = heartbeat_interval, has_journal
        self.kill: Kill | None = None
        """The announced end."""
        self.exit_code, self.stop_reason = errors.OK, ""
        self.deadline = NEVER
        """When a requested stop is announced at the latest."""
        self.has_failed = False
        """Nothing more can be written."""
        self._proposed_kill: Kill | None = None
        self._is_suspended = False
        self._disk_full_reason, self._give_up_time = "", NEVER

    @property
    def is_final(self) -> bool:
        """Whether the run is complete, with nothing left to resume."""
        return self.kill is not None and self.kill.mode == "done" and not self.stop_reason

    @property
    def is_closed_to_results(self) -> bool:
        """Whether results can no longer be written, or not in order."""
        return self.has_failed or self._writer.is_flushing

    def request_stop(
        self, mode: Literal["soon", "now"], reason: str, now: float, exit_code: int | None = None
    ) -> list[Send]:
        """Stop the run early, with this exit code or that of the reason, once the journal has committed it."""
        exit_code = errors.run_exit_code(mode, reason, self._ledger.failed_count) if exit_code is None else exit_code
        kill = Kill(self._ledger.run, mode, reason, exit_code)
        if self.has_failed or exit_code == errors.USAGE:
            return self._announce(kill)
        if not self._ledger.run:
            is_starting = self._ledger.is_pending(RunStarted)  # then a restarted sink will know the run
            entry = [self._ledger.append(RunStopped(mode, reason, exit_code))] if is_starting and not self.kill else []
            return [*self._announce(kill), *entry]
        if not all(_is_more_severe(kill, known) for known in (self.kill, self._proposed_kill)):
            return []
        self._proposed_kill, self.deadline = kill, now + self._heartbeat_interval
        return [self._ledger.append(RunStopped(mode, reason, exit_code))]

    def tick(self, now: float) -> list[Send]:
        """Announce the end of the run when it is due."""
        ledger, stop, sends = self._ledger, self._ledger.run_stop, self._check_halt(now)
        if stop:
            sends += self._announce(Kill(ledger.run, stop.mode, stop.reason, stop.exit_code))
        elif self._proposed_kill and now >= self.deadline:
            sends += self._announce(self._proposed_kill)
        if self.kill is None and ledger.run and self._writer.is_complete:
            code = errors.run_exit_code("done", ledger.end_reason, ledger.failed_count)
            sends += self._announce(Kill(ledger.run, "done", ledger.end_reason, code))
        return [*sends, *self._give_up(now)]

    def drain(self) -> list[Send] | None:
        """Return what is still to be written before the sink ends; None if there is nothing.

        Results ahead of a gap in the order are written now, except where a journal leaves them to the next sink.
        """
        if self.has_failed:
            return None
        if not self._has_journal:
            return None if self._writer.is_drained else self._writer.flush()
        if not self._writer.is_idle:
            return []
        if not self._is_suspended and not self.is_final and self._ledger.run:
            self._is_suspended = True
            return [self._ledger.append(SinkSuspended())]
        return [] if self._ledger.is_pending(SinkSuspended) else None

    def dismiss_workers(self) -> list[Send]:
        """Let workers leave with the results that they hold, which a resumed run makes again."""
        return self._announce(replace(self.kill, mode="now")) if self.kill else []

    def on_ventilator_state(self, ventilator_state: VentilatorState, now: float) -> list[Send]:
        """Stop the run if the ventilator stopped, or if its input ended before tasks that are settled."""
        if ventilator_state.state == "stopped" and not self.kill:
            return self.request_stop("soon", ventilator_state.reason or "the ventilator stopped", now)
        if ventilator_state.state != "ended":
            return []
        low, end = ventilator_state.total, self._ledger.settled.end
        if end <= low < self._ledger.checksum_watermark:  # the rest of this group cannot be compared
            low = checksums.last_boundary(low)
        if low >= end:
            return []
        if ventilator_state.reason:  # the input broke off, so nothing is known about the settled tasks after that
            return self.request_stop("now", ventilator_state.reason, now, errors.INCOMPLETE)
        return self.on_input_changed(low, ventilator_state.total + 1, now)

    def on_input_changed(self, low: int, high: int, now: float) -> list[Send]:
        """Stop the run: these records differ from those of settled tasks."""
        tasks = f"task {low + 1} differs" if high == low + 1 else f"tasks {low + 1} to {high} differ"
        reason = f"the input is not that of the unfinished run: {tasks}{errors.SAME_INPUT_HINT}"
        return self.request_stop("now", reason, now, errors.USAGE)

    def on_ventilator_dead(self, now: float) -> list[Send]:
        """Stop the run as for a signal, whose name is not shown: the launcher has reported the death."""
        return self.request_stop("now", "SIGTERM", now)

    @property
    def is_halt_due(self) -> bool:
        """Whether the --halt condition is met, and no end is requested or announced."""
        halt, is_ending = self._halt_condition, self.kill or self._proposed_kill
        return halt is not None and not is_ending and self._ledger.events_left(halt) == 0

    def _check_halt(self, now: float) -> list[Send]:
        """Stop the run if the --halt condition is met: at a result, or when a restarted sink knows of enough."""
        halt, ledger = self._halt_condition, self._ledger
        if halt is None or not self.is_halt_due:
            return []
        code = errors.OK if halt.event == "success" or not ledger.failed_count else errors.TASKS_FAILED
        return self.request_stop(halt.mode, f"--halt {halt}", now, code)

    def fail(self, failure: str, now: float) -> list[Send]:
        """Stop the run because nothing more can be written; an empty `failure` is none."""
        if not failure or self.has_failed:
            return []
        self.has_failed, self.stop_reason = True, failure
        self.exit_code = errors.STDOUT_CLOSED if failure == errors.STDOUT_CLOSED_REASON else errors.INCOMPLETE
        return self.request_stop("now", failure, now)

    def on_disk_full(self, notice: Waiting) -> list[Send]:
        """Note that an adapter waits for disk space, or has found it."""
        if not (notice.active and self._disk_full_reason):
            self._disk_full_reason, self._give_up_time = notice.detail, NEVER
        return []

    def _give_up(self, now: float) -> list[Send]:
        # The user wants the run to end, so it does not wait for space as long as a run that continues.
        if not self._disk_full_reason or not self.kill or self.has_failed:
            return []
        grace = DISK_SPACE_WAIT_SECONDS if self.kill.mode == "soon" else 0.0
        self._give_up_time = min(self._give_up_time, now + grace)
        if now < self._give_up_time:
            return []
        return self.fail(f"{self._disk_full_reason}: gave up waiting for space", now)

    def _announce(self, kill: Kill) -> list[Send]:
        if not _is_more_severe(kill, self.kill):
            return []
        if not self.has_failed:
            self.stop_reason = kill.reason
            if not self.kill:  # the first end decides
                self.exit_code = kill.exit_code
        self.kill, self.deadline = kill, NEVER
        return [Send(Port.CONTROL, kill)]


def _is_more_severe(kill: Kill, other: Kill | None) -> bool:
    return other is None or (other.mode != "done" and SEVERITY[kill.mode] > SEVERITY[other.mode])
