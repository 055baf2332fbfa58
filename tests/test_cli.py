"""The door by its exit codes and by what a person reads, in processes of its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.cli.app import COMMANDS
from pipeline.settings import Settings

WITHIN = 60  # seconds; a process that takes longer hangs


def pipe(*words: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`pipe WORDS` in a process of its own."""
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        input=stdin, capture_output=True, text=True, check=False, timeout=WITHIN, cwd=cwd, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_each_option_is_offered_where_it_belongs(command: str) -> None:
    shown = [
        line.strip().split("  ")[0] for line in pipe(command, "--help").stdout.splitlines() if line.startswith("  -")
    ]
    offered = {word for line in shown for word in line.replace(",", " ").split() if word.startswith("-")}
    expected = {flag for each in fields(Settings) if command in each.metadata["on"] for flag in each.metadata["flags"]}
    assert offered == expected | {"-h", "--help"}


# --- what a person reads ------------------------------------------------------------------------------


def test_version() -> None:
    shown = pipe("--version")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"pipe {__version__}\n", "")


def test_pipe_alone_shows_how_to_begin_and_is_wrong_usage() -> None:
    shown = pipe()
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.count("  pipe run") + shown.stderr.count("| pipe run") == 3


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_teaches_by_example(command: str) -> None:
    shown = pipe(*command.split(), "--help")
    assert shown.returncode == 0
    assert f"Usage: pipe {command}".rstrip() in shown.stdout
    examples = shown.stdout.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) >= 2
    assert all(f"pipe {command}" in line for line in examples)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["rnu", "x"], "no such command 'rnu'"),
        (["--foo"], "no such option: --foo"),
        (["run"], "COMMAND is missing"),
        (["work"], "COMMAND is missing"),
        (["run", "--call", "builtins:len", "wc"], "COMMAND and --call exclude each other"),
        (["run", "--jbos", "3", "wc"], "no such option: --jbos"),
        (["run", "--jobs"], "option '--jobs' requires an argument"),
        (["run", "--jobs", "0", "wc"], "--jobs must be at least 1, not 0"),
        (["run", "--jobs", "many", "wc"], "--jobs: 'many' is not a whole number"),
        (["run", "--workers", "0", "wc"], "--workers must be at least 1, not 0"),
        (["run", "--chunk", "0", "wc"], "--chunk must be at least 1, not 0"),
        (["run", "--window", "huge", "wc"], "--window: 'huge' is not a size"),
        (["run", "-a", "x", "wc", ":::", "y"], "tasks come from files or from :::, not from both"),
        (["sink", "extra"], "too many words: extra"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(words: list[str], named: str) -> None:
    shown = pipe(*words)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith(f"pipe: {named}")
    assert len(shown.stderr.splitlines()) == 1


# --- the whole ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run", "-a", "missing.txt", "cat"], "no such file: missing.txt"),
        (["ventilate", "missing.txt"], "no such file: missing.txt"),
        (["run", "-o", "missing/out", "cat"], "cannot write missing/out: no such folder: missing"),
        (["run", "--at", "tcp://127.0.0.1", "cat", ":::", "x"], "--insecure"),
        (["sink", "--results-at", "tcp://127.0.0.1:5558"], "--insecure"),
        (["sink", "--at", "nonsense"], "nonsense"),
        (["work", "--desk", "ipx://nowhere", "cat"], "ipx://nowhere"),
        (["run", "no-such-command-anywhere", ":::", "x"], "no-such-command-anywhere"),
        (["run", "--call", "builtins:no_such_name", ":::", "x"], "no_such_name"),
        (["run", "--call", "no_such_module:f", ":::", "x"], "no_such_module"),
    ],
)
def test_what_cannot_be_is_told_by_name_and_ends_with_2(tmp_path: Path, words: list[str], named: str) -> None:
    shown = pipe(*words, cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert named in shown.stderr
    assert "this is a bug of pipe" not in shown.stderr


def test_a_run_writes_each_result_once_and_sums_up() -> None:
    shown = pipe("run", "echo got {}", stdin="".join(f"{n}\n" for n in range(20)))
    assert sorted(shown.stdout.splitlines()) == sorted(f"got {n}" for n in range(20))
    assert shown.returncode == 0
    assert shown.stderr.splitlines()[-1].startswith("pipe: 20 tasks, 0 failed, ")


def test_a_callable_over_arguments_in_order_to_a_file(tmp_path: Path) -> None:
    shown = pipe(
        "run", "-q", "-k", "-w", "2", "-o", "out", "--call", "builtins:len", ":::", "a", "", "ccc", cwd=tmp_path
    )
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "", "")
    assert (tmp_path / "out").read_text() == "1\n0\n3\n"


def test_failed_tasks_are_counted_and_end_with_1() -> None:
    shown = pipe("run", "exit {}", ":::", "0", "7", "0")
    assert shown.returncode == 1
    assert shown.stderr.splitlines()[-1].startswith("pipe: 3 tasks, 1 failed, ")


def test_no_input_is_a_run_of_no_tasks() -> None:
    shown = pipe("run", "cat")
    assert (shown.returncode, shown.stdout) == (0, "")
    assert shown.stderr.startswith("pipe: 0 tasks, 0 failed, ")


def test_verbose_names_each_process() -> None:
    shown = pipe("run", "-v", "-w", "2", "echo", ":::", "x")
    assert shown.returncode == 0
    for name in ("sink", "ventilator", "worker-1", "worker-2"):
        assert f"pipe: {name} " in shown.stderr


def ready(process: subprocess.Popen[str]) -> None:
    """Wait for the first line on stdout."""
    assert process.stdout
    assert select.select([process.stdout], [], [], WITHIN)[0]
    assert process.stdout.readline()


@pytest.fixture
def long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A run whose first task has spoken and whose second takes longer than any test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    words = ["run", "-j", "1", "echo {}; sleep {}", ":::", "0", "1000"]
    with subprocess.Popen([sys.executable, "-m", "pipeline", *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            ready(process)
            yield process
        finally:
            process.kill()  # what it started sees that, and ends


def test_top_shows_the_only_run(long_run: subprocess.Popen[str]) -> None:
    shown = pipe("top", "--once")
    assert shown.returncode == 0, shown.stderr
    assert "echo {}; sleep {}" in shown.stdout
    assert long_run.poll() is None


def test_kill_ends_the_only_run(long_run: subprocess.Popen[str]) -> None:
    shown = pipe("kill", "--now")
    assert shown.returncode == 0, shown.stderr
    assert long_run.wait(WITHIN) == 3


@pytest.mark.parametrize("command", ["top", "kill"])
def test_where_nothing_runs_it_is_told_and_ends_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    shown = pipe(command)
    assert (shown.returncode, shown.stdout) == (3, "")
    assert "nothing runs there" in shown.stderr


def test_what_stations_would_say_of_a_place_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nowhere"))
    shown = pipe("run", "echo", ":::", "x")
    assert shown.returncode == 2
    assert shown.stderr.count("cannot make the folder") == 1


def test_a_killed_sink_leaves_nothing_and_nobody_is_asked_to_start_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    words = [sys.executable, "-m", "pipeline", "run", "-v", "echo {}; sleep {}", ":::", "1000"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        told = [process.stderr.readline()]
        while " has a context" not in told[-1] or "sink" not in told[-1]:
            told.append(process.stderr.readline())
        os.kill(int(told[-1].split()[2]), signal.SIGKILL)
        told += process.stderr.readlines()
        assert process.wait(WITHIN) == 3
    assert "pipe: sink was killed by SIGKILL\n" in told
    assert "start one" not in "".join(told)
    assert list((tmp_path / "pipe").iterdir()) == []
