"""From words to a command and its settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.app import COMMANDS, parse
from pipeline.cli.options import ALIASES, HELP_SECTIONS, help_sections
from pipeline.cli.run import process_specs, slots_per_worker
from pipeline.cli.terminal import UserConsole
from pipeline.config.settings import OPTIONS, Settings
from pipeline.model.errors import UsageError
from pipeline.model.records import ArgumentSource
from pipeline.model.structs import replace
from pipeline.transport import endpoints
from pipeline.transport.endpoints import EndpointLock
from tests.support.processes import ROOT

GIVEN = (ArgumentSource(":::", ("a",)),)
WITHIN = 60  # seconds; a process that takes longer hangs


def test_options_end_at_the_first_word_of_the_command() -> None:
    settings = parse(["run", "-j", "3", "gzip", "-k", "--quiet", "--", "-j9"]).settings
    assert settings.command == ("gzip", "-k", "--quiet", "--", "-j9")
    assert (settings.jobs, settings.quiet, settings.argument_sources) == (3, False, ())


def test_what_is_given_follows_the_first_mark() -> None:
    settings = parse(["run", "echo", "-n", ":::", "a", "-b", "--help"]).settings
    assert settings.command == ("echo", "-n")
    assert settings.argument_sources == (ArgumentSource(":::", ("a", "-b", "--help")),)


def test_nothing_behind_the_colons_is_no_task() -> None:
    assert parse(["ventilate", ":::"]).settings.argument_sources == (ArgumentSource(":::", ()),)


def test_the_colons_of_a_worker_belong_to_its_command() -> None:
    settings = parse(["work", "echo", ":::", "x"]).settings
    assert (settings.command, settings.argument_sources) == (("echo", ":::", "x"), ())


def test_one_word_stays_one_word() -> None:
    assert parse(["run", "sleep 0.{}; echo slept {}"]).settings.command == ("sleep 0.{}; echo slept {}",)


def test_files_of_the_ventilator_are_words_or_options() -> None:
    settings = parse(["ventilate", "-a", "one", "two", "-0", "three", "-a", "four"]).settings
    assert settings.files == ("one", "four", "two", "three")
    assert settings.zero


def test_values_are_read() -> None:
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
    ],
)
def test_names_of_gnu_parallel_that_mean_the_same_are_taken(words: list[str], name: str, value: object) -> None:
    assert getattr(parse(words).settings, name) == value


def test_no_alias_is_an_option_of_its_own() -> None:
    flags = {flag for each in OPTIONS for flag in each.flags}
    aliases = [alias for others in ALIASES.values() for alias in others.split()]
    assert set(ALIASES) <= flags
    assert len(set(aliases)) == len(aliases)
    assert not flags & set(aliases)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_stands_under_one_heading(command: str) -> None:
    under = [left for rows in help_sections(command).values() for left, _ in rows]
    assert len(under) == sum(command in each.on for each in OPTIONS)
    assert "" not in help_sections(command)
    assert set(HELP_SECTIONS) <= {each.name for each in OPTIONS}


def test_a_journal_is_named_by_a_word_or_by_an_option() -> None:
    assert parse(["journal", "out.journal"]).settings.journal == "out.journal"
    assert parse(["sink", "--journal", "out.journal"]).settings.journal == "out.journal"
    with pytest.raises(UsageError, match="too many words: b"):
        parse(["journal", "a", "b"])


def test_a_run_has_a_name_of_its_own_unless_one_is_given() -> None:
    assert parse(["run", "x"]).settings.name == f"run-{os.getpid()}"
    assert parse(["run", "--name", "default", "x"]).settings.name == "default"
    assert parse(["work", "x"]).settings.name == "default"


def test_looking_needs_a_name_only_when_several_are_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert parse(["top"]).settings.name == "default"
    one = EndpointLock(str(endpoints.runtime_folder() / "one"), "sink")
    assert parse(["top"]).settings.name == "one"
    assert parse(["kill", "--name", "two"]).settings.name == "two"
    other = EndpointLock(str(endpoints.runtime_folder() / "other"), "sink")
    with pytest.raises(UsageError, match="several pipelines are live: one, other; pick one with --name"):
        parse(["kill"])
    assert parse(["kill", "--at", "tcp://h"]).settings.name == "default"
    one.release()
    assert parse(["kill"]).settings.name == "other"
    other.release()


@pytest.mark.parametrize(
    ("jobs", "workers", "expected"), [(3, 2, [3, 3]), (None, 1, None), (None, 10_000, [1] * 10_000)]
)
def test_slots_are_shared_out(jobs: int | None, workers: int, expected: list[int] | None) -> None:
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
def test_who_can_go_on_is_replaced(settings: Settings, sink: bool, ventilator: bool) -> None:  # noqa: FBT001
    crew = process_specs(replace(settings, workers=2), UserConsole(settings, 0.0))
    assert {post.name: post.restart is not None for post in crew} == {
        "sink": sink,
        "ventilator": ventilator,
        "worker-1": True,
        "worker-2": True,
    }


@pytest.mark.parametrize(
    ("command", "rest"), [("run", ["-j", "2", "wc"]), ("sink", []), ("kill", []), ("journal", ["x"]), ("doctor", [])]
)
def test_the_door_imports_no_more_than_it_needs(command: str, rest: list[str]) -> None:
    script = f"""
import sys
from pipeline.cli.app import COMMANDS, parse
assert parse({[command, *rest]!r}).command == {command!r}
print(*sys.modules)
"""
    shown = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, timeout=WITHIN, cwd=ROOT,
    )  # fmt: skip
    loaded = set(shown.stdout.split())
    assert f"pipeline.cli.{command}" in loaded
    assert not loaded & {"rich", "pydantic", "pygments", "zmq", "msgpack", "psutil", "asyncio", "pipeline.cli.top"}
    assert not loaded & {"pipeline.cli.suggestions", "pipeline.doctor.environment_checks"}
    assert not loaded & {"pipeline.cli.completion", "pipeline.lab"}
