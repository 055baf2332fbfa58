"""Each command line in README and docs is run, and prints the shown output."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.page_runner import ShownCommand, mask, matches, parse_page, run_page
from tests.support.processes import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TIMEOUT = f"""#!{sys.executable}
import os, signal, subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pipeline.storage import journal_reader
assert sys.argv[1:3] == ["-s", "KILL"], sys.argv
os.setpgid(0, 0)
program = subprocess.Popen(sys.argv[4:])
while program.poll() is None:
    found = journal_reader.read_summary("out.txt.journal")
    if found and found.settled:
        os.killpg(0, signal.SIGKILL)
    time.sleep(0.005)
sys.exit(program.returncode)
"""
"""`timeout -s KILL SECONDS COMMAND` that kills as soon as a task is done, because SECONDS depends on the machine."""
UNRUN = {"architecture.md", "decisions.md", "glossary.md", "lab.md", "limits.md", "performance.md", "protocol.md"}
"""Pages that show no commands."""


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that contains `pipe`, next to a private runtime folder; its own path is short enough for ipc."""
    made = tmp_path / "bin"
    made.mkdir()
    path = made / "pipe"
    path.write_text(f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{sys.executable}' -m pipeline \"$@\"\n")
    path.chmod(0o755)
    (made / "timeout").write_text(TIMEOUT)
    (made / "timeout").chmod(0o755)
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as runtime_folder:
        (tmp_path / "run").symlink_to(runtime_folder)
        yield made


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_page_shows_the_printed_output(path: Path, tmp_path: Path, shim: Path) -> None:
    page = parse_page(path.read_text())
    assert bool(page.commands) == (path.name not in UNRUN)
    folder = tmp_path / "here"
    folder.mkdir()
    wrong = [
        f"$ {command.line}\nshown:\n" + "\n".join(command.expected) + "\nprinted:\n" + "\n".join(printed)
        for command, printed in zip(page.commands, run_page(page, folder, shim), strict=True)
        if not matches(command.expected, printed)
    ]
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_shown_command_is_run(path: Path) -> None:
    if path.name in UNRUN:
        return
    outside = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    outside = outside.replace("    python3 -m venv", "the one that installs it: see .ci/run, and try it")
    assert not re.findall(r"^ {4,}.*\bpipe (?:run|sink|work|ventilate|top|kill|doctor)\b.*$", outside, re.MULTILINE)
    fences = set(re.findall(r"^```(\w+)\n(?:(?!```).*\n)*?.*\bpipe run ", path.read_text(), re.MULTILINE))
    assert fences <= {"console"}


def test_parse_page_returns_a_session() -> None:
    page = parse_page("x\n```console\n$ a\nb\n$ c \\\n> d\n```\n```python f.py\ncode\n```\n```text\n$ e\n```\n")
    assert page.commands == [ShownCommand("a", ["b"]), ShownCommand("c \\\nd", [])]
    assert page.files == {"f.py": "code\n"}


def test_session_keeps_its_folder_and_shows_both_streams(tmp_path: Path, shim: Path) -> None:
    text = "```console\n$ mkdir x && cd x && cat ../f\n$ pwd >&2; sleep 0 &\n```\n```python f\nhello\n```\n"
    assert run_page(parse_page(text), tmp_path, shim) == [["hello"], [f"{tmp_path}/x"]]


def test_matches_ignores_only_varying_parts() -> None:
    line = "pipe: 1,790 tasks, 0 failed, 1.6 s, 1,103 tasks/s"
    assert matches([line], ["pipe: 1,790 tasks, 0 failed, 12.1 s, 9 tasks/s"])
    assert not matches([line], ["pipe: 1,791 tasks, 0 failed, 1.6 s, 1,103 tasks/s"])
    assert not matches([line], [])
    assert matches(["a", "...", "b"], ["a", "x", "y", "b"])
    assert not matches(["a", "...", "b"], ["a", "x"])
    assert matches([line], ["pipe: no worker connected", line])
    assert mask("host.12.0a1b2c 21 Nov 14:02") == "WORKER DATE"
