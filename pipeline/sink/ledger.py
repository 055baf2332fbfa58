"""The ledger: which tasks are pending or settled, and what is known about the run.

The ledger is the replay of journal events:
  - an event is applied when the journal has committed it, so a restarted sink rebuilds the same ledger;
  - each task is accepted once: its first final result, whichever worker and attempt it comes from;
  - an accepted task is *pending* until output (or spill) and journal have committed it, then *settled* for good;
  - with a journal, no result is accepted for a task that no input checksum covers. Otherwise a later run could not
    check that the task is still the same.
Results are counted here, not stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.model import checksums
from pipeline.model.errors import INCOMPLETE
from pipeline.model.events import JournalEntry
from pipeline.model.journal_events import (
    ChecksumsRecorded,
    CommandFixed,
    InputEnded,
    JournalEvent,
    RunStarted,
    RunStopped,
    SinkSuspended,
    TasksReopened,
    TasksSettled,
)
from pipeline.model.messages import AttemptRange, Heartbeat, InputChecksums, Ranges, Result, VentilatorState
from pipeline.model.option_values import HaltCondition
from pipeline.model.ranges import AttemptCounts, RangeSet
from pipeline.model.results import slice_result
from pipeline.model.state_machine import Port, Send


class Ledger:
    """State of all tasks of one run, replayed from journal events."""

    def __init__(self, events: Iterable[JournalEvent] = ()) -> None:
        self.run = self.fingerprint = self.digest = self.command = ""
        self.failed_count, self.total, self.end_reason = 0, -1, ""
        self.checksum_watermark = self.written_below = 0
        """Checksums cover all records below `checksum_watermark`. With --keep-order, the output has all tasks below
        `written_below`."""
        self.settled, self.pending, self.attempts = RangeSet(), RangeSet(), AttemptCounts()
        self.spilled, self.earlier_failures = RangeSet(), RangeSet()
        """Tasks in the spill, ahead of their turn; tasks that failed before this sink started."""
        self.output_sizes: tuple[int, ...] = ()
        self.run_stop: RunStopped | None = None
        self.suspended_exit_code: int | None = None
        """The exit code of the last sink if it exited in good order before the run was complete."""
        self._resumed_done_count = self._resumed_failed_count = 0
        """Of the settled tasks, those of earlier sinks that ended in good order; `--halt` does not count them again."""
        self._pending_entries: deque[JournalEntry] = deque()
        self._last_entry_number = 0
        written = RangeSet()
        for event in events:
            self.apply(event)
            if isinstance(event, TasksSettled):
                (self.spilled if event.is_spilled else written).update(event.ranges)
                self.earlier_failures.update(event.failures)
            elif isinstance(event, TasksReopened):
                self.earlier_failures.difference_update(event.ranges)
        if self.end_reason:  # the input broke off; this time it may be complete
            self.total, self.end_reason = -1, ""
        self.spilled.difference_update(written)
        self.next_in_order = self.written_below = written.low_watermark()

    @property
    def is_complete(self) -> bool:
        """Whether all tasks and the total are settled, and the journal has every entry."""
        return (
            self.total >= 0
            and not self._pending_entries
            and self.settled.covers(0, self.total)
            and not len(self.spilled)
        )

    def events_left(self, halt_condition: HaltCondition) -> int:
        """Return how many more halt events end the run; -1 if that is unknown."""
        done_count = self.settled.task_count - self._resumed_done_count
        return halt_condition.events_left(done_count, self.failed_count - self._resumed_failed_count, self.total)

    def accept(self, result: Result) -> list[Result]:
        """Return the new parts of a result and mark their tasks as pending."""
        end = result.first + result.count
        known = RangeSet((*self.settled.intersection(result.first, end), *self.pending.intersection(result.first, end)))
        new = known.gaps(result.first, end)
        self.pending.update(new)
        return slice_result(result, new) if new else []

    def record_attempt(self, attempt_range: AttemptRange) -> bool:
        """Record that these tasks failed and will be retried. Return False if that was known."""
        self.pending.remove(attempt_range.low, attempt_range.high)
        is_new = self.is_new_attempt(attempt_range)
        self.attempts.set(attempt_range.low, attempt_range.high, attempt_range.attempt)
        return is_new

    def is_new_attempt(self, attempt_range: AttemptRange) -> bool:
        """Return whether fewer failed attempts were known for any of these tasks."""
        return bool(self.attempts.find_below(attempt_range.low, attempt_range.high, attempt_range.attempt))

    def missing(self, unacked: Ranges, attempt_ranges: Iterable[AttemptRange] = ()) -> Ranges:
        """Return the tasks that are neither settled nor pending, without results of attempts that are outdated."""
        missing = RangeSet(unacked)
        for known in (self.settled, self.pending):
            missing.difference_update([part for low, high in missing for part in known.intersection(low, high)])
        if len(self.attempts):
            worker_attempts = AttemptCounts(attempt_ranges)
            for task in [task for task in self.attempts.tasks() if task in missing]:
                if worker_attempts.get(task) < self.attempts.get(task):
                    missing.remove(task, task + 1)
        return missing.ranges()

    def append(self, *events: JournalEvent) -> Send:
        """Return the next journal entry; its events become true together."""
        self._last_entry_number += 1
        entry = JournalEntry(self._last_entry_number, events)
        self._pending_entries.append(entry)
        return Send(Port.JOURNAL, entry)

    def is_pending(self, event_type: type) -> bool:
        """Return whether the journal has yet to commit an event of this type."""
        return any(isinstance(event, event_type) for entry in self._pending_entries for event in entry.events)

    def commit(self, number: int) -> list[JournalEvent]:
        """Apply and return the events of all entries up to `number`, which the journal has committed."""
        events: list[JournalEvent] = []
        while self._pending_entries and self._pending_entries[0].number <= number:
            events += self._pending_entries.popleft().events
        for event in events:
            self.apply(event)
        return events

    def apply(self, event: JournalEvent) -> None:
        """Apply one committed event."""
        self.suspended_exit_code = None
        match event:
            case TasksSettled():
                self._apply_settled(event)
            case ChecksumsRecorded(first, count):
                self.checksum_watermark = max(self.checksum_watermark, first + count)
            case AttemptRange(low, high, attempt):
                self.attempts.set(low, high, attempt)
            case TasksReopened(ranges):
                self.settled.difference_update(ranges)
                self.spilled.difference_update(ranges)
                reopened_count = sum(high - low for low, high in ranges)
                self.failed_count -= reopened_count
                self._resumed_done_count = max(0, self._resumed_done_count - reopened_count)
                self._resumed_failed_count = max(0, self._resumed_failed_count - reopened_count)
            case RunStopped() | SinkSuspended():
                self._apply_stop(event)
            case RunStarted(run, fingerprint):
                self.run, self.fingerprint = run, fingerprint
            case CommandFixed(digest, command):
                self.digest, self.command = digest, command
            case InputEnded(total, reason):
                self.total, self.end_reason = total, reason
                if total < self.checksum_watermark and not reason:
                    self.checksum_watermark = checksums.last_boundary(total)

    def _apply_stop(self, event: RunStopped | SinkSuspended) -> None:
        if isinstance(event, RunStopped):
            self.run_stop = event
            return
        self.suspended_exit_code = self.run_stop.exit_code if self.run_stop else INCOMPLETE
        self.run_stop = None
        self._resumed_done_count, self._resumed_failed_count = self.settled.task_count, self.failed_count

    def _apply_settled(self, event: TasksSettled) -> None:
        self.settled.update(event.ranges)
        self.pending.difference_update(event.ranges)
        self.attempts.forget(event.ranges)
        self.failed_count += sum(high - low for low, high in event.failures)
        self.output_sizes = event.sizes
        if not event.is_spilled:
            self.written_below = max([self.written_below, *(high for _, high in event.ranges)])


class RunInfo:
    """Run id, command, input checksums and end of input: each recorded in the journal once."""

    def __init__(self, ledger: Ledger, *, has_checksums: bool) -> None:
        self._ledger, self._has_checksums = ledger, has_checksums
        self.ventilator_epoch = ""
        """Epoch of the ventilator process whose checksums count."""
        self.checksum_watermark = 0 if has_checksums else -1
        """The journal has the checksums of all records below, as this ventilator read them; -1: none are recorded."""
        self._announced_below = self._recorded_below = 0
        """This ventilator announced all records below `_announced_below`; an earlier one those below
        `_recorded_below`."""
        self._former_epochs: set[str] = set()
        self._pending_checksums: deque[tuple[str, int]] = deque()
        self._last_checksums: ChecksumsRecorded | None = None
        self._is_input_rejected = False

    def start_run(self, ventilator_state: VentilatorState) -> list[Send]:
        """Record the run that the first ventilator proposes."""
        if self._ledger.is_pending(RunStarted):
            return []
        return [self._ledger.append(RunStarted(ventilator_state.run, ventilator_state.fingerprint))]

    def on_end_of_input(self, ventilator_state: VentilatorState) -> list[Send]:
        """Record the end of input. A ventilator that has read more since then reports a new one."""
        ledger, total, reason = self._ledger, ventilator_state.total, ventilator_state.reason
        if (
            ventilator_state.state != "ended"
            or (total, reason) == (ledger.total, ledger.end_reason)
            or ledger.is_pending(InputEnded)
        ):
            return []
        ended = InputEnded(total, reason)
        if reason or total >= ledger.checksum_watermark:
            return [ledger.append(ended)]
        if self._announced_below < total:
            return []
        # the input has become shorter, and this event cuts its checksums
        self._recorded_below = checksums.last_boundary(total)
        return [ledger.append(ended, *self._repeat_last_checksums())]

    def _repeat_last_checksums(self) -> list[JournalEvent]:
        # The journal compared them with a record of a longer group, so it has not stored them.
        if self._last_checksums is None:
            return []
        self._pending_checksums.append((self.ventilator_epoch, self._announced_below))
        return [self._last_checksums]

    def on_checksums(self, message: InputChecksums) -> list[Send]:
        """Record the checksums of records that were read, for the first time or again.

        A message that would leave a gap is dropped: the ventilator repeats it after those that fill the gap.
        """
        if not self._has_checksums or message.run != self._ledger.run:
            return []
        epoch = message.ventilator_epoch
        is_new_epoch = epoch != self.ventilator_epoch and epoch not in self._former_epochs
        if is_new_epoch and message.first == message.acked_below:
            self._former_epochs.add(self.ventilator_epoch)
            self.ventilator_epoch = epoch
            self.checksum_watermark = self._announced_below = message.first
            self._recorded_below = self._ledger.checksum_watermark
        if epoch != self.ventilator_epoch or message.first != self._announced_below:
            return []
        self._announced_below = message.first + message.count
        self._pending_checksums.append((epoch, self._announced_below))
        self._last_checksums = ChecksumsRecorded(message.first, message.count, message.checksums)
        return [self._ledger.append(self._last_checksums)]

    def apply(self, events: Iterable[JournalEvent]) -> None:
        """Raise the watermark for checksums that the journal has committed: stored, or found equal."""
        for event in events:
            if not isinstance(event, ChecksumsRecorded):
                continue
            epoch, end = self._pending_checksums.popleft()
            if epoch == self.ventilator_epoch:
                # A part of a group cannot be compared with a record that covers more of the group.
                comparable = end if end >= self._recorded_below else checksums.last_boundary(end)
                self.checksum_watermark = max(self.checksum_watermark, comparable)

    def record_command(self, heartbeat: Heartbeat) -> list[Send]:
        """Record the first worker's command as that of the run."""
        ledger = self._ledger
        if not ledger.run or heartbeat.run != ledger.run or ledger.digest or ledger.is_pending(CommandFixed):
            return []
        return [ledger.append(CommandFixed(heartbeat.digest, heartbeat.command))]

    def is_announced(self, first: int, end: int) -> bool:
        """Return whether checksums cover all these tasks, and those recorded earlier have not changed."""
        if not self._has_checksums:
            return True
        return (
            end <= self._announced_below
            and (first >= self._recorded_below or end <= self.checksum_watermark)
            and not self._is_input_rejected
        )

    def reject_input(self) -> None:
        """Accept no more results: the input is not that of the run."""
        self._is_input_rejected = True
