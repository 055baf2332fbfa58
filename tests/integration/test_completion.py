"""Completion by TAB in bash, zsh and fish, each on its own terminal."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.cli.app import COMMANDS
from pipeline.cli.click_parser import build_command
from pipeline.cli.completion import SHELLS, join_words
from pipeline.config.settings import ALIASES, OPTIONS
from pipeline.transport.endpoints import EndpointLock
from tests.support.processes import ROOT, wait_until

BEGIN = {
    "bash": "PS1=; source {script}; show() {{ printf '%s' \"$READLINE_LINE\" >{shown}.new; mv {shown}.new {shown}; }}; "
    "bind -x '\"\\C-x\": show'; bind 'set bell-style none'; touch {ready}\n",
    "zsh": "PS1=; autoload -U compinit; compinit -u -D; source {script}; "
    "show() {{ print -rn -- \"$BUFFER\" >{shown}.new; mv {shown}.new {shown}; }}; zle -N show; bindkey '^X' show; "
    "touch {ready}\n",
}
CASES = [
    ("pipe ru", "pipe run"),
    ("pipe run --jobl", "pipe run --joblog"),
    ("pipe run -k --no-b", "pipe run -k --no-bar"),
    ("pipe run -o only", "pipe run -o only-one.txt"),
    ("pipe run -ko only", "pipe run -ko only-one.txt"),
    ("pipe run --cwd some", "pipe run --cwd some-folder/"),
    ("pipe run only-com", "pipe run only-command"),
    ("pipe run -j 3 gzip only-o", "pipe run -j 3 gzip only-one.txt"),
    ("pipe run -j3 --timeout 5 gzip only-o", "pipe run -j3 --timeout 5 gzip only-one.txt"),
    ("pipe run --max-procs 3 gzip only-o", "pipe run --max-procs 3 gzip only-one.txt"),
    ("pipe run gzip --jobl", "pipe run gzip --jobl"),
    ("pipe ventilate only-o", "pipe ventilate only-one.txt"),
    ("pipe sink --durability d", "pipe sink --durability disk"),
    ("pipe top --name ha", "pipe top --name hashes"),
    ("pipe completion f", "pipe completion fish"),
    ("pipe lab rel", "pipe lab relay"),
    ("pipe run --output=x --call builtins:len --jobl", "pipe run --output=x --call builtins:len --joblog"),
    ("pipe run gzip --durability dis", "pipe run gzip --durability dis"),
    ("pipe run -k --keepo", "pipe run -k --keepo"),
]
WITH_EQUALS = [
    ("pipe run --output=only", "pipe run --output=only-one.txt"),
    ("pipe sink --durability=d", "pipe sink --durability=disk"),
]
"""Values after `=`: bash completes them, typer's scripts for zsh and fish do not."""


def printed(shell: str) -> str:
    words = [sys.executable, "-m", "pipeline", "completion", shell]
    return subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with names to complete."""
    made = tmp_path_factory.mktemp("completion")
    (made / "only-one.txt").touch()
    for name in ("some-folder", "bin", "run", "run/pipe"):
        (made / name).mkdir(mode=0o700)
    pipe = f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{sys.executable}' -m pipeline \"$@\"\n"
    for name, text in {"only-command": "#!/bin/sh\n", "pipe": pipe}.items():
        (made / "bin" / name).write_text(text)
        (made / "bin" / name).chmod(0o755)
    for name in SHELLS:
        (made / f"pipe.{name}").write_text(printed(name))
    live = EndpointLock(str(made / "run" / "pipe" / "hashes"), "sink")
    yield made
    live.release()


def environment(folder: Path) -> dict[str, str]:
    own = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "XDG_RUNTIME_DIR": f"{folder}/run", "HOME": str(folder)}
    return {**os.environ, **own, "TERM": "dumb", "LC_ALL": "C"}


class Typed:
    """Shell in a terminal, with typed input."""

    def __init__(self, shell: str, words: list[str], folder: Path) -> None:
        self._shown, ready = folder / f"{shell}.shown", folder / f"{shell}.ready"
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        self._shell = subprocess.Popen(words, env=environment(folder), cwd=folder, start_new_session=True, **streams)  # type: ignore[call-overload]
        os.close(slave)
        begin = BEGIN[shell].format(script=folder / f"pipe.{shell}", shown=self._shown, ready=ready)
        os.write(self._master, begin.encode())
        self._until(ready)

    def completed(self, line: str) -> str:
        """Return the line after a TAB."""
        self._shown.unlink(missing_ok=True)
        os.write(self._master, b"\x15" + line.encode() + b"\t\x18")
        self._until(self._shown)
        return self._shown.read_text()

    def _until(self, path: Path) -> None:
        output = b""

        def is_there() -> bool:
            nonlocal output
            with suppress(OSError):
                output += os.read(self._master, 1 << 16)  # otherwise the shell would block
            return path.exists()

        try:
            wait_until(is_there)
        except AssertionError:
            raise AssertionError(output.decode(errors="replace")) from None

    def end(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._master)


def typed(shell: str, words: list[str], folder: Path) -> Iterator[Typed]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    person = Typed(shell, words, folder)
    yield person
    person.end()


@pytest.fixture(scope="module")
def in_bash(folder: Path) -> Iterator[Typed]:
    yield from typed("bash", ["bash", "--norc", "--noprofile", "-i"], folder)


@pytest.fixture(scope="module")
def in_zsh(folder: Path) -> Iterator[Typed]:
    yield from typed("zsh", ["zsh", "-f", "-i"], folder)


@pytest.mark.parametrize(("line", "expected"), CASES + WITH_EQUALS)
def test_bash_completes_a_line(in_bash: Typed, line: str, expected: str) -> None:
    assert in_bash.completed(line).rstrip() == expected


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_zsh_completes_a_line(in_zsh: Typed, line: str, expected: str) -> None:
    assert in_zsh.completed(line).rstrip() == expected


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_a_line(folder: Path) -> None:
    asked = "".join(f"echo @; complete -C '{line}'\n" for line, _ in CASES)
    script = f"source {folder}/pipe.fish\n{asked}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environment(folder), cwd=folder, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    for (line, expected), output in zip(CASES, done.stdout.split("@\n")[1:], strict=True):
        got = [each.partition("\t")[0] for each in output.splitlines()]
        assert got == ([expected.rsplit(" ", 1)[1]] if line != expected else []), line


def offered(words: list[str], folder: Path) -> list[str]:
    own = {"_PIPE_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    argv = [sys.executable, "-m", "pipeline"]
    env = environment(folder) | own
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    assert done.stderr == ""
    return done.stdout.split()


def test_all_matching_completions_are_listed(folder: Path) -> None:
    assert offered(["pipe", "run", "--jo"], folder) == ["--jobs", "--joblog", "--journal"]
    assert offered(["pipe", ""], folder) == list(COMMANDS)
    assert offered(["pipe", "--"], folder) == ["--version", "--help"]


def test_completion_without_shell_is_a_usage_error() -> None:
    for words, output in (([], "SHELL is missing"), (["tcsh"], "no completion for 'tcsh'")):
        argv = [sys.executable, "-m", "pipeline", "completion", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
        assert (done.returncode, done.stdout) == (2, "")
        hint = "pipe: hint: give bash, zsh or fish, as in `pipe completion bash`\n"
        assert done.stderr == f"pipe: error: {output}\n{hint}"


@pytest.mark.parametrize("name", COMMANDS)
def test_completion_offers_options_but_no_aliases(name: str, folder: Path) -> None:
    on = [each for each in OPTIONS if name in each.on]
    expected = {flag for each in on for flags in each.flags for flag in flags.split("/")}
    assert set(offered(["pipe", name, "-"], folder)) == expected | {"--help", "--help-all", "-h"}
    known = {flag for parameter in build_command(name).params for flag in parameter.opts}
    assert known >= {alias for flag in expected for alias in ALIASES.get(flag, "").split()}


@pytest.mark.parametrize(
    ("line", "joined"),
    [
        ("pipe run --output = x", "pipe run --output=x"),
        ("pipe run --output =", "pipe run --output="),
        ("pipe run --at=tcp : //h : 1 -j", "pipe run --at=tcp://h:1 -j"),
        ("pipe run --call m : f -j", "pipe run --call m:f -j"),
        ("pipe run --header : -j", "pipe run --header : -j"),
    ],
)
def test_completion_joins_words_split_by_bash(line: str, joined: str) -> None:
    assert join_words(line.split()) == joined.split()
