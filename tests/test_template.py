"""From command and record to words: quoting, appending, and when a shell is needed."""

from __future__ import annotations

import os
import random
import shlex
import subprocess

import pytest

from pipeline.executor.template import Template, needs_shell, quoted
from pipeline.words.errors import UsageError


@pytest.mark.parametrize(
    ("command", "record", "words"),
    [
        (("echo {}",), b"a b; rm x", [b"echo", b"a b; rm x"]),
        (("echo  x{}y\t{}",), b"'", [b"echo", b"x'y", b"'"]),
        (("echo",), b"", [b"echo", b""]),
        (("echo {};",), b"a b", [b"sh", b"-c", b"echo 'a b';"]),
        (("echo $HOME",), b"it's", [b"sh", b"-c", b"echo $HOME 'it'\"'\"'s'"]),
        (("echo >",), b"plain.txt", [b"sh", b"-c", b"echo > plain.txt"]),
        (("echo;",), b"", [b"sh", b"-c", b"echo; ''"]),
        (("exit",), b"3", [b"sh", b"-c", b"exit 3"]),
        (("gzip", "-c"), b"$x y", [b"gzip", b"-c", b"$x y"]),
        (("cp", "{}", "{}.bak;"), b"a b", [b"cp", b"a b", b"a b.bak;"]),
        (("two words", "x"), b"\xff", [b"two words", b"x", b"\xff"]),
        (("\udcff", "x"), b"{}", [b"\xff", b"x", b"{}"]),
    ],
)
def test_words(command: tuple[str, ...], record: bytes, words: list[bytes]) -> None:
    assert Template(command, appended=True).render(record) == words


def test_nothing_is_appended_when_the_task_comes_another_way() -> None:
    assert Template(("wc -l",), appended=False).render(b"x") == [b"wc", b"-l"]
    assert Template(("wc", "-l"), appended=False).render(b"x") == [b"wc", b"-l"]
    assert Template(("wc -l;",), appended=False).render(b"x") == [b"sh", b"-c", b"wc -l;"]


@pytest.mark.parametrize(
    ("command", "program"),
    [(("ls -l",), b"ls"), (("ls", "x"), b"ls"), (("ls *",), b"/bin/sh"), (("{}", "x"), None), (("{}/run x",), None)],
)
def test_program_is_the_word_to_execute(command: tuple[str, ...], program: bytes | None) -> None:
    assert Template(command, appended=True).program == program


@pytest.mark.parametrize("command", [(), ("",), ("  ",), ("", "x")])
def test_empty_command_is_refused(command: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="empty"):
        Template(command, appended=True)


@pytest.mark.parametrize(
    "line", [b"A=1 x", b"cd x", b". x", b"a|b", b"a\nb", b"~/x", b"x #", b"x [a]", b"a 'b'", b"! x"]
)
def test_lines_for_a_shell(line: bytes) -> None:
    assert needs_shell(line)


@pytest.mark.parametrize("line", [b"x", b"x {} y={}", b"./x -a --b=c,d %e @f +g :h", b"{}"])
def test_lines_for_no_shell(line: bytes) -> None:
    assert not needs_shell(line)


@pytest.mark.parametrize("text", ["", "a", "a b", "it's", "$x", "é", "a\nb", "~", "-n", "=x", "{}"])
def test_quoted_is_what_shlex_says(text: str) -> None:
    ours = quoted(os.fsencode(text))
    assert shlex.split(os.fsdecode(ours)) == [text]
    if text.isascii():
        assert os.fsdecode(ours) == shlex.quote(text)


def test_a_real_shell_reads_any_bytes_back() -> None:
    rng = random.Random(7)
    texts = [bytes(rng.randrange(1, 256) for _ in range(rng.randrange(40))) for _ in range(50)]
    words = Template(("printf '%s\\0' {}",), appended=True).render(b"x")
    assert words[:2] == [b"sh", b"-c"]
    line = b"printf '%s\\0' " + b" ".join(quoted(text) for text in texts)
    told = subprocess.run(["/bin/sh", "-c", line], check=True, stdout=subprocess.PIPE).stdout
    assert told == b"".join(text + b"\0" for text in texts)


@pytest.mark.parametrize(
    "task", [b"a b", b"it's", b'"', b"; echo oops", b"$(echo oops)", b"`echo oops`", b"\\", b"-n", b"*"]
)
@pytest.mark.parametrize(
    "line", ["printf %s '{}'", 'printf %s "{}"', "printf %s {}", """printf %s "got "'it {}'" {}" """]
)
def test_a_task_stays_one_word_also_within_quotes(line: str, task: bytes) -> None:
    import subprocess

    words = Template((line,), appended=True).render(task)
    printed = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
    assert printed == (b"got it " + task + b" " + task if "got" in line else task)


@pytest.mark.parametrize(
    "line", [r"echo \{}", "cat <<END\n{}\nEND", 'echo "$(cat {})"', 'echo "`cat {}`"', 'echo "${x:-{}}"']
)
def test_a_place_where_a_task_cannot_be_quoted_is_refused(line: str) -> None:
    with pytest.raises(UsageError, match=r"\{\}"):
        Template((line,), appended=True)


def test_a_substitution_without_double_quotes_can_hold_a_task() -> None:
    assert Template(("echo $(cat {})",), appended=True).render(b"a b") == [b"sh", b"-c", b"echo $(cat 'a b')"]
