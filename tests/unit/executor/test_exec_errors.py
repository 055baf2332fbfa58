"""Errors of exec: real files that the kernel refuses, their sentences, and the exit codes of the shell."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from typing import TYPE_CHECKING

import pytest

from pipeline.executor.exec_errors import EXIT_CODES, describe_exec_error, not_found_error
from tests.unit.executor.command_driver import make_driver

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "carriage": b"#!/bin/sh\r\necho hi\r\n",
    "missing": b"#!/no/interpreter -x\n",
    "refused": b"#!/etc/passwd\n",
    "garbage": b"\x7fELF\0\0 no program",
    "plain": b"echo hi\n",
    "nested": b"#!%b/nested1\n",
    **{f"nested{depth}": b"#!%%b/nested%d\n" % (depth + 1) for depth in range(1, 8)},
    "nested8": b"#!/bin/sh\n",
}
SENTENCES = {
    "carriage": (
        "127: interpreter not found: F/carriage begins with #!/bin/sh\\r, which ends in a carriage return (\\r): "
        "remove it from each line with `sed -i 's/\\r$//' F/carriage`"
    ),
    "missing": "127: interpreter not found: F/missing begins with #!/no/interpreter -x",
    "absent": "127: command not found: F/absent",
    "dangling": "127: command not found: F/dangling is a symbolic link to F/absent",
    "plain/x": "127: command not found: F/plain/x",
    "loop": "127: too many symbolic links: F/loop",
    "nested": "127: too many interpreters: that of F/nested is a script itself, and so on",
    "x" * 300: f"127: file name too long: F/{'x' * 300}",
    "plain": "126: permission denied: F/plain is not executable; `chmod +x F/plain` makes it so",
    "folder": "126: permission denied: F/folder is a directory",
    "refused": "126: permission denied: F/refused begins with #!/etc/passwd, which is not executable",
    "garbage": "126: not a program for this machine: F/garbage",
    "busy": "126: text file busy: F/busy is open for writing",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content.replace(b"%b", os.fsencode(tmp_path)))
        (tmp_path / name).chmod(0o600 if name == "plain" else 0o700)
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "busy").write_bytes((tmp_path / "garbage").read_bytes())
    (tmp_path / "busy").chmod(0o700)
    return tmp_path


@pytest.mark.parametrize("command", [("{}", "x"), ()], ids=["argv", "record"])
@pytest.mark.parametrize("name", SENTENCES)
def test_exec_error_has_its_sentence_and_exit_code(folder: Path, name: str, command: tuple[str, ...]) -> None:
    path, expected = str(folder / name), SENTENCES[name].replace("F/", f"{folder}/")
    with make_driver(*command) as driver, open(folder / "busy", "ab"):
        driver.run_records(os.fsencode(path))
        shell = subprocess.run(["/bin/sh", "-c", path], check=False, stderr=subprocess.DEVNULL)
    assert (driver.failures[0].kind, driver.failures[0].text) == ("exit", f"exit {expected}")
    assert driver.stderr == f"exit {expected}\n".encode()
    # bash and dash differ for these
    assert shell.returncode == driver.failures[0].code or name in {"loop", "nested", "x" * 300, "plain/x"}


def test_script_that_is_a_record_runs_without_interpreter(folder: Path) -> None:
    (folder / "plain").chmod(0o700)
    with make_driver() as driver:
        assert driver.run_records(os.fsencode(folder / "plain")) == [b"hi\n"]


def test_argument_list_too_long_says_what_is_allowed() -> None:
    limit = 2 << 20 if resource.getrlimit(resource.RLIMIT_STACK)[0] == 8 << 20 else None
    word = describe_exec_error(errno.E2BIG, [b"tool", b"x" * 140_000], {})
    assert word == (
        "argument list too long: tool: a word has 140,000 bytes, and Linux takes 131,071; --stdin has no such limit"
    )
    words = describe_exec_error(errno.E2BIG, [b"tool", *[b""] * 300_000], {b"A": b"b"})
    assert words.startswith(
        "argument list too long: tool: command and environment take 2,700,025 bytes, and `ulimit -s`"
    )
    assert limit is None or words.endswith(f"allows {limit:,}")


def test_every_exec_error_has_a_sentence() -> None:
    texts = {describe_exec_error(number, [b"tool"], {}) for number in EXIT_CODES}
    assert all("tool" in text for text in texts)


def test_bash_function_names_the_way_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASH_FUNC_greet%%", "() { echo hi; }")
    way = """`pipe run bash -c 'greet "$1"' _ {}`"""
    error = not_found_error(b"greet")
    assert (str(error), error.hint) == ("command not found: greet", f"it is a function of bash: run {way}")
    assert not_found_error(b"other").hint == "no directory of PATH contains it"
    with make_driver("{} 1") as driver:
        driver.run_records(b"greet")
        assert driver.failures[0].text == f"exit 127: command not found: greet is a function of bash: use {way}"
    with make_driver("exec no-such-command; greet {}") as driver:
        driver.run_records(b"a")
        text = driver.failures[0].text
    assert text == f"exit 127 (greet is a function of bash: use {way}): exec no-such-command; greet a"


@pytest.mark.parametrize(
    ("name", "text"),
    [("loop", "too many symbolic links: F/loop"), ("dangling", SENTENCES["dangling"].removeprefix("127: "))],
)
def test_program_of_all_tasks_is_refused_at_the_start(folder: Path, name: str, text: str) -> None:
    assert str(not_found_error(os.fsencode(folder / name))) == text.replace("F/", f"{folder}/")
