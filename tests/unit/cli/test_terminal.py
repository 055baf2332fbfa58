from __future__ import annotations

import io
import os
import re
import sys
import time

import pytest

from pipeline.cli.terminal import BLACK, ERASE, RED, UserConsole
from pipeline.config.settings import Settings
from pipeline.model.events import StatusReport, Waiting, WorkerLost
from pipeline.model.messages import RunningTask, RunStatus, StopRequest, WorkerActivity
from pipeline.model.structs import replace

BAR = "[###############...............]  50% 50 of 100 done"
STATUS = RunStatus("ab12", "feeding", 50, 0, 100, -1, (), ())


class Paper(io.TextIOWrapper):
    """A stream that says whether it is a terminal; what is on it is what was flushed."""

    def __init__(self, *, terminal: bool) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding="utf-8")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def getvalue(self) -> str:
        return self._bytes.getvalue().decode(errors="replace")


def seen(
    monkeypatch: pytest.MonkeyPatch, *, stderr: bool, stdout: bool, settings: Settings
) -> tuple[UserConsole, Paper]:
    """A screen, and what it writes to; the flags say which streams are terminals."""
    paper = Paper(terminal=stderr)
    monkeypatch.setattr(sys, "stderr", paper)
    monkeypatch.setattr(sys, "stdout", Paper(terminal=stdout))
    return UserConsole(settings, started_at=0.0), paper


def test_on_a_terminal_the_line_is_drawn_and_gone_before_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=True, stdout=False, settings=Settings())
    screen.notify(STATUS)
    screen.notify(Waiting("worker"))
    drawn = f"{ERASE}{BAR}"
    said = f"{ERASE}pipe: no worker has checked in; start one with `pipe work COMMAND`\n"
    assert paper.getvalue() == drawn + said


@pytest.mark.parametrize(
    ("stderr", "stdout", "settings", "drawn"),
    [
        (True, False, Settings(), True),
        (True, True, Settings(), True),
        (True, True, Settings(bar=False), False),
        (True, False, Settings(quiet=True, bar=True), False),
        (True, True, Settings(output="x"), True),
        (False, False, Settings(), False),
        (True, False, Settings(quiet=True), False),
    ],
)
def test_a_bar_is_for_a_terminal_unless_nobody_wants_it(
    monkeypatch: pytest.MonkeyPatch, *, stderr: bool, stdout: bool, settings: Settings, drawn: bool
) -> None:
    screen, paper = seen(monkeypatch, stderr=stderr, stdout=stdout, settings=settings)
    screen.notify(STATUS)
    assert ("50 of 100 done" in paper.getvalue()) is drawn


def test_while_a_line_is_drawn_what_tasks_complain_of_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=True, stdout=False, settings=Settings())
    screen.notify(STATUS)
    assert screen.stderr_writer
    screen.stderr_writer(b"oh\n\xff\n")
    assert paper.getvalue() == f"{ERASE}{BAR}{ERASE}oh\n\ufffd\n{ERASE}{BAR}"


@pytest.mark.parametrize(("stderr", "settings"), [(False, Settings()), (True, Settings(quiet=True))])
def test_where_no_line_is_drawn_complaints_need_no_screen(
    monkeypatch: pytest.MonkeyPatch, *, stderr: bool, settings: Settings
) -> None:
    screen, _ = seen(monkeypatch, stderr=stderr, stdout=False, settings=settings)
    assert screen.stderr_writer is None


def test_the_summary_is_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=False, stdout=False, settings=Settings())
    screen.notify(STATUS)
    screen.finish()
    assert paper.getvalue().startswith("pipe: 50 of 100 tasks, 0 failed, ")
    assert paper.getvalue().endswith(" tasks/s\n")


@pytest.mark.parametrize(
    ("settings", "status"),
    [(Settings(quiet=True), STATUS), (Settings(), RunStatus("", "feeding", 0, 0, -1, -1, (), ()))],
)
def test_there_is_no_summary_when_quiet_or_when_nothing_ran(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, status: RunStatus
) -> None:
    screen, paper = seen(monkeypatch, stderr=False, stdout=False, settings=settings)
    screen.notify(status)
    screen.finish()
    screen.print_message("still here")
    assert paper.getvalue() == "pipe: still here\n"


def test_without_a_stderr_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115 -- it can't be closed: it is full
    monkeypatch.setattr(sys, "stderr", full)
    screen = UserConsole(Settings(), started_at=0.0)
    screen.notify(STATUS)
    screen.print_message("a sentence")
    screen.finish()
    with pytest.raises(OSError, match="No space"):
        full.close()


def test_in_a_launched_run_nobody_is_asked_to_start_a_station(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=False, stdout=False, settings=Settings(name="run-7"))
    screen.has_launcher = True
    screen.notify(Waiting("worker"))
    assert paper.getvalue() == "pipe: no worker has checked in\n"


def test_with_bar_progress_is_told_in_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=False, stdout=False, settings=Settings(bar=True))
    screen.notify(STATUS)  # it was started long ago
    screen.notify(STATUS)
    assert paper.getvalue() == "pipe: 50 of 100 done\n"


def test_results_on_the_same_terminal_take_the_bars_place(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=True, stdout=True, settings=Settings())
    curtain = screen.display
    assert curtain
    curtain.hide()
    curtain.show(whole=True)
    assert paper.getvalue() == ""  # there was no bar yet
    screen.notify(STATUS)
    curtain.hide()
    curtain.show(whole=False)  # a line without an end: the bar would stand behind it
    screen.notify(STATUS)
    curtain.hide()
    curtain.show(whole=True)
    assert paper.getvalue() == f"{ERASE}{BAR}{ERASE}{ERASE}{BAR}"


@pytest.mark.parametrize(("stdout", "settings"), [(False, Settings()), (True, Settings(output="x"))])
def test_where_results_go_elsewhere_there_is_no_curtain(
    monkeypatch: pytest.MonkeyPatch, *, stdout: bool, settings: Settings
) -> None:
    screen, _ = seen(monkeypatch, stderr=True, stdout=stdout, settings=settings)
    assert screen.display is None


def test_who_asks_is_shown_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=False, stdout=False, settings=Settings())
    screen.notify(StatusReport(STATUS))
    screen.notify(StatusReport(WorkerActivity("w", 0.0, 0, (RunningTask(0, 1, 1.0, "x"),))))
    assert paper.getvalue().splitlines() == [
        "pipe: run ab12, reading tasks: 50 of 100 done",
        "pipe: worker w: 0.0 CPUs, 0 MB, 1 task running",
        "pipe:   task 1, 1.0 s: x",
    ]


def test_at_night_the_overview_comes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=False, stdout=False, settings=Settings(verbose=2))
    screen.notify(STATUS)
    screen.notify(STATUS)
    said = paper.getvalue().splitlines()
    assert said[0] == "pipe: run ab12, reading tasks: 50 of 100 done"


def test_at_night_what_happens_is_told_when_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=False, stdout=False, settings=Settings(verbose=2))
    screen.notify(replace(STATUS, failed_count=2))
    assert re.match(r"pipe: \d\d:\d\d:\d\d 2 tasks failed, 2 in all\n", paper.getvalue())


def test_who_wants_quiet_is_told_only_what_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=False, stdout=False, settings=Settings(quiet=True))
    for word in (Waiting("worker"), Waiting("worker", active=False), StopRequest("soon", "x"), WorkerLost("ann", 1)):
        screen.notify(word)
    assert paper.getvalue() == "pipe: worker ann fell silent; 1 task of its own goes out again\n"


def test_what_a_result_has_begun_is_not_wiped_out_by_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=True, stdout=True, settings=Settings())
    assert screen.display
    screen.display.show(whole=False)
    screen.print_message("a sentence")
    screen.print_message("another")
    assert paper.getvalue() == f"\npipe: a sentence\n{ERASE}pipe: another\n"


def test_it_is_not_wiped_out_by_another_process_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=True, stdout=True, settings=Settings())
    pid = os.fork()
    if pid == 0:
        assert screen.display
        screen.display.show(whole=False)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    screen.print_message("a sentence")
    assert paper.getvalue() == "\npipe: a sentence\n"


def test_a_bar_is_drawn_ten_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, paper = seen(monkeypatch, stderr=True, stdout=False, settings=Settings())
    began = time.monotonic()
    for _ in range(1000):
        screen.notify(STATUS)
    assert paper.getvalue().count(BAR) <= 10 * (1 + int(time.monotonic() - began))


@pytest.mark.parametrize(("color", "painted"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_failures_are_red_unless_nobody_wants_colors(
    monkeypatch: pytest.MonkeyPatch, color: dict[str, str], *, painted: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in color.items():
        monkeypatch.setenv(name, value)
    screen, paper = seen(monkeypatch, stderr=True, stdout=False, settings=Settings())
    screen.notify(replace(STATUS, failed_count=3))
    assert (f"{RED}3 failed{BLACK}" in paper.getvalue()) is painted
    assert "3 failed" in paper.getvalue()


def test_a_dumb_terminal_gets_no_bar_and_no_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen, paper = seen(monkeypatch, stderr=True, stdout=True, settings=Settings())
    screen.notify(STATUS)
    screen.print_message("a sentence")
    assert paper.getvalue() == "pipe: a sentence\n"
