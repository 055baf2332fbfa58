"""What the sink keeps on the disk, as one: output, spill, and the journal that says how far both are good.

It puts them together so that a run can be gone on with: the output is cut back to what the journal has, the spill to
what is settled and not written. A run that is over leaves its output, and a journal only if a person named one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline import beside
from pipeline.journal.journal import Journal, NullJournal
from pipeline.output import sheet
from pipeline.output.output import OutputFiles, ResultOutput
from pipeline.output.page import STRUCTURED_SUFFIXES, ProgressDisplay
from pipeline.output.spill import SpillBuffer
from pipeline.words.errands import JournalEntry
from pipeline.words.facts import TasksReopened
from pipeline.words.station import Adapter, Port
from pipeline.words.structs import replace

if TYPE_CHECKING:
    from pipeline.sink.ledger import Ledger
    from pipeline.words.settings import Settings


def check_paths(settings: Settings) -> None:
    """Raises UsageError if one of the files can plainly not be written."""
    for path in filter(None, (settings.output, settings.failed, settings.joblog, beside.journal_path(settings))):
        sheet.check_writable(path)


def needs_metrics(settings: Settings) -> bool:
    """Whether anything that is written needs to know when, where and how each task ran."""
    return bool(settings.joblog or settings.results_folder or settings.output.endswith(STRUCTURED_SUFFIXES))


def disable_outputs(settings: Settings) -> Settings:
    """With --dry-run nothing but stdout is written."""
    if not settings.dry_run:
        return settings
    return replace(settings, output="", failed="", joblog="", results_folder="", journal="")


class RunFiles:
    """The sink's three files, opened. Raises UsageError and PipelineError as they do."""

    def __init__(
        self, settings: Settings, show_stderr: Callable[[bytes], None] | None, display: ProgressDisplay | None = None
    ) -> None:
        check_paths(settings)
        self._settings = settings
        path = beside.journal_path(settings)
        self.journal: Journal | NullJournal = NullJournal()
        if path:
            self.journal = Journal(path, fsync=settings.durability == "disk", sync_outputs=self._sync)
        sizes = self.journal.output_sizes
        if settings.resume_failed:  # who is done again gets a letter again
            sizes = (*sizes[:1], 0, *sizes[2:])
        files = OutputFiles(settings.output, settings.failed, settings.joblog, settings.results_folder, display)
        self._output = ResultOutput(files, show_stderr, verbose=settings.verbose > 0, sizes=sizes)
        durable = beside.spill_path(settings) if settings.keep_order else ""
        self.spill = SpillBuffer(os.path.dirname(settings.output) or None, durable_folder=durable)
        self.adapters: dict[Port, Adapter] = {
            Port.JOURNAL: self.journal,
            Port.OUTPUT: self._output,
            Port.SPILL: self.spill,
        }

    def restore(self, ledger: Ledger) -> None:
        """What the ledger says is kept stays; where the failed are to be done again, it and the journal forget them."""
        if self._settings.resume_failed and ledger.earlier_failures.task_count:
            fact = TasksReopened(ledger.earlier_failures.ranges())
            self.journal.send(Port.JOURNAL, JournalEntry(0, (fact,)))
            ledger.apply(fact)
        self.spill.restore(ledger.spilled.ranges())

    def finish(self) -> None:
        """The run is over. Raises PipelineError if the output can't be made."""
        self._output.finish()
        self.spill.remove()
        if isinstance(self.journal, Journal) and not self._settings.journal:
            self.journal.remove()

    def _sync(self) -> None:
        """What output and spill have said is written is on the disk. Raises OSError."""
        self._output.sync()
        self.spill.sync()
