"""What is settled, what is on its way to be, and whose turn it is: the fold of the run's facts.

Each task is accepted once: the first result of it that is final, of whichever worker and try. It is *pending* until
output (or spill) and journal have answered, then *settled*, for good. A fact is applied when the journal has it,
and so a ledger made of what a journal holds is the one that was before. Results are counted, not held, here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.words import checksums
from pipeline.words.errands import JournalEntry
from pipeline.words.facts import (
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
from pipeline.words.messages import Result
from pipeline.words.parts import AttemptRange, Ranges
from pipeline.words.ranges import RangeSet
from pipeline.words.results import slice_result
from pipeline.words.station import Port, Send
from pipeline.words.tries import AttemptCounts


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
