"""What a run finds of one before it, and which way it goes on: `--resume`, `--restart`, or by being asked.

Promises: what could still be gone on with is never thrown away unless the person says so, and what is kept or not kept
is said before the first task runs. Never opens a journal for writing.
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
    """Before `pipe run`: go on, begin anew, or raise UsageError with the two ways on; False: nothing is left to do."""
    from pipeline.runtime import run_files

    path = run_files.journal_path(settings)
    run_files.ensure_unlocked(path)
    if settings.restart:
        _discard_run(settings, path)
    found = _read_summary(path)
    if settings.resume or settings.resume_failed:
        if not path:
            raise UsageError(f"{settings.output} can have no journal beside it: give --journal FILE to resume from")
        if found and is_over(found) and not (settings.resume_failed and found.failed):
            print_message(f"all {found.total:,} tasks of the run in {path} were done before")
            return False
        if not found:
            _check_output_empty(settings.output, path)
        print_message(
            f"going on with the {describe_run(found)}"
            if found
            else f"there is nothing to resume in {path}: a run begins"
        )
    elif found and not is_over(found) and (found.settled or os.path.isdir(run_files.spool_path(settings))):
        way = "go on with --resume, or begin anew with --restart"
        raise UsageError(f"an {describe_run(found)}, is in {path}; {way}")
    else:
        # a run that is over, or had not got anywhere, is not in the way
        run_files.remove_run_files(settings)
    if path:
        warn_not_resumable(settings, print_message)
    return True


def announce_resume(settings: Settings, print_message: PrintMessage) -> None:
    """Before `pipe sink`: it just goes on, and says so; with --restart it begins anew."""
    from pipeline.runtime import run_files

    path = run_files.journal_path(settings)
    if settings.restart:
        _discard_run(settings, path)
    if (found := _read_summary(path)) and not is_over(found):
        print_message(f"going on with the {describe_run(found)}")


def warn_not_resumable(settings: Settings, print_message: PrintMessage) -> None:
    """Say so if the input of a run that could be resumed can be read only once."""
    from pipeline.runtime import run_files

    if run_files.can_reread_input(settings):
        return
    why = (
        "with --no-spool, nothing is kept of what stdin says"
        if settings.no_spool
        else "its input can be read only once"
    )
    print_message(f"this run can't be resumed: {why}")


def suggest_resume(settings: Settings, print_message: PrintMessage) -> None:
    """Behind a run that did not come to its end, if there is a journal to go on from."""
    from pipeline.runtime import run_files

    path = run_files.journal_path(settings)
    if path and run_files.can_reread_input(settings) and (found := _read_summary(path)) and not is_over(found):
        print_message("the same command with --resume goes on with what is not done")


def is_over(summary: RunSummary) -> bool:
    """Whether nothing is left to do."""
    return 0 <= summary.total <= summary.settled and not summary.spilled


def describe_run(summary: RunSummary) -> str:
    """`unfinished run of 12 Nov 14:02, 83 % done`, in this machine's time."""
    began = time.localtime(summary.started_at)
    done = (
        f"{100 * summary.settled // summary.total} % done" if summary.total > 0 else f"{summary.settled:,} tasks done"
    )
    form = "%b %H:%M" if began.tm_year == time.localtime().tm_year else "%b %Y %H:%M"
    return f"unfinished run of {began.tm_mday} {time.strftime(form, began)}, {done}"


def _read_summary(path: str) -> RunSummary | None:
    """The run whose journal is there, if it has begun."""
    if not os.path.exists(path):
        return None
    from pipeline.storage import journal_reader

    found = journal_reader.read_summary(path)
    return found if found and found.run else None


def _check_output_empty(output: str, path: str) -> None:
    """Raise UsageError if the output has something in it, maybe of a run that is over: resuming never loses that."""
    with suppress(FileNotFoundError):
        if output and os.stat(output).st_size:
            raise UsageError(
                f"there is nothing to resume: {output} is there, but no {path}, so its run is over; "
                "begin anew with --restart"
            )


def _discard_run(settings: Settings, path: str) -> None:
    """Begin anew, also where a journal is damaged. Raises UsageError if the file was never one."""
    from pipeline.runtime import run_files
    from pipeline.storage import journal_reader

    magic = journal_reader.JOURNAL_MAGIC[:-1]  # of whichever version
    with suppress(FileNotFoundError), open(path, "rb") as file:
        if not magic.startswith(file.read(len(magic))):
            raise UsageError(f"{path} is no journal: it is left alone; give another --journal FILE")
    run_files.remove_run_files(settings)
