"""The command line in separate processes: exit codes and output."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.__main__ import _run
from pipeline.cli.app import COMMANDS
from pipeline.cli.exit_codes import run_guarded
from pipeline.config.settings import OPTIONS
from pipeline.model.events import JournalEntry
from pipeline.model.journal_events import RunStarted, TasksSettled
from pipeline.model.state_machine import Port
from pipeline.runtime.supervisor import NO_RESTART_REASONS
from pipeline.storage.journal import Journal
from tests.integration.cluster import Cluster, PipeProcess
from tests.support.processes import ROOT, wait_until

WITHIN = 60  # seconds; a process that takes longer hangs
Here = Callable[..., tuple[int, str, str]]


def pipe(*words: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `pipe WORDS` in a separate process."""
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        input=stdin, capture_output=True, text=True, check=False, timeout=WITHIN, cwd=cwd, env=environment,
    )  # fmt: skip


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """Run `pipe WORDS` in this process, as no station is needed. Return exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "100")
    return lambda *words: (run_guarded(lambda: _run([*words], 0.0)), *capfd.readouterr())


def listed_options(text: str) -> set[str]:
    """The options that a help text lists."""
    left = [line.strip().split("  ")[0] for line in text.splitlines() if line.startswith("  -")]
    return {word for part in left for word in re.split("[ ,/]+", part) if word.startswith("-")}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_each_option_with_its_command(here: Here, command: str) -> None:
    short, full = (listed_options(here(command, flag)[1]) for flag in ("--help", "--help-all"))
    on = [each for each in OPTIONS if command in each.on]
    expected = {flag for each in on for flags in each.flags for flag in flags.split("/")}
    assert (short | full) - {"--help-all"} == expected | {"-h", "--help"}
    assert ("--help-all" in short) == (not full <= short)


# --- what a person reads ------------------------------------------------------------------------------


def test_version_option_prints_the_version() -> None:
    shown = pipe("--version")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"pipe {__version__}\n", "")


def test_pipe_without_arguments_shows_usage_and_exits_with_2() -> None:
    shown = pipe()
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.count("  pipe run") + shown.stderr.count("| pipe run") == 3


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_examples(here: Here, command: str) -> None:
    code, shown, _ = here(*command.split(), "--help")
    assert code == 0
    assert f"Usage: pipe {command}".rstrip() in shown
    examples = shown.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) >= 2
    assert all(f"pipe {command}" in line for line in examples)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["rnu", "x"], "no such command: rnu"),
        (["--foo"], "no such option: --foo"),
        (["run", "--call", "builtins:len", "wc"], "COMMAND and --call exclude each other"),
        (["run", "--jbos", "3", "wc"], "no such option: --jbos"),
        (["run", "--jobs"], "option '--jobs' requires an argument"),
        (["run", "--jobs", "0", "wc"], "--jobs must be at least 1, not 0"),
        (["run", "--jobs", "many", "wc"], "--jobs: 'many' is not a whole number"),
        (["run", "-j200%", "wc"], "--jobs: '200%' is not a plain number"),
        (["run", "-j", "+1", "wc"], "--jobs: '+1' is not a plain number"),
        (["run", "--jsonl", "wc", ":::", "1"], "--jsonl reads lines, not words after :::"),
        (["run", "echo {= uc =}", ":::", "1"], "{= PERL =} works only in GNU parallel"),
        (["run", "--workers", "0", "wc"], "--workers must be at least 1, not 0"),
        (["run", "--chunk", "0", "wc"], "--chunk must be at least 1, not 0"),
        (["run", "--window", "huge", "wc"], "--window: 'huge' is not a size"),
        (["run", "-a", "x", "wc", ":::", "y"], "tasks come from files or from :::, not from both"),
        (["sink", "extra"], "unexpected argument: extra"),
        (["journal"], "FILE is missing"),
        (["journal", "a", "b"], "unexpected argument: b"),
        (["run", "--resume", "wc"], "--resume requires a journal"),
        (["run", "--resume", "--restart", "-o", "x", "wc"], "--resume continues an unfinished run, --restart disc"),
        (["run", "--halt", "fail=1", "wc"], "--halt: 'fail=1' is not like now,fail=1 or soon,done=10%"),
        (["run", "--timeout", "0", "wc"], "--timeout: '0' is not more than 0"),
        (["run", "--from-failed", "wc", ":::", "x"], "--from-failed reads the output of --failed"),
        (["run", "--spool", "d", "--no-spool", "wc"], "--spool and --no-spool exclude each other"),
        (["sink", "-o", "x", "--failed", "x"], "-o x and --failed x are the same file"),
    ],
)
def test_usage_error_is_one_message_and_exit_code_2(here: Here, words: list[str], named: str) -> None:
    code, output, shown = here(*words)
    assert (code, output) == (2, "")
    assert shown.startswith(f"pipe: error: {named}")
    assert all(line.startswith("pipe: hint: ") for line in shown.splitlines()[1:2])
    assert len(shown.splitlines()) <= 2


# --- the whole ----------------------------------------------------------------------------------------


def test_run_writes_each_result_once_and_a_summary() -> None:
    shown = pipe("run", "echo got {}", stdin="".join(f"{n}\n" for n in range(20)))
    assert sorted(shown.stdout.splitlines()) == sorted(f"got {n}" for n in range(20))
    assert shown.returncode == 0
    assert shown.stderr.splitlines()[-1].startswith("pipe: 20 tasks, 0 failed, ")


def test_run_calls_a_function_in_order_into_a_file(tmp_path: Path) -> None:
    shown = pipe(
        "run", "-q", "-k", "-w", "2", "-o", "out", "--call", "builtins:len", ":::", "a", "", "ccc", cwd=tmp_path
    )
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "", "")
    assert (tmp_path / "out").read_text() == "1\n0\n3\n"


def test_journal_prints_json_lines_and_rejects_other_files(tmp_path: Path) -> None:
    held = Journal(str(tmp_path / "out.journal"), fsync=False)
    held.send(
        Port.JOURNAL,
        JournalEntry(1, (RunStarted("ab12", "f"), TasksSettled(((0, 7),), (), is_spilled=False, sizes=(21,)))),
    )
    assert held.receive()
    shown = pipe("journal", "out.journal", cwd=tmp_path)  # the sink still writes it
    held.close()
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [event["event"] for event in events] == ["journal", "run-started", "tasks-settled"]
    assert (events[1]["run"], events[2]["ranges"]) == ("ab12", [[1, 7]])
    (tmp_path / "notes.txt").write_text("precious, and longer than any magic\n")
    for words in (["journal", "notes.txt"], ["run", "--journal", "notes.txt", "--restart", "cat", ":::", "x"]):
        shown = pipe(*words, cwd=tmp_path)
        assert (shown.returncode, shown.stdout) == (2, "")
        assert "notes.txt" in shown.stderr
    assert (tmp_path / "notes.txt").read_text().startswith("precious")


def test_packed_commands_fit_a_small_stack_and_a_large_environment() -> None:
    line = "ulimit -S -s 256; seq 30000 | exec python -m pipeline run -q -X -j 1 echo"
    environment = {**os.environ, "LARGE": "x" * 90_000, "PYTHONPATH": str(ROOT)}
    command = ["/bin/sh", "-c", line.replace("python", sys.executable)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WITHIN, env=environment)
    assert (shown.stdout.split(), shown.stderr) == ([str(n + 1) for n in range(30_000)], "")


def test_empty_input_is_a_run_without_tasks() -> None:
    shown = pipe("run", "cat")
    assert (shown.returncode, shown.stdout) == (0, "")
    assert shown.stderr.splitlines()[-1].startswith("pipe: 0 tasks, 0 failed, ")


def ready(process: subprocess.Popen[str]) -> None:
    """Wait for the first line on stdout."""
    assert process.stdout
    assert select.select([process.stdout], [], [], WITHIN)[0]
    assert process.stdout.readline()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a private runtime folder; the paths of pytest are too long for ipc."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        yield Path(folder)


@pytest.fixture
def long_run(runtime: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a run whose first task has written a line and whose second task outlasts any test."""
    words = ["run", "-j", "1", "echo {}; sleep {}", ":::", "0", "1000"]
    argv = [sys.executable, "-m", "pipeline", *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=runtime) as process:
        try:
            ready(process)
            yield process
        finally:
            process.kill()  # its child processes detect that and end


def test_top_without_name_shows_the_only_run(long_run: subprocess.Popen[str]) -> None:
    shown = pipe("top", "--once")
    assert shown.returncode == 0, shown.stderr
    assert "echo {}; sleep {}" in shown.stdout
    assert long_run.poll() is None


def test_kill_without_name_ends_the_only_run(long_run: subprocess.Popen[str]) -> None:
    shown = pipe("kill", "--now")
    assert shown.returncode == 0, shown.stderr
    assert long_run.wait(WITHIN) == 130


def test_run_with_stale_inherited_variables_uses_another_folder(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_RUNTIME_DIR", "TMPDIR", "HOME"):
        monkeypatch.setenv(name, str(runtime / "nowhere"))
    shown = pipe("run", "-v", "echo", ":::", "x")
    assert (shown.returncode, shown.stdout) == (0, "x\n")
    assert f"is used instead of {runtime}/nowhere/pipe: {runtime}/nowhere: no such file or directory" in shown.stderr


def kill_started(run: PipeProcess, name: str) -> None:
    """Kill a station of `pipe run -v` after it has created its context."""
    wait_until(lambda: re.search(rf"{name} \d+ created ZeroMQ context", run.stderr))
    os.kill(run.station_pids()[name], signal.SIGKILL)


@pytest.mark.parametrize("name", ["sink", "ventilator"])
def test_unrestartable_station_ends_the_run_with_3(cluster: Cluster, name: str) -> None:
    reading, writing = os.pipe()  # stays open: the input has no end
    os.write(writing, b"1\n" * 10)
    run = cluster.start("run", "-v", "sleep 1000", tasks=reading)
    kill_started(run, name)
    assert run.wait() == 3
    assert run.stderr.count(f"pipe: error: {name} was killed by SIGKILL; {NO_RESTART_REASONS[name]}\n") == 1
    assert "start one" not in run.stderr  # the user cannot start a station of a `pipe run`
    assert "did not exit in time" not in run.stderr
    assert "SIGTERM" not in run.stderr
    cluster.assert_empty()
    os.close(reading)
    os.close(writing)


def test_restarted_ventilator_keeps_the_stdin_offset(cluster: Cluster) -> None:
    cluster.path("in").write_text("".join(f"{number}\n" for number in range(30)))
    task = "echo >> started; until [ -e go ]; do sleep 0.02; done; echo {}"
    with cluster.path("in").open("rb", buffering=0) as stdin:
        stdin.seek(4)  # after the first two lines
        run = cluster.start("run", "-v", "-j", "2", "--interval", "0.2", task, tasks=stdin)
    wait_until(cluster.path("started").exists)
    kill_started(run, "ventilator")
    run.wait_for_stderr("restarting in 0.1 s")
    cluster.path("go").touch()
    assert run.wait() == 0
    assert sorted(map(int, run.lines)) == list(range(2, 30))
    cluster.assert_empty()


@pytest.mark.parametrize("options", ["", "-k"])
def test_nothing_of_a_large_output_is_cut(tmp_path: Path, options: str) -> None:
    lines = "".join(f"{number}\n" for number in range(1, 700_001))
    words = f"run -q {options} -j 2 -o out.jsonl --results folders".split()
    ended = pipe(*words, "test {} = b || sleep 0.2; seq 700000; seq 700000 >&2", ":::", "a", "b", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted((row["task"], row["stdout"] == lines, row["stderr"] == lines) for row in rows) == [
        ("a", True, True), ("b", True, True)
    ]  # fmt: skip
    for path in (tmp_path / "folders" / "1").glob("*/std*"):
        assert path.read_text() == lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folders", "out.jsonl"]
