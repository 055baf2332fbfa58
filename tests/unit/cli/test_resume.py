"""What a person is told of a run before this one, and what becomes of it."""

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
BEGUN = time.mktime((YEAR, 11, 2, 14, 2, 0, 0, 0, -1))
HALF = RunSummary("ab12", BEGUN, 8300, 2, 10_000, is_suspended=False)
STREAM = RunSummary("ab12", BEGUN, 8300, 2, -1, is_suspended=False)
OVER = RunSummary("ab12", BEGUN, 10_000, 2, 10_000, is_suspended=True)
NOTHING_DONE = RunSummary("ab12", BEGUN, 0, 0, -1, is_suspended=True)
NO_RUN = RunSummary("", BEGUN, 0, 0, -1, is_suspended=True)


class Before:
    """A folder with a journal, and what a person is told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out, self.journal = folder / "out", folder / "out.journal"
        self.said: list[str] = []
        self._patch = monkeypatch

    def found(self, summary: RunSummary | None) -> None:
        """The journal is there, and says that."""
        self._patch.setattr(journal_reader, "read_summary", lambda _: summary)
        if summary:
            self.journal.write_bytes(journal_reader.JOURNAL_MAGIC + b"of the run before")

    def settings(self, **more: bool) -> Settings:
        return Settings(output=str(self.out), argument_sources=(ArgumentSource(":::", ("a",)),), **more)  # type: ignore[arg-type]


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Before:
    """No journal, until one is found."""
    it = Before(tmp_path, monkeypatch)
    it.found(None)
    return it


@pytest.mark.parametrize(("summary", "done"), [(HALF, "83% done"), (STREAM, "8,300 tasks done")])
def test_unfinished_run_is_an_error_with_hint(before: Before, summary: RunSummary, done: str) -> None:
    before.found(summary)
    with pytest.raises(UsageError) as error:
        resume.check_resume(before.settings(), before.said.append)
    assert str(error.value) == f"{before.journal} contains an unfinished run (started 2 Nov 14:02, {done})"
    assert error.value.hint == "use --resume to continue it, or --restart to discard it"
    assert before.journal.exists()


def test_describe_run_shows_another_year() -> None:
    old = RunSummary("ab12", time.mktime((YEAR - 1, 11, 12, 4, 2, 0, 0, 0, -1)), 1, 0, 3, is_suspended=False)
    assert resume.describe_run(old) == f"started 12 Nov {YEAR - 1} 04:02, 33% done"


def test_spooled_stdin_without_settled_tasks_is_kept(before: Before) -> None:
    before.found(NOTHING_DONE)
    os.mkdir(f"{before.out}.spool")
    with pytest.raises(UsageError, match=r"contains an unfinished run \(started .*, 0 tasks done\)"):
        resume.check_resume(before.settings(), before.said.append)
    assert before.journal.exists()


def test_spilled_results_make_a_run_unfinished(before: Before) -> None:
    before.found(replace(OVER, spilled=1))
    with pytest.raises(UsageError, match=r"contains an unfinished run \(started .*, 100% done\)"):
        resume.check_resume(before.settings(), before.said.append)
    assert resume.check_resume(before.settings(resume=True), before.said.append)


def test_resume_of_complete_run_runs_only_failed_tasks(before: Before) -> None:
    before.found(OVER)
    assert not resume.check_resume(before.settings(resume=True), before.said.append)
    assert before.said == [f"nothing to resume: all 10,000 tasks of the run in {before.journal} are done"]
    assert resume.check_resume(before.settings(resume_failed=True), before.said.append)
    before.found(replace(OVER, failed=0))
    assert not resume.check_resume(before.settings(resume_failed=True), before.said.append)
    assert before.journal.exists()


@pytest.mark.parametrize("flag", ["resume", "resume_failed"])
def test_resume_reports_the_unfinished_run(before: Before, flag: str) -> None:
    before.found(HALF)
    resume.check_resume(before.settings(**{flag: True}), before.said.append)
    assert before.said == ["resuming the unfinished run (started 2 Nov 14:02, 83% done)"]
    assert before.journal.exists()


def test_resume_without_journal_starts_a_run(before: Before) -> None:
    resume.check_resume(before.settings(resume=True), before.said.append)
    assert before.said == [f"nothing to resume in {before.journal}; starting a new run"]


def test_resume_without_journal_keeps_existing_output(before: Before) -> None:
    before.out.write_text("results")
    with pytest.raises(UsageError, match="so its run is complete"):
        resume.check_resume(before.settings(resume=True), before.said.append)
    resume.check_resume(before.settings(restart=True), before.said.append)
    assert before.said == []


@pytest.mark.parametrize("summary", [HALF, STREAM, OVER, NOTHING_DONE])
def test_restart_discards_the_journal(before: Before, summary: RunSummary) -> None:
    before.found(summary)
    resume.check_resume(before.settings(restart=True), before.said.append)
    assert (before.said, before.journal.exists()) == ([], False)


@pytest.mark.parametrize("summary", [OVER, NOTHING_DONE, NO_RUN])
def test_complete_or_empty_run_is_discarded(before: Before, summary: RunSummary) -> None:
    before.found(summary)
    resume.check_resume(before.settings(), before.said.append)
    assert (before.said, before.journal.exists()) == ([], False)


Begin = Callable[[Settings, resume.PrintMessage], object]


@pytest.mark.parametrize("begin", [resume.check_resume, resume.announce_resume])
def test_restart_keeps_a_file_that_is_not_a_journal(before: Before, begin: Begin) -> None:
    before.journal.write_text("precious, whatever it is")
    with pytest.raises(UsageError, match=r"out\.journal is not a journal, so it is kept"):
        begin(before.settings(restart=True), before.said.append)
    assert before.journal.read_text() == "precious, whatever it is"


@pytest.mark.parametrize("begin", [resume.check_resume, resume.announce_resume])
@pytest.mark.parametrize(
    "content",
    [
        journal_reader.JOURNAL_MAGIC[:5],
        journal_reader.JOURNAL_MAGIC[:-1] + b"\xff",
        journal_reader.JOURNAL_MAGIC + b"x" * 99,
    ],
)
def test_restart_discards_a_damaged_journal(before: Before, begin: Begin, content: bytes) -> None:
    before.journal.write_bytes(content)
    begin(before.settings(restart=True), before.said.append)
    assert (before.said, before.journal.exists()) == ([], False)


def test_without_journal_nothing_is_read(before: Before, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(journal_reader, "read_summary")
    resume.check_resume(Settings(), before.said.append)
    resume.announce_resume(Settings(), before.said.append)
    assert before.said == []


def test_resume_without_possible_journal_is_an_error(before: Before) -> None:
    with pytest.raises(UsageError, match="/dev/null cannot have a journal beside it"):
        resume.check_resume(Settings(output="/dev/null", resume=True), before.said.append)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"no_spool": True}, "--no-spool discards stdin"),
        ({"files": ("fifo",)}, "its input can be read only once"),
    ],
)
def test_input_that_cannot_be_reread_is_a_warning(
    before: Before, monkeypatch: pytest.MonkeyPatch, more: dict[str, object], reason: str
) -> None:
    monkeypatch.chdir(before.out.parent)
    os.mkfifo("fifo")
    with open(os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)) as fifo:
        stdin = os.dup(0)
        os.dup2(fifo.fileno(), 0)
        try:
            resume.check_resume(Settings(output="out", **more), before.said.append)  # type: ignore[arg-type]
        finally:
            os.dup2(stdin, 0)
            os.close(stdin)
    assert before.said == [f"warning: this run cannot be resumed: {reason}"]


# --- a sink of the three commands -------------------------------------------------------------------


@pytest.mark.parametrize(("summary", "done"), [(HALF, "83% done"), (STREAM, "8,300 tasks done")])
def test_sink_resumes_and_reports_it(before: Before, summary: RunSummary, done: str) -> None:
    before.found(summary)
    resume.announce_resume(before.settings(), before.said.append)
    assert before.said == [f"resuming the unfinished run (started 2 Nov 14:02, {done})"]
    assert before.journal.exists()


@pytest.mark.parametrize("summary", [None, OVER, NO_RUN])
def test_sink_without_unfinished_run_reports_nothing(before: Before, summary: RunSummary | None) -> None:
    before.found(summary)
    resume.announce_resume(before.settings(), before.said.append)
    assert before.said == []


def test_sink_with_restart_discards_the_journal(before: Before) -> None:
    before.found(HALF)
    resume.announce_resume(before.settings(restart=True), before.said.append)
    assert (before.said, before.journal.exists()) == ([], False)


@pytest.mark.parametrize(("summary", "told"), [(HALF, True), (OVER, False), (NO_RUN, False), (None, False)])
def test_interrupted_run_gets_a_hint(before: Before, summary: RunSummary | None, *, told: bool) -> None:
    before.found(summary)
    resume.suggest_resume(before.settings(), before.said.append)
    assert before.said == (["hint: run the same command with --resume to continue"] if told else [])
