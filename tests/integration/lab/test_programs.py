"""`pipe lab`: the list of programs, and the behaviour that all programs share."""

from __future__ import annotations

import ast
import signal
import socket
import subprocess
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from time import sleep

import pytest
from psutil import Process

from pipeline.cli.lab import build_command
from pipeline.lab import PROGRAMS
from tests.support.lab_programs import becomes_true, free_ports, is_session_empty, run_lab, start_program, wait_for_end
from tests.support.processes import ROOT

LINE = 95
AGAIN = 2.0
"""Seconds until the second Ctrl-C: Python may miss a signal that arrives right before it waits."""


def test_lab_without_arguments_lists_the_programs() -> None:
    code, printed = run_lab()
    assert code == 0
    lines = printed.splitlines()
    for name in PROGRAMS:
        program = import_module(f"pipeline.lab.{name}")
        at = next(number for number, line in enumerate(lines) if line.split()[:1] == [name])
        assert program.TITLE in lines[at]
        assert lines[at + 1].strip() == program.LEARN


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_title_is_one_short_line(name: str) -> None:
    program = import_module(f"pipeline.lab.{name}")
    for text in (program.TITLE, program.LEARN):
        assert len(text) <= LINE
        assert not text.endswith(".")
        assert "\n" not in text


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_help_shows_page_and_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = import_module(f"pipeline.lab.{name}")
    assert build_command(program)(["--help"], prog_name=name, standalone_mode=False) == 0
    shown = capsys.readouterr().out
    main = next(
        node
        for node in ast.parse((ROOT / "pipeline" / "lab" / f"{name}.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    )
    for option in main.args.kwonlyargs:
        assert f"--{option.arg.replace('_', '-')}" in shown
    for drawn in [line for line in (program.__doc__ or "").splitlines() if line.startswith("    ")]:
        assert drawn.strip() in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody"], "hint: choose one of ventilator, "),
        (["sink", "--tasks", "many"], "see `pipe lab sink --help`"),
        (["ask"], "see `pipe lab ask --help`"),
        (["relay", "--steps", "0"], "invalid value for '--steps'"),
        (["relay", "--steps", "9" * 30], "invalid value for '--steps'"),
        (["signal", "pushpull", "--sleep", "nan"], "invalid value for '--sleep'"),
        (["worker", "--patience", "-1"], "should be greater than or equal to 0"),
        (["serve", "--port", "99999"], "should be less than or equal to 65535"),
        (["batch", "--workers", "4", "--tasks", "30", "--kill"], "--kill with 4 workers needs at least 40 tasks"),
        (["signal", "all", "x"], "no such pattern: x"),
        (["signal", "push"], "no such pattern: push; use one of pair, pubsub, "),
        (["signal", "all", "--threads", "501"], "should be less than or equal to 500"),
        (["hwm", "10"], "see `pipe lab hwm --help`"),
        (["relay", "--transport", "tcp"], "use inproc or ipc"),
    ],
)
def test_invalid_option_is_a_usage_error(words: list[str], message: str) -> None:
    code, printed = run_lab(*words)
    assert code == 2
    assert message in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("name", "option"), [("ventilator", "--port"), ("sink", "--control-port"), ("serve", "--port")]
)
def test_used_port_is_reported(name: str, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, printed = run_lab(
            name, option, port, *(["--port", free_ports(1)[0]] if option == "--control-port" else [])
        )
    assert code == 3
    assert f"pipe: error: pipe lab {name}: Address already in use" in printed
    assert str(port) in printed


LONG = {
    "ventilator": "ventilator --port {0}",
    "worker": "worker --port {0} --sink-port {1} --control-port {2}",
    "sink": "sink --port {0} --control-port {1}",
    "batch": "batch --kill",
    "contexts": "contexts",
    "relay over ipc": "relay --transport ipc --steps 400",
    "relay over inproc": "relay --steps 400",
    "serve by threads": "serve --port {0}",
    "serve by processes": "serve --port {0} --processes 2",
    "serve --secure": "serve --port {0} --secure",
    "ask": "ask x --port {0}",
    "signal that hangs": "signal pair --threads 3",
    "signal": "signal pushpull --threads 3 --sleep 1 --poll",
    "weather": "weather --updates 100000000",
    "sync": "sync --updates 100000000",
    "envelope": "envelope --messages 100000000",
    "hwm": "hwm",
    "hwm --frozen": "hwm --frozen",
    "poll": "poll --every 1000",
    "soak": "soak",
}
"""Command lines that run for a long time."""
TERMINATED = ["sink", "batch", "contexts", "relay over ipc", "serve by processes", "serve --secure", "weather", "hwm"]
"""A program without and those with processes of their own: SIGTERM ends all as Ctrl-C does."""


def is_under_way(pid: int) -> bool:
    """Return whether the program has started: its context has threads, or it has children."""
    process = Process(pid)
    return process.num_threads() > 1 or bool(process.children())


@pytest.mark.parametrize(
    ("name", "by", "code"),
    [*((name, signal.SIGINT, 130) for name in LONG), *((name, signal.SIGTERM, 143) for name in TERMINATED)],
)
def test_signal_ends_a_program_without_leftovers(name: str, by: signal.Signals, code: int, tmp_path: Path) -> None:
    with start_program(*LONG[name].format(*free_ports(3)).split(), folder=tmp_path) as program:
        assert becomes_true(lambda: is_under_way(program.pid))
        program.send_signal(by)
        with suppress(subprocess.TimeoutExpired):
            program.wait(AGAIN)
        program.send_signal(by)
        got, printed = wait_for_end(program)
        assert becomes_true(lambda: is_session_empty(program.pid))
    assert (got, "Traceback" in printed) == (code, False), printed
    assert not list(tmp_path.iterdir())


def test_frozen_worker_does_not_block_a_stopped_batch(tmp_path: Path) -> None:
    with start_program("batch", "--workers", 2, "--tasks", 500, folder=tmp_path) as program:
        assert becomes_true(lambda: len(Process(program.pid).children()) == 4)
        still = Process(program.pid).children()[1]
        still.suspend()
        program.send_signal(signal.SIGTERM)
        assert wait_for_end(program)[0] == 143
        assert becomes_true(lambda: is_session_empty(program.pid))


@pytest.mark.parametrize("line", ["serve --port {0} --secure", "soak", "signal pushpull --threads 3 --sleep 30"])
def test_repeated_interrupts_leave_nothing(line: str, tmp_path: Path) -> None:
    with start_program(*line.format(*free_ports(1)).split(), folder=tmp_path) as program:
        assert becomes_true(lambda: is_under_way(program.pid))
        with suppress(ProcessLookupError):
            while program.poll() is None:
                program.send_signal(signal.SIGINT)
                program.send_signal(signal.SIGTERM)
                sleep(0.01)
        code, printed = wait_for_end(program)
        assert becomes_true(lambda: is_session_empty(program.pid))
    assert code in {130, 143}
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_long_folder_name_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    with start_program("poll", folder=folder) as program:
        code, printed = wait_for_end(program)
    assert code == 3
    assert "set TMPDIR to a directory with a short name" in printed
