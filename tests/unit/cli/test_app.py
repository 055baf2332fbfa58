"""Parsing of arguments into a command and its settings."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from pipeline.cli.app import COMMANDS, parse
from pipeline.cli.options import HELP_SECTIONS, help_sections
from pipeline.cli.run import process_specs, slots_per_worker
from pipeline.cli.terminal import UserConsole
from pipeline.config.settings import ADVANCED_OPTIONS, ALIASES, OPTIONS, Settings
from pipeline.model.errors import UsageError
from pipeline.model.records import ArgumentSource
from pipeline.model.structs import replace
from pipeline.transport import endpoints
from pipeline.transport.endpoints import EndpointLock
from tests.support.processes import ROOT

GIVEN = (ArgumentSource(":::", ("a",)),)
WITHIN = 60  # seconds; a process that takes longer hangs


def test_options_end_at_first_word_of_command() -> None:
    settings = parse(["run", "-j", "3", "gzip", "-k", "--quiet", "--", "-j9"]).settings
    assert settings.command == ("gzip", "-k", "--quiet", "--", "-j9")
    assert (settings.jobs, settings.quiet, settings.argument_sources) == (3, False, ())


def test_argument_sources_follow_first_mark() -> None:
    settings = parse(["run", "echo", "-n", ":::", "a", "-b", "--help"]).settings
    assert settings.command == ("echo", "-n")
    assert settings.argument_sources == (ArgumentSource(":::", ("a", "-b", "--help")),)


def test_empty_argument_source_has_no_task() -> None:
    assert parse(["ventilate", ":::"]).settings.argument_sources == (ArgumentSource(":::", ()),)


def test_colons_of_work_belong_to_command() -> None:
    settings = parse(["work", "echo", ":::", "x"]).settings
    assert (settings.command, settings.argument_sources) == (("echo", ":::", "x"), ())


def test_single_command_word_is_kept_whole() -> None:
    assert parse(["run", "sleep 0.{}; echo slept {}"]).settings.command == ("sleep 0.{}; echo slept {}",)


def test_ventilate_takes_files_as_words_or_options() -> None:
    settings = parse(["ventilate", "-a", "one", "two", "-0", "three", "-a", "four"]).settings
    assert settings.files == ("one", "four", "two", "three")
    assert settings.zero


def test_option_values_are_parsed() -> None:
    typed = ["run", "--window=1M", "--patience", "2m", "-vv", "-ko", "out", "--call", "builtins:len"]
    settings = parse(typed).settings
    expected = (1 << 20, 120.0, 2, True, "out", "builtins:len")
    got = (
        settings.window,
        settings.peer_timeout,
        settings.verbose,
        settings.keep_order,
        settings.output,
        settings.call,
    )
    assert got == expected


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["run", "-P", "3", "x"], "jobs", 3),
        (["run", "--max-procs=3", "x"], "jobs", 3),
        (["run", "-P3", "-j5", "x"], "jobs", 5),  # the last one counts
        (["run", "--keeporder", "x"], "keep_order", True),
        (["sink", "--line-buffered"], "line_buffer", True),
        (["ventilate", "--argfile", "f"], "files", ("f",)),
        (["work", "--workdir", "d", "x"], "cwd", "d"),
        (["sink", "--bar"], "bar", True),
        (["sink", "--no-bar"], "bar", False),
        (["sink"], "bar", None),
        (["work", "--desk", "ipc:///r", "x"], "registry_at", "ipc:///r"),
        (["run", "--patience", "2m", "x"], "peer_timeout", 120.0),
        (["sink", "--interval", "2"], "heartbeat_interval", 2.0),
        (["ventilate", "--liveness", "30"], "heartbeat_timeout", 30.0),
    ],
)
def test_aliases_are_accepted(words: list[str], name: str, value: object) -> None:
    assert getattr(parse(words).settings, name) == value


def test_aliases_are_not_options() -> None:
    flags = {flag for each in OPTIONS for flag in each.flags}
    aliases = [alias for others in ALIASES.values() for alias in others.split()]
    assert set(ALIASES) <= flags
    assert len(set(aliases)) == len(aliases)
    assert not flags & set(aliases)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_one_help_section(command: str) -> None:
    under = [left for rows in help_sections(command).values() for left, _ in rows]
    assert len(under) == sum(command in each.on for each in OPTIONS)
    assert "" not in help_sections(command)
    assert set(HELP_SECTIONS) <= {each.name for each in OPTIONS}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "lab"])
def test_help_hides_advanced_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    advanced = {each.flags[0] for each in OPTIONS if command in each.on and each.is_advanced}
    assert parse([command, "--help"]).exit_code == 0
    lines = capsys.readouterr().out.splitlines()
    assert not advanced & {line.split()[0] for line in lines if line.startswith("  --")}
    assert ("--help-all" in lines[-1]) is bool(advanced)
    assert parse([command, "--help-all"]).exit_code == 0
    lines = capsys.readouterr().out.splitlines()
    assert advanced <= {line.split()[0] for line in lines if line.startswith("  --")}


def test_advanced_options_are_fields() -> None:
    assert {each.name for each in OPTIONS if each.is_advanced} == set(ADVANCED_OPTIONS.split())


def test_journal_is_a_word_or_an_option() -> None:
    assert parse(["journal", "out.journal"]).settings.journal == "out.journal"
    assert parse(["sink", "--journal", "out.journal"]).settings.journal == "out.journal"
    with pytest.raises(UsageError, match="unexpected argument: b"):
        parse(["journal", "a", "b"])


def test_run_without_name_gets_private_name() -> None:
    assert parse(["run", "x"]).settings.name == f"run-{os.getpid()}"
    assert parse(["run", "--name", "default", "x"]).settings.name == "default"
    assert parse(["work", "x"]).settings.name == "default"


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make a runtime folder of this test alone; the paths of pytest may be too long for ipc."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield


@pytest.mark.usefixtures("runtime")
def test_monitoring_needs_name_if_several_pipelines_run() -> None:
    assert parse(["top"]).settings.name == "default"
    one = EndpointLock(f"{endpoints.runtime_folder()}/one", "sink")
    assert parse(["top"]).settings.name == "one"
    assert parse(["kill", "--name", "two"]).settings.name == "two"
    other = EndpointLock(f"{endpoints.runtime_folder()}/other", "sink")
    with pytest.raises(UsageError, match="several pipelines are running: one, other"):
        parse(["kill"])
    assert parse(["kill", "--at", "tcp://h"]).settings.name == "default"
    one.release()
    assert parse(["kill"]).settings.name == "other"
    other.release()


@pytest.mark.parametrize(
    ("jobs", "workers", "expected"), [(3, 2, [3, 3]), (None, 1, None), (None, 10_000, [1] * 10_000)]
)
def test_slots_are_divided_among_workers(jobs: int | None, workers: int, expected: list[int] | None) -> None:
    got = slots_per_worker(Settings(jobs=jobs, workers=workers))
    assert got == expected if expected else len(got) == 1 <= got[0]


@pytest.mark.parametrize(
    ("settings", "sink", "ventilator"),
    [
        (Settings(argument_sources=(ArgumentSource(":::", ("a",)),)), False, True),
        (Settings(argument_sources=(ArgumentSource(":::", ("a",)),), output="out"), True, True),
        (Settings(argument_sources=(ArgumentSource(":::", ("a",)),), journal="j"), True, True),
        (Settings(files=("/dev/null",), output="/dev/null"), False, False),
        (Settings(files=(__file__,), output="/dev/null"), False, True),
    ],
)
def test_process_that_can_resume_is_restartable(settings: Settings, sink: bool, ventilator: bool) -> None:  # noqa: FBT001
    specs = process_specs(replace(settings, workers=2), UserConsole(settings, 0.0))
    assert {spec.name: spec.restart is not None for spec in specs} == {
        "sink": sink,
        "ventilator": ventilator,
        "worker-1": True,
        "worker-2": True,
    }


@pytest.mark.parametrize(
    ("command", "rest"), [("run", ["-j", "2", "wc"]), ("sink", []), ("kill", []), ("journal", ["x"]), ("doctor", [])]
)
def test_parse_imports_only_the_chosen_command(command: str, rest: list[str]) -> None:
    script = f"""
import sys
from pipeline.cli.app import COMMANDS, parse
assert parse({[command, *rest]!r}).command == {command!r}
print(*sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, timeout=WITHIN, cwd=ROOT,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert "typer" not in loaded
    assert not loaded & {"rich", "pydantic", "pygments", "zmq", "msgpack", "psutil", "asyncio", "pipeline.cli.top"}
    assert not loaded & {"pipeline.cli.suggestions", "pipeline.doctor.environment_checks"}
    assert not loaded & {"pipeline.cli.completion", "pipeline.lab"}
