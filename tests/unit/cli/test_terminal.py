from __future__ import annotations

import io
import os
import re
import sys
import time

import pytest

from pipeline.cli.terminal import BLACK, ERASE, RED, UserConsole
from pipeline.config.settings import Settings
from pipeline.model.errors import SAME_INPUT_HINT
from pipeline.model.events import StationStopped, StatusReport, Waiting, WorkerLost
from pipeline.model.messages import RunningTask, RunStatus, StopRequest, WorkerActivity
from pipeline.model.structs import replace

BAR = "[###############...............]  50% 50 of 100 done"
STATUS = RunStatus("ab12", "feeding", 50, 0, 100, -1, (), ())


class FakeStream(io.TextIOWrapper):
    """A stream that may be a terminal; its value is what was flushed."""

    def __init__(self, *, terminal: bool) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding="utf-8")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def getvalue(self) -> str:
        return self._bytes.getvalue().decode(errors="replace")


def make_console(
    monkeypatch: pytest.MonkeyPatch, *, stderr: bool, stdout: bool, settings: Settings
) -> tuple[UserConsole, FakeStream]:
    """A console, and what it writes to; the flags say which streams are terminals."""
    stream = FakeStream(terminal=stderr)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", FakeStream(terminal=stdout))
    return UserConsole(settings, started_at=0.0), stream


def test_wait_says_where_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp")
    console, stream = make_console(monkeypatch, stderr=False, stdout=False, settings=Settings(name="x"))
    console.notify(Waiting("sink"))
    assert stream.getvalue() == "pipe: no sink connected; start one with `pipe sink --name x`; looking in /tmp/pipe/x\n"
    remote = Settings(at="tcp://10.0.0.5", insecure=True)
    console, stream = make_console(monkeypatch, stderr=False, stdout=False, settings=remote)
    console.notify(Waiting("sink"))
    assert "looking" not in stream.getvalue()


def test_bar_is_erased_before_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=True, stdout=False, settings=Settings())
    console.notify(STATUS)
    console.has_launcher = True
    console.notify(Waiting("worker"))
    drawn = f"{ERASE}{BAR}"
    message = f"{ERASE}pipe: no worker connected\n"
    assert stream.getvalue() == drawn + message


def test_hint_of_a_reason_is_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=False, stdout=False, settings=Settings())
    console.notify(StationStopped("sink", f"another input{SAME_INPUT_HINT}"))
    error, hint = stream.getvalue().splitlines()
    assert error == "pipe: error: sink stopped: another input"
    assert hint == "pipe: hint: use the same input, or discard the run with --restart"


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
def test_bar_is_drawn_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, *, stderr: bool, stdout: bool, settings: Settings, drawn: bool
) -> None:
    console, stream = make_console(monkeypatch, stderr=stderr, stdout=stdout, settings=settings)
    console.notify(STATUS)
    assert ("50 of 100 done" in stream.getvalue()) is drawn


def test_task_stderr_replaces_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=True, stdout=False, settings=Settings())
    console.notify(STATUS)
    assert console.stderr_writer
    console.stderr_writer(b"oh\n\xff\n")
    assert stream.getvalue() == f"{ERASE}{BAR}{ERASE}oh\n\ufffd\n{ERASE}{BAR}"


@pytest.mark.parametrize(("stderr", "settings"), [(False, Settings()), (True, Settings(quiet=True))])
def test_without_bar_task_stderr_goes_directly(
    monkeypatch: pytest.MonkeyPatch, *, stderr: bool, settings: Settings
) -> None:
    console, _ = make_console(monkeypatch, stderr=stderr, stdout=False, settings=settings)
    assert console.stderr_writer is None


def test_summary_is_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=False, stdout=False, settings=Settings())
    console.notify(STATUS)
    console.finish()
    assert stream.getvalue().startswith("pipe: 50 of 100 tasks, 0 failed, ")
    assert stream.getvalue().endswith(" tasks/s\n")


@pytest.mark.parametrize(
    ("settings", "status"),
    [(Settings(quiet=True), STATUS), (Settings(), RunStatus("", "feeding", 0, 0, -1, -1, (), ()))],
)
def test_no_summary_if_quiet_or_nothing_ran(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, status: RunStatus
) -> None:
    console, stream = make_console(monkeypatch, stderr=False, stdout=False, settings=settings)
    console.notify(status)
    console.finish()
    console.print_message("still here")
    assert stream.getvalue() == "pipe: still here\n"


def test_full_stderr_does_not_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115 -- it can't be closed: it is full
    monkeypatch.setattr(sys, "stderr", full)
    console = UserConsole(Settings(), started_at=0.0)
    console.notify(STATUS)
    console.print_message("a sentence")
    console.finish()
    with pytest.raises(OSError, match="No space"):
        full.close()


def test_launched_run_names_no_command_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=False, stdout=False, settings=Settings(name="run-7"))
    console.has_launcher = True
    console.notify(Waiting("worker"))
    assert stream.getvalue() == "pipe: no worker connected\n"


def test_bar_without_terminal_prints_progress_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=False, stdout=False, settings=Settings(bar=True))
    console.notify(STATUS)  # the console started long ago
    console.notify(STATUS)
    assert stream.getvalue() == "pipe: 50 of 100 done\n"


def test_results_on_the_terminal_replace_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=True, stdout=True, settings=Settings())
    display = console.display
    assert display
    display.hide()
    display.show(whole=True)
    assert stream.getvalue() == ""  # there was no bar yet
    console.notify(STATUS)
    display.hide()
    display.show(whole=False)  # an unfinished line: the bar would stand beside it
    console.notify(STATUS)
    display.hide()
    display.show(whole=True)
    assert stream.getvalue() == f"{ERASE}{BAR}{ERASE}{ERASE}{BAR}"


@pytest.mark.parametrize(("stdout", "settings"), [(False, Settings()), (True, Settings(output="x"))])
def test_display_is_none_if_results_go_elsewhere(
    monkeypatch: pytest.MonkeyPatch, *, stdout: bool, settings: Settings
) -> None:
    console, _ = make_console(monkeypatch, stderr=True, stdout=stdout, settings=settings)
    assert console.display is None


def test_status_report_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=False, stdout=False, settings=Settings())
    console.notify(StatusReport(STATUS))
    console.notify(StatusReport(WorkerActivity("w", 0.0, 0, (RunningTask(0, 1, 1.0, "x"),))))
    assert stream.getvalue().splitlines() == [
        "pipe: run ab12, reading tasks: 50 of 100 done",
        "pipe: worker w: 0.0 CPUs, 0 MB, 1 task running",
        "pipe:   task 1, 1.0 s: x",
    ]


def test_very_verbose_prints_the_status_regularly(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=False, stdout=False, settings=Settings(verbose=2))
    console.notify(STATUS)
    console.notify(STATUS)
    message = stream.getvalue().splitlines()
    assert message[0] == "pipe: run ab12, reading tasks: 50 of 100 done"


def test_very_verbose_prints_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=False, stdout=False, settings=Settings(verbose=2))
    console.notify(replace(STATUS, failed_count=2))
    assert re.match(r"pipe: \d\d:\d\d:\d\d 2 tasks failed \(2 in total\)\n", stream.getvalue())


def test_quiet_shows_only_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=False, stdout=False, settings=Settings(quiet=True))
    for word in (Waiting("worker"), Waiting("worker", active=False), StopRequest("soon", "x"), WorkerLost("ann", 1)):
        console.notify(word)
    assert stream.getvalue() == "pipe: warning: lost worker ann (no heartbeat for 10 s); requeued 1 task\n"


def test_message_keeps_an_unfinished_result(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=True, stdout=True, settings=Settings())
    assert console.display
    console.display.show(whole=False)
    console.print_message("a sentence")
    console.print_message("another")
    assert stream.getvalue() == f"\npipe: a sentence\n{ERASE}pipe: another\n"


def test_message_keeps_an_unfinished_result_of_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=True, stdout=True, settings=Settings())
    pid = os.fork()
    if pid == 0:
        assert console.display
        console.display.show(whole=False)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    console.print_message("a sentence")
    assert stream.getvalue() == "\npipe: a sentence\n"


def test_bar_is_drawn_at_most_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = make_console(monkeypatch, stderr=True, stdout=False, settings=Settings())
    began = time.monotonic()
    for _ in range(1000):
        console.notify(STATUS)
    assert stream.getvalue().count(BAR) <= 10 * (1 + int(time.monotonic() - began))


@pytest.mark.parametrize(("color", "painted"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_failures_are_red_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, color: dict[str, str], *, painted: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in color.items():
        monkeypatch.setenv(name, value)
    console, stream = make_console(monkeypatch, stderr=True, stdout=False, settings=Settings())
    console.notify(replace(STATUS, failed_count=3))
    assert (f"{RED}3 failed{BLACK}" in stream.getvalue()) is painted
    assert "3 failed" in stream.getvalue()


def test_dumb_terminal_gets_no_bar_and_no_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console, stream = make_console(monkeypatch, stderr=True, stdout=True, settings=Settings())
    console.notify(STATUS)
    console.print_message("a sentence")
    assert stream.getvalue() == "pipe: a sentence\n"
