"""What the sink is told of the run: its name, its command, what has been read, and how much there is in all.

Each becomes a fact once, and is true when the journal has it. Where there is a journal, the checksums of all records
go into it, and no result is taken of a task that no checksum covers: so each settled task can be known again when its
input is read another time. Knows nothing of results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.sink.ledger import Ledger
from pipeline.words import checksums
from pipeline.words.facts import ChecksumsRecorded, CommandFixed, InputEnded, JournalEvent, RunStarted
from pipeline.words.messages import Heartbeat, InputChecksums, VentilatorState
from pipeline.words.station import Send


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
