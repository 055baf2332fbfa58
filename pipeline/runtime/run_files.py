"""Paths and life cycle of output, journal, spill and spool of one run.

- The only module that knows the names of files beside an output. An output that is not a regular file, such as
  /dev/null, has none.
- The path functions only look. `remove_run_files` removes the files of a run that is not running.
- A run that reads its tasks from --failed writes new dead letters beside it, and replaces it when it is complete.
- RunFiles opens all files so that a run can be resumed: the output is truncated to what the journal has recorded, the
  spill to what is settled and not yet written.
- A finished run leaves its output, and its journal only if the user named one.
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
from pipeline.storage.null_journal import NullJournal
from pipeline.storage.spill_buffer import SpillBuffer

if TYPE_CHECKING:
    from pipeline.config.settings import Settings
    from pipeline.sink.ledger import Ledger
    from pipeline.storage.journal import Journal
    from pipeline.storage.locked_files import ReplacementFile


JOURNAL_SUFFIX, SPILL_SUFFIX, SPOOL_SUFFIX = ".journal", ".spill", ".spool"
UNFINISHED_SUFFIX = ".unfinished"
STDIN = "-"
LOCK_WAIT_SECONDS = 2.0
"""How long to wait for a sink that may be about to exit: it was killed together with its launcher just now."""


def journal_path(settings: Settings) -> str:
    """Return the path of the journal; empty: there is none."""
    return settings.journal or (settings.output + JOURNAL_SUFFIX if _is_regular_or_new(settings.output) else "")


def spill_path(settings: Settings) -> str:
    """Return the directory where out-of-order results survive a restart; empty without a journal."""
    path = journal_path(settings)
    return path and path + SPILL_SUFFIX


def temporary_folder(settings: Settings) -> str | None:
    """Return the folder for temporary files of the spill: that of the output file, if it can be written; or TMPDIR."""
    path, folder = settings.output, os.path.dirname(settings.output) or "."
    is_file = path != "" and (os.path.isfile(path) or not os.path.exists(path))
    return folder if is_file and os.access(folder, os.W_OK) else None


def spool_path(settings: Settings) -> str:
    """Return the directory that keeps a copy of stdin; empty: there is none."""
    if settings.no_spool or settings.spool:
        return settings.spool
    base = settings.output if _is_regular_or_new(settings.output) else settings.journal
    return base and base + SPOOL_SUFFIX


def unfinished_path(settings: Settings) -> str:
    """Return the file that replaces --failed when the run is complete, if the run reads its tasks from --failed.

    Until then each dead letter is in one of the two files. Empty: --failed is written directly.
    """
    is_replaced = settings.from_failed and _is_regular_or_new(settings.failed) and _may_read(settings, settings.failed)
    return os.path.realpath(settings.failed) + UNFINISHED_SUFFIX if is_replaced else ""


def _may_read(settings: Settings, path: str) -> bool:
    """Return whether an input is the file at `path`, or a pipe, whose writer may read that file."""
    files: list[str | int] = [file for file in settings.files if file != STDIN]
    files += [0] if reads_stdin(settings) else []
    return not all(map(is_regular, files)) or any(
        os.path.exists(path) and os.path.samefile(file, path) for file in files
    )


def needs_spool(settings: Settings, stdin_fd: int = 0) -> bool:
    """Return whether stdin is to be copied: tasks come from it, and it cannot be read twice.

    If the directory exists, this is a resumed run whose stdin could not be read twice.
    """
    path = spool_path(settings)
    return path != "" and reads_stdin(settings) and (not is_regular(stdin_fd) or os.path.isdir(path))


def can_reread_input(settings: Settings, stdin_fd: int = 0) -> bool:
    """Return whether a restarted ventilator can read all of its input again."""
    files = [file for file in settings.files if file != STDIN]
    loses_stdin = reads_stdin(settings) and not is_regular(stdin_fd) and not needs_spool(settings, stdin_fd)
    return not loses_stdin and all(map(is_regular, files))


def reads_stdin(settings: Settings) -> bool:
    """Return whether any tasks come from stdin."""
    return not settings.argument_sources and (not settings.files or STDIN in settings.files)


def is_regular(file: int | str) -> bool:
    """Return whether this descriptor or path is a regular file, which can be read twice."""
    try:
        return stat.S_ISREG(os.stat(file).st_mode)
    except OSError:
        return False


def remove_run_files(settings: Settings) -> None:
    """Remove journal, spill and spool.

    Raises:
        PipelineError: the run is still running, or a file cannot be removed.
    """
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
    """Raise PipelineError if a sink holds this journal and does not release it soon."""
    from fcntl import LOCK_NB, LOCK_SH, flock

    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    with suppress(FileNotFoundError), open(path, "rb") as file:
        while True:
            try:
                flock(file, LOCK_SH | LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PipelineError(
                        f"{path} is in use by a running pipeline", "stop it, or choose another file"
                    ) from None
                time.sleep(0.02)
            else:
                return


def _is_regular_or_new(path: str) -> bool:
    """Return whether the path is a regular file or will be one."""
    return path != "" and (is_regular(path) or not os.path.exists(path))


def check_paths(settings: Settings) -> None:
    """Raise UsageError if one of the files cannot be written."""
    paths = (settings.output, settings.failed, unfinished_path(settings), settings.joblog, journal_path(settings))
    for path in filter(None, paths):
        file_writer.check_writable(path)


def needs_metrics(settings: Settings) -> bool:
    """Return whether anything that is written contains metrics of tasks."""
    return bool(settings.joblog or settings.results_folder or settings.output.endswith(STRUCTURED_SUFFIXES))


def disable_outputs(settings: Settings) -> Settings:
    """With --dry-run, write nothing but stdout."""
    if not settings.dry_run:
        return settings
    return replace(settings, output="", failed="", joblog="", results_folder="", journal="")


class RunFiles:
    """Output, journal and spill of the sink, opened."""

    def __init__(
        self, settings: Settings, show_stderr: Callable[[bytes], None] | None, display: ProgressDisplay | None = None
    ) -> None:
        check_paths(settings)
        self._settings = settings
        path = journal_path(settings)
        self.journal: Journal | NullJournal = NullJournal()
        if path:
            from pipeline.storage.journal import Journal

            self.journal = Journal(path, fsync=settings.durability == "disk", sync_outputs=self._sync)
        sizes = self.journal.output_sizes
        if settings.resume_failed:
            from pipeline.storage.journal_reader import without_failed

            sizes = without_failed(sizes)
        failed = unfinished_path(settings) or settings.failed
        self._replacement: ReplacementFile | None = None
        if failed != settings.failed:
            from pipeline.storage.locked_files import ReplacementFile

            failed = "" if self._has_replaced(failed) else failed
            self._replacement = ReplacementFile(failed, os.path.realpath(settings.failed)) if failed else None
        files = OutputFiles(settings.output, failed, settings.joblog, settings.results_folder, display)
        self._output = ResultOutput(files, show_stderr, verbose=settings.verbose > 0, sizes=sizes)
        durable_folder = spill_path(settings) if settings.keep_order else ""
        self.spill = SpillBuffer(temporary_folder(settings), durable_folder=durable_folder)
        self.adapters: dict[Port, Adapter] = {
            Port.JOURNAL: self.journal,
            Port.OUTPUT: self._output,
            Port.SPILL: self.spill,
        }

    def restore(self, ledger: Ledger) -> None:
        """Make spill and journal match the ledger. With --resume-failed, reopen failed tasks in both."""
        if self._settings.resume_failed and ledger.earlier_failures.task_count:
            event = TasksReopened(ledger.earlier_failures.ranges())
            self.journal.send(Port.JOURNAL, JournalEntry(0, (event,)))
            ledger.apply(event)
        self.spill.restore(ledger.spilled.ranges())

    def finish(self) -> None:
        """Complete the files of a finished run.

        Raises:
            PipelineError: the output cannot be completed.
        """
        self._output.finish()
        if self._replacement:
            self._replacement.commit()
        self.spill.remove()
        if not isinstance(self.journal, NullJournal) and not self._settings.journal:
            self.journal.remove()

    def close(self) -> None:
        """Close all files, and keep them."""
        for adapter in self.adapters.values():
            adapter.close()
        if self._replacement:
            self._replacement.close()

    def _has_replaced(self, path: str) -> bool:
        """Return whether the dead letters at `path` have replaced the old ones: then only their run's end was lost."""
        size = os.path.getsize(path) if os.path.exists(path) else -1
        is_over = self.journal.is_complete and not self._settings.resume_failed
        return is_over and (size,) != self.journal.output_sizes[1:2]

    def _sync(self) -> None:
        """Make output and spill durable. Raises OSError."""
        self._output.sync()
        self.spill.sync()
