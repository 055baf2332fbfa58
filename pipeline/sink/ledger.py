"""Which tasks are pending or settled, rebuilt from journal events; run metadata.

What is settled, what is on its way to be, and whose turn it is: the fold of the run's facts.

Each task is accepted once: the first result of it that is final, of whichever worker and try. It is *pending* until
output (or spill) and journal have answered, then *settled*, for good. A fact is applied when the journal has it,
and so a ledger made of what a journal holds is the one that was before. Results are counted, not held, here.

What the sink is told of the run: its name, its command, what has been read, and how much there is in all.

Each becomes a fact once, and is true when the journal has it. Where there is a journal, the checksums of all records
go into it, and no result is taken of a task that no checksum covers: so each settled task can be known again when its
input is read another time. Knows nothing of results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.model import checksums
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
from pipeline.model.ranges import AttemptCounts, RangeSet
from pipeline.model.results import slice_result
from pipeline.model.state_machine import Port, Send


class Ledger:
    """Each task once."""

    def __init__(self, events: Iterable[JournalEvent] = ()) -> None:
        self.run = self.fingerprint = self.digest = self.command = ""
        self.failed_count, self.total, self.end_reason = 0, -1, ""
        self.checksum_watermark = self.written_below = 0
        """All records below `read` have been marked. Where order is asked for, all below `written` is in the output."""
        self.settled, self.pending, self.attempts = RangeSet(), RangeSet(), AttemptCounts()
        self.spilled, self.earlier_failures = RangeSet(), RangeSet()
        """In the spill, since their turn has not come; what had failed before this life."""
        self.output_sizes: tuple[int, ...] = ()
        self.run_stop: RunStopped | None = None
        self._pending_entries: deque[JournalEntry] = deque()
        self._last_entry_number = 0
        written = RangeSet()
        for fact in events:
            self.apply(fact)
            if isinstance(fact, TasksSettled):
                (self.spilled if fact.is_spilled else written).update(fact.ranges)
                self.earlier_failures.update(fact.failures)
            elif isinstance(fact, TasksReopened):
                self.earlier_failures.difference_update(fact.ranges)
        if self.end_reason:  # an input that broke off may be whole by now
            self.total, self.end_reason = -1, ""
        self.spilled.difference_update(written)
        self.next_in_order = self.written_below = written.low_watermark()

    def accept(self, result: Result) -> list[Result]:
        """The parts of a result that are new; they are pending now."""
        end = result.first + result.count
        known = RangeSet((*self.settled.intersection(result.first, end), *self.pending.intersection(result.first, end)))
        new = known.gaps(result.first, end)
        self.pending.update(new)
        return slice_result(result, new) if new else []

    def record_attempt(self, attempt_range: AttemptRange) -> bool:
        """These have failed, and will be run again; False if that was known already."""
        self.pending.remove(attempt_range.low, attempt_range.high)
        news = self.is_new_attempt(attempt_range)
        self.attempts.set(attempt_range.low, attempt_range.high, attempt_range.attempt)
        return news

    def is_new_attempt(self, attempt_range: AttemptRange) -> bool:
        """Whether it was not known that they have failed so often."""
        return bool(self.attempts.find_below(attempt_range.low, attempt_range.high, attempt_range.attempt))

    def missing(self, unacked: Ranges, attempt_ranges: Iterable[AttemptRange] = ()) -> Ranges:
        """What of these is neither settled nor on its way. What has failed since is not waited for."""
        missing = RangeSet(unacked)
        for known in (self.settled, self.pending):
            missing.difference_update([part for low, high in missing for part in known.intersection(low, high)])
        if len(self.attempts):
            theirs = AttemptCounts(attempt_ranges)
            for task in [task for task in self.attempts.tasks() if task in missing]:
                if theirs.get(task) < self.attempts.get(task):
                    missing.remove(task, task + 1)
        return missing.ranges()

    def append(self, *events: JournalEvent) -> Send:
        """The next entry for the journal: all of these at once."""
        self._last_entry_number += 1
        entry = JournalEntry(self._last_entry_number, events)
        self._pending_entries.append(entry)
        return Send(Port.JOURNAL, entry)

    def is_pending(self, event_type: type) -> bool:
        """Whether a fact of this kind is on its way to the journal."""
        return any(isinstance(fact, event_type) for entry in self._pending_entries for fact in entry.events)

    def commit(self, number: int) -> list[JournalEvent]:
        """The journal has these entries: their facts are true from now on. All that are news."""
        news: list[JournalEvent] = []
        while self._pending_entries and self._pending_entries[0].number <= number:
            news += self._pending_entries.popleft().events
        for fact in news:
            self.apply(fact)
        return news

    def apply(self, event: JournalEvent) -> None:
        """It is true."""
        match event:
            case TasksSettled():
                self._apply_settled(event)
            case ChecksumsRecorded(first, count):
                self.checksum_watermark = max(self.checksum_watermark, first + count)
            case AttemptRange(low, high, tries):
                self.attempts.set(low, high, tries)
            case TasksReopened(ranges):
                self.settled.difference_update(ranges)
                self.spilled.difference_update(ranges)
                self.failed_count -= sum(high - low for low, high in ranges)
            case RunStopped() | SinkSuspended():
                self.run_stop = event if isinstance(event, RunStopped) else None
            case _:
                self._apply_run_event(event)

    def _apply_run_event(self, event: RunStarted | CommandFixed | InputEnded) -> None:
        match event:
            case RunStarted(run, fingerprint):
                self.run, self.fingerprint = run, fingerprint
            case CommandFixed(digest, command):
                self.digest, self.command = digest, command
            case InputEnded(total, reason):
                self.total, self.end_reason = total, reason
                self.checksum_watermark = (
                    checksums.floor(total)
                    if total < self.checksum_watermark and not reason
                    else self.checksum_watermark
                )

    def _apply_settled(self, event: TasksSettled) -> None:
        self.settled.update(event.ranges)
        self.pending.difference_update(event.ranges)
        self.attempts.forget(event.ranges)
        self.failed_count += sum(high - low for low, high in event.failures)
        self.output_sizes = event.sizes
        if not event.is_spilled:
            self.written_below = max([self.written_below, *(high for _, high in event.ranges)])

    @property
    def is_complete(self) -> bool:
        """All is settled, and journaled, the total included."""
        return (
            self.total >= 0
            and not self._pending_entries
            and self.settled.covers(0, self.total)
            and not len(self.spilled)
        )


class RunInfo:
    """What is known of the run but its results; `marked` if marks are kept."""

    def __init__(self, ledger: Ledger, *, has_checksums: bool) -> None:
        self._ledger, self._has_checksums = ledger, has_checksums
        self.ventilator_epoch = ""
        """Which life of the ventilator reads."""
        self.checksum_watermark = 0 if has_checksums else -1
        """All records below have been marked for this reader; -1: nobody wants marks."""
        self._announced_below = self._recorded_below = 0
        """This reader has told of all below; what is below `_recorded` was marked by others before it."""
        self._former_epochs: set[str] = set()
        self._pending_checksums: deque[tuple[str, int]] = deque()
        self._latest: ChecksumsRecorded | None = None
        self._is_input_rejected = False

    def start_run(self, ventilator_state: VentilatorState) -> list[Send]:
        """The first Run names the run."""
        if self._ledger.is_pending(RunStarted):
            return []
        return [self._ledger.append(RunStarted(ventilator_state.run, ventilator_state.fingerprint))]

    def on_end_of_input(self, ventilator_state: VentilatorState) -> list[Send]:
        """All is read, if it says so; one that has read on since says so again."""
        ledger = self._ledger
        if (
            ventilator_state.state != "ended"
            or (ventilator_state.total, ventilator_state.reason) == (ledger.total, ledger.end_reason)
            or ledger.is_pending(InputEnded)
        ):
            return []
        ended = InputEnded(ventilator_state.total, ventilator_state.reason)
        if ventilator_state.reason or ventilator_state.total >= ledger.checksum_watermark:
            return [ledger.append(ended)]
        if self._announced_below < ventilator_state.total:
            return []
        self._recorded_below = checksums.floor(
            ventilator_state.total
        )  # the input has become shorter: this Fact shortens the record
        return [ledger.append(ended, *self._marked_again())]

    def _marked_again(self) -> list[JournalEvent]:
        """The last records, of which the checksum could not be compared with a record of more."""
        if self._latest is None:
            return []
        self._pending_checksums.append((self.ventilator_epoch, self._announced_below))
        return [self._latest]

    def on_checksums(self, message: InputChecksums) -> list[Send]:
        """These were read, for the first time or again. What leaves a gap is said again, behind what fills it."""
        if not self._has_checksums or message.run != self._ledger.run:
            return []
        if (
            message.ventilator_epoch != self.ventilator_epoch
            and message.ventilator_epoch not in self._former_epochs
            and message.first == message.acked_below
        ):
            self._former_epochs.add(self.ventilator_epoch)
            self.ventilator_epoch, self.checksum_watermark, self._announced_below = (
                message.ventilator_epoch,
                message.first,
                message.first,
            )
            self._recorded_below = self._ledger.checksum_watermark
        if message.ventilator_epoch != self.ventilator_epoch or message.first != self._announced_below:
            return []
        self._announced_below = message.first + message.count
        self._pending_checksums.append((message.ventilator_epoch, self._announced_below))
        self._latest = ChecksumsRecorded(message.first, message.count, message.checksums)
        return [self._ledger.append(self._latest)]

    def apply(self, events: Iterable[JournalEvent]) -> None:
        """These are true now: of checksums, the journal has those that were entered first, or had the same.

        A part of a group can't be compared with a record of more of it.
        """
        for _ in (fact for fact in events if isinstance(fact, ChecksumsRecorded)):
            reader, end = self._pending_checksums.popleft()
            if reader == self.ventilator_epoch:
                self.checksum_watermark = max(
                    self.checksum_watermark, end if end >= self._recorded_below else checksums.floor(end)
                )

    def record_command(self, heartbeat: Heartbeat) -> list[Send]:
        """The first worker's command is the run's."""
        ledger = self._ledger
        if not ledger.run or heartbeat.run != ledger.run or ledger.digest or ledger.is_pending(CommandFixed):
            return []
        return [ledger.append(CommandFixed(heartbeat.digest, heartbeat.command))]

    def is_announced(self, first: int, end: int) -> bool:
        """Whether the reader has told of all tasks below `end`, and those that were known before are the same still."""
        if not self._has_checksums:
            return True
        return (
            end <= self._announced_below
            and (first >= self._recorded_below or end <= self.checksum_watermark)
            and not self._is_input_rejected
        )

    def reject_input(self) -> list[Send]:
        """It is another input: nothing that comes of it is wanted."""
        self._is_input_rejected = True
        return []
