"""Paths and life cycle of output, journal, spill and spool of one run.

What lies beside an output: the journal of its run, results ahead of their turn, and what stdin said.

The one place that knows their names. It promises to look only, save for `clear`, which removes all of them unless a
run is at work there, and no file that may be somebody else's; it never reads what they hold. Nothing lies beside what
is no plain file, like /dev/null.

What the sink keeps on the disk, as one: output, spill, and the journal that says how far both are good.

It puts them together so that a run can be gone on with: the output is cut back to what the journal has, the spill to
what is settled and not written. A run that is over leaves its output, and a journal only if a person named one.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.model.errors import PipelineError
from pipeline.model.events import JournalEntry
from pipeline.model.journal_events import TasksReopened
from pipeline.model.state_machine import Adapter, Port
from pipeline.model.structs import replace
from pipeline.output import file_writer
from pipeline.output.destinations import STRUCTURED_SUFFIXES, ProgressDisplay
from pipeline.output.output import OutputFiles, ResultOutput
from pipeline.storage.journal import Journal, NullJournal
from pipeline.storage.spill_buffer import SpillBuffer

if TYPE_CHECKING:
    from pipeline.config.settings import Settings
    from pipeline.sink.ledger import Ledger


JOURNAL_SUFFIX, SPILL_SUFFIX, SPOOL_SUFFIX = ".journal", ".spill", ".spool"
STDIN = "-"
LOCK_WAIT_SECONDS = 2.0
"""Seconds to wait for a sink that may be about to leave: the one before was killed with all others just now."""


def journal_path(settings: Settings) -> str:
    """The file of the journal; empty: there is none."""
    return settings.journal or (settings.output + JOURNAL_SUFFIX if _is_regular_or_new(settings.output) else "")


def spill_path(settings: Settings) -> str:
    """The folder where results ahead of their turn survive; empty without a journal."""
    path = journal_path(settings)
    return path and path + SPILL_SUFFIX


def spool_path(settings: Settings) -> str:
    """The folder where what stdin said survives; empty: it is not kept."""
    if settings.no_spool or settings.spool:
        return settings.spool
    beside = settings.output if _is_regular_or_new(settings.output) else settings.journal
    return beside and beside + SPOOL_SUFFIX


def needs_spool(settings: Settings, stdin_fd: int = 0) -> bool:
    """Whether stdin is to be kept there: it is read, and it can't be read twice, or could not when this run began."""
    path = spool_path(settings)
    return path != "" and reads_stdin(settings) and (not is_regular(stdin_fd) or os.path.isdir(path))


def can_reread_input(settings: Settings, stdin_fd: int = 0) -> bool:
    """Whether a ventilator that comes back finds all of its input again."""
    files = [file for file in settings.files if file != STDIN]
    once = reads_stdin(settings) and not is_regular(stdin_fd) and not needs_spool(settings, stdin_fd)
    return not once and all(map(is_regular, files))


def reads_stdin(settings: Settings) -> bool:
    """Whether any tasks come from stdin."""
    return not settings.argument_sources and (not settings.files or STDIN in settings.files)


def is_regular(file: int | str) -> bool:
    """Whether this descriptor or path is a plain file, which can be read twice."""
    try:
        return stat.S_ISREG(os.stat(file).st_mode)
    except OSError:
        return False


def remove_run_files(settings: Settings) -> None:
    """Forget the run of which these are. Raises PipelineError if it is still at work, or they can't be removed."""
    path, spill, spool = journal_path(settings), spill_path(settings), spool_path(settings)
    try:
        ensure_unlocked(path)
        with suppress(FileNotFoundError):
            os.unlink(path)
        if spill and os.path.isdir(spill):
            for name in os.listdir(spill):
                os.unlink(os.path.join(spill, name))
            os.rmdir(spill)
        if spool and os.path.isdir(spool):
            from pipeline.input.spool_files import SpoolDirectory

            SpoolDirectory(spool).remove()
    except OSError as error:
        raise PipelineError(f"cannot remove {error.filename or path}: {error.strerror}") from None


def ensure_unlocked(path: str) -> None:
    """Raises PipelineError if a sink holds this journal, and does not let go of it soon."""
    from fcntl import LOCK_NB, LOCK_SH, flock

    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    with suppress(FileNotFoundError), open(path, "rb") as file:
        while True:
            try:
                flock(file, LOCK_SH | LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PipelineError(f"a run is at work on {path}: end it first, or write elsewhere") from None
                time.sleep(0.02)
            else:
                return


def _is_regular_or_new(path: str) -> bool:
    """Whether it is a plain file, or will be one."""
    return path != "" and (is_regular(path) or not os.path.exists(path))


def check_paths(settings: Settings) -> None:
    """Raises UsageError if one of the files can plainly not be written."""
    for path in filter(None, (settings.output, settings.failed, settings.joblog, journal_path(settings))):
        file_writer.check_writable(path)


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
        path = journal_path(settings)
        self.journal: Journal | NullJournal = NullJournal()
        if path:
            self.journal = Journal(path, fsync=settings.durability == "disk", sync_outputs=self._sync)
        sizes = self.journal.output_sizes
        if settings.resume_failed:  # who is done again gets a letter again
            sizes = (*sizes[:1], 0, *sizes[2:])
        files = OutputFiles(settings.output, settings.failed, settings.joblog, settings.results_folder, display)
        self._output = ResultOutput(files, show_stderr, verbose=settings.verbose > 0, sizes=sizes)
        durable = spill_path(settings) if settings.keep_order else ""
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
