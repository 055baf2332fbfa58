"""Ends the run: normal end, early end, write failure; exit code.

The sink's last word: how a run ends, and with which exit code.

A harder end replaces a softer one, never the other way round, and a run that is done stays done. Nothing here sends.

How the sink ends its run: when all is written, when somebody wishes it, when nothing more can be written.

An early end goes into the journal first, so that a sink that comes back ends the run as well; when this one goes in
good order and the run is not finished, the journal is told that, too, and the next sink goes on with the run. It never
ends a run twice, nor one that is done.
"""

from __future__ import annotations

from typing import Literal

from pipeline.model import checksums, errors
from pipeline.model.events import Waiting
from pipeline.model.journal_events import RunStopped, SinkSuspended
from pipeline.model.messages import Kill, VentilatorState
from pipeline.model.option_values import HaltCondition
from pipeline.model.state_machine import NEVER, Port, Send
from pipeline.sink.ledger import Ledger
from pipeline.sink.result_writer import ResultWriter

SEVERITY = {"done": 0, "soon": 1, "now": 2}


class RunOutcome:
    """The sink's: KILL, once said, and what it means for the exit code.

    An early end is said when the journal knows of it, so that a sink that comes back ends the run, too; but a journal
    that takes nothing any more holds it back for so long only.
    """

    def __init__(self) -> None:
        self.kill: Kill | None = None
        self.exit_code, self.stop_reason = errors.OK, ""
        self._proposed_kill: Kill | None = None
        self._announce_deadline = NEVER
        self._has_failed = False

    @property
    def deadline(self) -> float:
        """When an early end is said at the latest."""
        return self._announce_deadline

    @property
    def is_final(self) -> bool:
        """Whether all is done, and nothing is left to go on with."""
        return self.kill is not None and self.kill.mode == "done" and not self.stop_reason

    def fail(self, failure: str) -> None:
        """The output can take no more: whatever is said, the run is not complete."""
        self._has_failed, self.stop_reason = True, failure
        self.exit_code = errors.STDOUT_CLOSED if failure == errors.STDOUT_CLOSED_REASON else errors.INCOMPLETE

    def propose(self, kill: Kill, announce_by: float) -> bool:
        """Somebody wants this end; False if the run already ends so, or harder."""
        if not all(_is_more_severe(kill, known) for known in (self.kill, self._proposed_kill)):
            return False
        self._proposed_kill, self._announce_deadline = kill, announce_by
        return True

    def due_kill(self, now: float) -> Kill | None:
        """What was asked for so long ago that it is said now."""
        return self._proposed_kill if now >= self._announce_deadline else None

    def commit(self, kill: Kill) -> bool:
        """The run ends so; False if it already ends so, or harder."""
        if not _is_more_severe(kill, self.kill):
            return False
        self._announce_deadline = NEVER
        if not self.kill and not self._has_failed:
            self.exit_code = kill.exit_code
        self.kill, self.stop_reason = kill, self.stop_reason if self._has_failed else kill.reason
        return True


def _is_more_severe(kill: Kill, other: Kill | None) -> bool:
    return other is None or (other.mode != "done" and SEVERITY[kill.mode] > SEVERITY[other.mode])


DISK_SPACE_WAIT_SECONDS = 10.0
"""Seconds that a run which is to end waits for room on a full disk."""


class ShutdownController:
    """The end of one run, as one life of the sink says it; with `journal`, another life may go on with it."""

    def __init__(
        self,
        ledger: Ledger,
        writer: ResultWriter,
        halt_condition: HaltCondition | None,
        heartbeat_interval: float,
        *,
        has_journal: bool,
    ) -> None:
        self._ledger, self._writer, self._halt_condition, self._heartbeat_interval, self._has_journal = (
            ledger,
            writer,
            halt_condition,
            heartbeat_interval,
            has_journal,
        )
        self.run_outcome = RunOutcome()
        self.has_failed = self._is_suspended = False
        """Nothing more can be written; the next sink was told to go on."""
        self._disk_full_reason, self._give_up_time = "", NEVER

    @property
    def kill(self) -> Kill | None:
        """What was said."""
        return self.run_outcome.kill

    @property
    def is_closed_to_results(self) -> bool:
        """Whether nothing more can be written, or not in its turn."""
        return self.has_failed or self._writer.is_flushing

    def request_stop(
        self, mode: Literal["soon", "now"], reason: str, now: float, exit_code: int | None = None
    ) -> list[Send]:
        """Somebody wants an early end, with this exit code or the one of its reason: said when the journal has it."""
        exit_code = errors.run_exit_code(mode, reason, self._ledger.failed_count) if exit_code is None else exit_code
        kill = Kill(self._ledger.run, mode, reason, exit_code)
        if not self._ledger.run or self.has_failed or exit_code == errors.USAGE:
            return self._announce(kill)
        asked = self.run_outcome.propose(kill, now + self._heartbeat_interval)
        return [self._ledger.append(RunStopped(mode, reason, exit_code))] if asked else []

    def on_ventilator_state(self, ventilator_state: VentilatorState, now: float) -> list[Send]:
        """What the ventilator's state means for the end of the run."""
        if ventilator_state.state == "stopped" and not self.kill:
            return self.request_stop("soon", ventilator_state.reason or "the ventilator stopped", now)
        if ventilator_state.state != "ended":
            return []
        low, end = ventilator_state.total, self._ledger.settled.end
        if end <= low < self._ledger.checksum_watermark:  # what is left of this group can't be compared
            low = checksums.floor(low)
        if low >= end:
            return []
        if ventilator_state.reason:  # it broke off before what was done: whether that is the same is not known
            return self.request_stop("now", ventilator_state.reason, now, errors.INCOMPLETE)
        return self.on_input_changed(low, ventilator_state.total + 1, now)

    def on_ventilator_dead(self, now: float) -> list[Send]:
        """End the run as for a signal, whose name is not shown: the launcher has reported the death."""
        return self.request_stop("now", "SIGTERM", now)

    def check_halt(self, now: float) -> list[Send]:
        """End the run if so many tasks have ended in the way that a person wants it to end at."""
        halt, ledger = self._halt_condition, self._ledger
        if halt is None or self.kill or not halt.is_met(ledger.settled.task_count, ledger.failed_count, ledger.total):
            return []
        code = errors.OK if halt.event == "success" or not ledger.failed_count else errors.TASKS_FAILED
        return self.request_stop(halt.mode, f"--halt {halt}", now, code)

    def fail(self, failure: str, now: float) -> list[Send]:
        """Nothing more can be written."""
        if not failure or self.has_failed:
            return []
        self.has_failed = True
        self.run_outcome.fail(failure)
        return self.request_stop("now", failure, now)

    def on_disk_full(self, notice: Waiting) -> list[Send]:
        """An edge waits for room, or has found it."""
        if not (notice.active and self._disk_full_reason):
            self._disk_full_reason, self._give_up_time = notice.detail, NEVER
        return []

    def on_input_changed(self, low: int, high: int, now: float) -> list[Send]:
        """The input is not the one whose tasks were done: these are not as they were."""
        tasks = f"task {low + 1} differs" if high == low + 1 else f"tasks {low + 1} to {high} differ"
        reason = f"the input is not that of the unfinished run: {tasks} from what was done"
        return self.request_stop(
            "now", f"{reason}; give the same input, or begin anew with --restart", now, errors.USAGE
        )

    def tick(self, now: float) -> list[Send]:
        """Say KILL, if it is time."""
        ledger, sends = self._ledger, []
        if ledger.run_stop:
            sends = self._announce(
                Kill(ledger.run, ledger.run_stop.mode, ledger.run_stop.reason, ledger.run_stop.exit_code)
            )
        elif late := self.run_outcome.due_kill(now):
            sends = self._announce(late)
        if self.kill is None and ledger.run and self._writer.is_complete:
            code = errors.run_exit_code("done", ledger.end_reason, ledger.failed_count)
            sends = self._announce(Kill(ledger.run, "done", ledger.end_reason, code))
        return [*sends, *self._give_up(now)]

    def _give_up(self, now: float) -> list[Send]:
        """A person who wants the end does not wait for room as a run does; what is not written, is not done."""
        if not self._disk_full_reason or not self.kill or self.has_failed:
            return []
        self._give_up_time = min(
            self._give_up_time, now + (DISK_SPACE_WAIT_SECONDS if self.kill.mode == "soon" else 0.0)
        )
        if now < self._give_up_time:
            return []
        return self.fail(f"{self._disk_full_reason}: gave up waiting for room", now)

    def drain(self) -> list[Send] | None:
        """What is still to be written before the sink goes; None when nothing is.

        What stands behind a gap in the order is written now, but where another sink can go on it is left to that one.
        """
        if self.has_failed:
            return None
        if not self._has_journal:
            return None if self._writer.is_drained else self._writer.flush()
        if not self._writer.is_idle:
            return []
        if not self._is_suspended and not self.run_outcome.is_final and self._ledger.run:
            self._is_suspended = True
            return [self._ledger.append(SinkSuspended())]
        return [] if self._ledger.is_pending(SinkSuspended) else None

    def _announce(self, kill: Kill) -> list[Send]:
        """A later, harder one replaces it."""
        return [Send(Port.CONTROL, kill)] if self.run_outcome.commit(kill) else []
