"""Resuming and discarding an earlier run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import resume
from pipeline.config.settings import Settings
from pipeline.model.errors import UsageError
from pipeline.model.records import ArgumentSource
from pipeline.model.structs import replace
from pipeline.storage import journal_reader
from pipeline.storage.journal_reader import RunSummary

YEAR = time.localtime().tm_year
STARTED_AT = time.mktime((YEAR, 11, 2, 14, 2, 0, 0, 0, -1))
UNFINISHED = RunSummary("ab12", STARTED_AT, 8300, 2, 10_000, is_suspended=False)
UNKNOWN_TOTAL = RunSummary("ab12", STARTED_AT, 8300, 2, -1, is_suspended=False)
COMPLETE = RunSummary("ab12", STARTED_AT, 10_000, 2, 10_000, is_suspended=True)
NOTHING_SETTLED = RunSummary("ab12", STARTED_AT, 0, 0, -1, is_suspended=True)
NO_RUN = RunSummary("", STARTED_AT, 0, 0, -1, is_suspended=True)


class EarlierRun:
    """A directory with the journal of an earlier run, and the messages about it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out, self.journal = folder / "out", folder / "out.journal"
        self.messages: list[str] = []
        self._patch = monkeypatch

    def set_summary(self, summary: RunSummary | None) -> None:
        """Create a journal with this summary."""
        self._patch.setattr(journal_reader, "read_summary", lambda _: summary)
        if summary:
            self.journal.write_bytes(journal_reader.JOURNAL_MAGIC + b"of the run before")

    def settings(self, **more: bool) -> Settings:
        return Settings(output=str(self.out), argument_sources=(ArgumentSource(":::", ("a",)),), **more)  # type: ignore[arg-type]


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EarlierRun:
    """No journal, until one is set."""
    run = EarlierRun(tmp_path, monkeypatch)
    run.set_summary(None)
    return run


@pytest.mark.parametrize(("summary", "done"), [(UNFINISHED, "83% done"), (UNKNOWN_TOTAL, "8,300 tasks done")])
def test_unfinished_run_is_an_error_with_hint(earlier: EarlierRun, summary: RunSummary, done: str) -> None:
    earlier.set_summary(summary)
    with pytest.raises(UsageError) as error:
        resume.check_resume(earlier.settings(), earlier.messages.append)
    assert str(error.value) == f"{earlier.journal} contains an unfinished run (started 2 Nov 14:02, {done})"
    assert error.value.hint == "use --resume to continue it, or --restart to discard it"
    assert earlier.journal.exists()


def test_describe_run_shows_another_year() -> None:
    old = RunSummary("ab12", time.mktime((YEAR - 1, 11, 12, 4, 2, 0, 0, 0, -1)), 1, 0, 3, is_suspended=False)
    assert resume.describe_run(old) == f"started 12 Nov {YEAR - 1} 04:02, 33% done"


def test_spooled_stdin_without_settled_tasks_is_kept(earlier: EarlierRun) -> None:
    earlier.set_summary(NOTHING_SETTLED)
    os.mkdir(f"{earlier.out}.spool")
    with pytest.raises(UsageError, match=r"contains an unfinished run \(started .*, 0 tasks done\)"):
        resume.check_resume(earlier.settings(), earlier.messages.append)
    assert earlier.journal.exists()


def test_spilled_results_make_a_run_unfinished(earlier: EarlierRun) -> None:
    earlier.set_summary(replace(COMPLETE, spilled=1))
    with pytest.raises(UsageError, match=r"contains an unfinished run \(started .*, 100% done\)"):
        resume.check_resume(earlier.settings(), earlier.messages.append)
    assert resume.check_resume(earlier.settings(resume=True), earlier.messages.append)


def test_resume_of_complete_run_runs_only_failed_tasks(earlier: EarlierRun) -> None:
    earlier.set_summary(COMPLETE)
    assert not resume.check_resume(earlier.settings(resume=True), earlier.messages.append)
    assert earlier.messages == [f"nothing to resume: all 10,000 tasks of the run in {earlier.journal} are done"]
    assert resume.check_resume(earlier.settings(resume_failed=True), earlier.messages.append)
    earlier.set_summary(replace(COMPLETE, failed=0))
    assert not resume.check_resume(earlier.settings(resume_failed=True), earlier.messages.append)
    assert earlier.journal.exists()


@pytest.mark.parametrize("flag", ["resume", "resume_failed"])
def test_resume_reports_the_unfinished_run(earlier: EarlierRun, flag: str) -> None:
    earlier.set_summary(UNFINISHED)
    resume.check_resume(earlier.settings(**{flag: True}), earlier.messages.append)
    assert earlier.messages == ["resuming the unfinished run (started 2 Nov 14:02, 83% done)"]
    assert earlier.journal.exists()


def test_resume_without_journal_starts_a_run(earlier: EarlierRun) -> None:
    resume.check_resume(earlier.settings(resume=True), earlier.messages.append)
    assert earlier.messages == [f"nothing to resume in {earlier.journal}; starting a new run"]


def test_resume_without_journal_keeps_existing_output(earlier: EarlierRun) -> None:
    earlier.out.write_text("results")
    with pytest.raises(UsageError, match="so its run is complete"):
        resume.check_resume(earlier.settings(resume=True), earlier.messages.append)
    resume.check_resume(earlier.settings(restart=True), earlier.messages.append)
    assert earlier.messages == []


@pytest.mark.parametrize("summary", [UNFINISHED, UNKNOWN_TOTAL, COMPLETE, NOTHING_SETTLED])
def test_restart_discards_the_journal(earlier: EarlierRun, summary: RunSummary) -> None:
    earlier.set_summary(summary)
    resume.check_resume(earlier.settings(restart=True), earlier.messages.append)
    assert (earlier.messages, earlier.journal.exists()) == ([], False)


@pytest.mark.parametrize("summary", [COMPLETE, NOTHING_SETTLED, NO_RUN])
def test_complete_or_empty_run_is_discarded(earlier: EarlierRun, summary: RunSummary) -> None:
    earlier.set_summary(summary)
    resume.check_resume(earlier.settings(), earlier.messages.append)
    assert (earlier.messages, earlier.journal.exists()) == ([], False)


Begin = Callable[[Settings, resume.PrintMessage], object]


@pytest.mark.parametrize("begin", [resume.check_resume, resume.announce_resume])
def test_restart_keeps_a_file_that_is_not_a_journal(earlier: EarlierRun, begin: Begin) -> None:
    earlier.journal.write_text("precious")
    with pytest.raises(UsageError, match=r"out\.journal is not a journal, so it is kept"):
        begin(earlier.settings(restart=True), earlier.messages.append)
    assert earlier.journal.read_text() == "precious"


@pytest.mark.parametrize("begin", [resume.check_resume, resume.announce_resume])
@pytest.mark.parametrize(
    "content",
    [
        journal_reader.JOURNAL_MAGIC[:5],
        journal_reader.JOURNAL_MAGIC[:-1] + b"\xff",
        journal_reader.JOURNAL_MAGIC + b"x" * 99,
    ],
)
def test_restart_discards_a_damaged_journal(earlier: EarlierRun, begin: Begin, content: bytes) -> None:
    earlier.journal.write_bytes(content)
    begin(earlier.settings(restart=True), earlier.messages.append)
    assert (earlier.messages, earlier.journal.exists()) == ([], False)


def test_without_journal_nothing_is_read(earlier: EarlierRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(journal_reader, "read_summary")
    resume.check_resume(Settings(), earlier.messages.append)
    resume.announce_resume(Settings(), earlier.messages.append)
    assert earlier.messages == []


def test_resume_without_possible_journal_is_an_error(earlier: EarlierRun) -> None:
    with pytest.raises(UsageError, match="/dev/null cannot have a journal beside it"):
        resume.check_resume(Settings(output="/dev/null", resume=True), earlier.messages.append)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"no_spool": True}, "--no-spool discards stdin"),
        ({"files": ("fifo",)}, "its input can be read only once"),
    ],
)
def test_input_that_cannot_be_reread_is_a_warning(
    earlier: EarlierRun, monkeypatch: pytest.MonkeyPatch, more: dict[str, object], reason: str
) -> None:
    monkeypatch.chdir(earlier.out.parent)
    os.mkfifo("fifo")
    with open(os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)) as fifo:
        stdin = os.dup(0)
        os.dup2(fifo.fileno(), 0)
        try:
            resume.check_resume(Settings(output="out", **more), earlier.messages.append)  # type: ignore[arg-type]
        finally:
            os.dup2(stdin, 0)
            os.close(stdin)
    assert earlier.messages == [f"warning: this run cannot be resumed: {reason}"]


# --- pipe sink -------------------------------------------------------------------


@pytest.mark.parametrize(("summary", "done"), [(UNFINISHED, "83% done"), (UNKNOWN_TOTAL, "8,300 tasks done")])
def test_sink_resumes_and_reports_it(earlier: EarlierRun, summary: RunSummary, done: str) -> None:
    earlier.set_summary(summary)
    resume.announce_resume(earlier.settings(), earlier.messages.append)
    assert earlier.messages == [f"resuming the unfinished run (started 2 Nov 14:02, {done})"]
    assert earlier.journal.exists()


@pytest.mark.parametrize("summary", [None, COMPLETE, NO_RUN])
def test_sink_without_unfinished_run_reports_nothing(earlier: EarlierRun, summary: RunSummary | None) -> None:
    earlier.set_summary(summary)
    resume.announce_resume(earlier.settings(), earlier.messages.append)
    assert earlier.messages == []


def test_sink_with_restart_discards_the_journal(earlier: EarlierRun) -> None:
    earlier.set_summary(UNFINISHED)
    resume.announce_resume(earlier.settings(restart=True), earlier.messages.append)
    assert (earlier.messages, earlier.journal.exists()) == ([], False)


@pytest.mark.parametrize(
    ("summary", "has_hint"), [(UNFINISHED, True), (COMPLETE, False), (NO_RUN, False), (None, False)]
)
def test_interrupted_run_gets_a_hint(earlier: EarlierRun, summary: RunSummary | None, *, has_hint: bool) -> None:
    earlier.set_summary(summary)
    resume.suggest_resume(earlier.settings(), earlier.messages.append)
    assert earlier.messages == (["hint: run the same command with --resume to continue"] if has_hint else [])
