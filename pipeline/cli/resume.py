"""The earlier run of the same output: continue it (`--resume`), discard it (`--restart`), or ask.

Invariants:
  - A run that can be continued is discarded only if the user says so.
  - What cannot be resumed later is reported before the first task runs.
  - Nothing here opens a journal for writing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.config.settings import Settings
from pipeline.model.errors import UsageError

if TYPE_CHECKING:
    from pipeline.storage.journal_reader import RunSummary

PrintMessage = Callable[[str], None]


def check_resume(settings: Settings, print_message: PrintMessage) -> bool:
    """Prepare `pipe run` to continue or to start; return False if all tasks are done.

    Raises UsageError if there is an unfinished run and no option says what to do about it.
    """
    from pipeline.runtime import run_files

    path = run_files.journal_path(settings)
    run_files.ensure_unlocked(path)
    if settings.restart:
        _discard_run(settings, path)
    found = _read_summary(path)
    if settings.resume or settings.resume_failed:
        if not _resume(settings, path, found, print_message):
            return False
    elif found and not is_over(found) and (found.settled or os.path.isdir(run_files.spool_path(settings))):
        hint = "use --resume to continue it, or --restart to discard it"
        raise UsageError(f"{path} contains an unfinished run ({describe_run(found)})", hint)
    else:
        # a run that is complete, or has not settled a task, leaves nothing to continue
        run_files.remove_run_files(settings)
    if path:
        warn_not_resumable(settings, print_message)
    return True


def _resume(settings: Settings, path: str, found: RunSummary | None, print_message: PrintMessage) -> bool:
    """Report what is resumed; return False if all tasks are done."""
    if not path:
        raise UsageError(f"{settings.output} cannot have a journal beside it", "give --journal FILE to resume from")
    if not found:
        _check_output_empty(settings.output, path)
        print_message(f"nothing to resume in {path}; starting a new run")
    elif is_over(found) and not (settings.resume_failed and found.failed):
        print_message(f"nothing to resume: all {found.total:,} tasks of the run in {path} are done")
        return False
    else:
        print_message(f"resuming the unfinished run ({describe_run(found)})")
    return True


def announce_resume(settings: Settings, print_message: PrintMessage) -> None:
    """Report what `pipe sink` continues; with --restart, discard it."""
    from pipeline.runtime import run_files

    path = run_files.journal_path(settings)
    if settings.restart:
        _discard_run(settings, path)
    if (found := _read_summary(path)) and not is_over(found):
        print_message(f"resuming the unfinished run ({describe_run(found)})")


def warn_not_resumable(settings: Settings, print_message: PrintMessage) -> None:
    """Warn if the input can be read only once."""
    from pipeline.runtime import run_files

    if not run_files.can_reread_input(settings):
        reason = "--no-spool discards stdin" if settings.no_spool else "its input can be read only once"
        print_message(f"warning: this run cannot be resumed: {reason}")


def suggest_resume(settings: Settings, print_message: PrintMessage) -> None:
    """After a run that was not completed, say how to continue it, if that is possible."""
    from pipeline.runtime import run_files

    path = run_files.journal_path(settings)
    if path and run_files.can_reread_input(settings) and (found := _read_summary(path)) and not is_over(found):
        print_message("hint: run the same command with --resume to continue")


def is_over(summary: RunSummary) -> bool:
    """Return whether nothing is left to do."""
    return 0 <= summary.total <= summary.settled and not summary.spilled


def describe_run(summary: RunSummary) -> str:
    """Return `started 12 Nov 14:02, 83% done`, in local time."""
    started = time.localtime(summary.started_at)
    done = f"{100 * summary.settled // summary.total}% done" if summary.total > 0 else f"{summary.settled:,} tasks done"
    date_format = "%b %H:%M" if started.tm_year == time.localtime().tm_year else "%b %Y %H:%M"
    return f"started {started.tm_mday} {time.strftime(date_format, started)}, {done}"


def _read_summary(path: str) -> RunSummary | None:
    """Return the run of the journal, if there is one and it has begun."""
    if not os.path.exists(path):
        return None
    from pipeline.storage import journal_reader

    found = journal_reader.read_summary(path)
    return found if found and found.run else None


def _check_output_empty(output: str, path: str) -> None:
    """Raise UsageError if the output has content, perhaps of a complete run, which resuming must not lose."""
    with suppress(FileNotFoundError):
        if output and os.stat(output).st_size:
            text = f"nothing to resume: {output} exists without {path}, so its run is complete"
            raise UsageError(text, "use --restart to run all tasks again")


def _discard_run(settings: Settings, path: str) -> None:
    """Remove the files of the earlier run, even of a damaged journal. Raises UsageError for any other file."""
    from pipeline.runtime import run_files
    from pipeline.storage import journal_reader

    magic = journal_reader.JOURNAL_MAGIC[:-1]  # without the version
    with suppress(FileNotFoundError), open(path, "rb") as file:
        if not magic.startswith(file.read(len(magic))):
            raise UsageError(f"{path} is not a journal, so it is kept", "give another file with --journal")
    run_files.remove_run_files(settings)
