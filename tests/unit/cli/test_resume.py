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


@pytest.mark.parametrize(("summary", "done"), [(HALF, "83 % done"), (STREAM, "8,300 tasks done")])
def test_an_unfinished_run_is_told_with_the_two_ways_on(before: Before, summary: RunSummary, done: str) -> None:
    before.found(summary)
    with pytest.raises(UsageError) as told:
        resume.check_resume(before.settings(), before.said.append)
    way = "go on with --resume, or begin anew with --restart"
    assert str(told.value) == f"an unfinished run of 2 Nov 14:02, {done}, is in {before.journal}; {way}"
    assert before.journal.exists()


def test_a_run_of_another_year_says_so() -> None:
    old = RunSummary("ab12", time.mktime((YEAR - 1, 11, 12, 4, 2, 0, 0, 0, -1)), 1, 0, 3, is_suspended=False)
    assert resume.describe_run(old) == f"unfinished run of 12 Nov {YEAR - 1} 04:02, 33 % done"


def test_what_stdin_said_is_not_thrown_away_though_no_task_was_done(before: Before) -> None:
    before.found(NOTHING_DONE)
    os.mkdir(f"{before.out}.spool")
    with pytest.raises(UsageError, match=r"0 tasks done, is in .*; go on with --resume"):
        resume.check_resume(before.settings(), before.said.append)
    assert before.journal.exists()


def test_what_waits_for_its_turn_has_still_to_be_written(before: Before) -> None:
    before.found(replace(OVER, spilled=1))
    with pytest.raises(UsageError, match=r"100 % done, is in .*; go on with --resume"):
        resume.check_resume(before.settings(), before.said.append)
    assert resume.check_resume(before.settings(resume=True), before.said.append)


def test_who_resumes_what_is_over_has_nothing_to_do_but_what_failed(before: Before) -> None:
    before.found(OVER)
    assert not resume.check_resume(before.settings(resume=True), before.said.append)
    assert before.said == [f"all 10,000 tasks of the run in {before.journal} were done before"]
    assert resume.check_resume(before.settings(resume_failed=True), before.said.append)
    before.found(replace(OVER, failed=0))
    assert not resume.check_resume(before.settings(resume_failed=True), before.said.append)
    assert before.journal.exists()


@pytest.mark.parametrize("flag", ["resume", "resume_failed"])
def test_who_resumes_goes_on_and_is_told_with_what(before: Before, flag: str) -> None:
    before.found(HALF)
    resume.check_resume(before.settings(**{flag: True}), before.said.append)
    assert before.said == ["going on with the unfinished run of 2 Nov 14:02, 83 % done"]
    assert before.journal.exists()


def test_who_resumes_what_is_not_there_begins(before: Before) -> None:
    resume.check_resume(before.settings(resume=True), before.said.append)
    assert before.said == [f"there is nothing to resume in {before.journal}: a run begins"]


def test_who_resumes_what_is_over_and_gone_keeps_the_output(before: Before) -> None:
    before.out.write_text("results")
    with pytest.raises(UsageError, match="so its run is over; begin anew with --restart"):
        resume.check_resume(before.settings(resume=True), before.said.append)
    resume.check_resume(before.settings(restart=True), before.said.append)
    assert before.said == []


@pytest.mark.parametrize("summary", [HALF, STREAM, OVER, NOTHING_DONE])
def test_who_restarts_begins_anew(before: Before, summary: RunSummary) -> None:
    before.found(summary)
    resume.check_resume(before.settings(restart=True), before.said.append)
    assert (before.said, before.journal.exists()) == ([], False)


@pytest.mark.parametrize("summary", [OVER, NOTHING_DONE, NO_RUN])
def test_a_run_that_is_over_or_got_nowhere_is_not_in_the_way(before: Before, summary: RunSummary) -> None:
    before.found(summary)
    resume.check_resume(before.settings(), before.said.append)
    assert (before.said, before.journal.exists()) == ([], False)


Begin = Callable[[Settings, resume.PrintMessage], object]


@pytest.mark.parametrize("begin", [resume.check_resume, resume.announce_resume])
def test_what_is_no_journal_is_never_removed(before: Before, begin: Begin) -> None:
    before.journal.write_text("precious, whatever it is")
    with pytest.raises(UsageError, match=r"out\.journal is no journal: it is left alone"):
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
def test_a_journal_that_cannot_be_read_can_still_be_forgotten(before: Before, begin: Begin, content: bytes) -> None:
    before.journal.write_bytes(content)
    begin(before.settings(restart=True), before.said.append)
    assert (before.said, before.journal.exists()) == ([], False)


def test_without_a_journal_nobody_asks_for_one(before: Before, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(journal_reader, "read_summary")
    resume.check_resume(Settings(), before.said.append)
    resume.announce_resume(Settings(), before.said.append)
    assert before.said == []


def test_where_no_journal_can_be_resuming_names_the_way_out(before: Before) -> None:
    with pytest.raises(UsageError, match="/dev/null can have no journal beside it: give --journal FILE"):
        resume.check_resume(Settings(output="/dev/null", resume=True), before.said.append)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"no_spool": True}, "with --no-spool, nothing is kept of what stdin says"),
        ({"files": ("fifo",)}, "its input can be read only once"),
    ],
)
def test_what_can_be_read_only_once_is_said_at_the_start(
    before: Before, monkeypatch: pytest.MonkeyPatch, more: dict[str, object], why: str
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
    assert before.said == [f"this run can't be resumed: {why}"]


# --- a sink of the three commands -------------------------------------------------------------------


@pytest.mark.parametrize(("summary", "done"), [(HALF, "83 % done"), (STREAM, "8,300 tasks done")])
def test_a_sink_just_goes_on_and_says_so(before: Before, summary: RunSummary, done: str) -> None:
    before.found(summary)
    resume.announce_resume(before.settings(), before.said.append)
    assert before.said == [f"going on with the unfinished run of 2 Nov 14:02, {done}"]
    assert before.journal.exists()


@pytest.mark.parametrize("summary", [None, OVER, NO_RUN])
def test_a_sink_that_finds_nothing_unfinished_says_nothing(before: Before, summary: RunSummary | None) -> None:
    before.found(summary)
    resume.announce_resume(before.settings(), before.said.append)
    assert before.said == []


def test_a_sink_that_restarts_begins_anew(before: Before) -> None:
    before.found(HALF)
    resume.announce_resume(before.settings(restart=True), before.said.append)
    assert (before.said, before.journal.exists()) == ([], False)


@pytest.mark.parametrize(("summary", "told"), [(HALF, True), (OVER, False), (NO_RUN, False), (None, False)])
def test_behind_a_run_that_was_ended_the_way_on_is_told(
    before: Before, summary: RunSummary | None, *, told: bool
) -> None:
    before.found(summary)
    resume.suggest_resume(before.settings(), before.said.append)
    assert before.said == (["the same command with --resume goes on with what is not done"] if told else [])
