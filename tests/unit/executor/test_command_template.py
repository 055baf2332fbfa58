"""CommandTemplate, OutputTag and shell quoting."""

from __future__ import annotations

import os
import random
import shlex
import subprocess

import pytest

from pipeline.executor.command_template import MAX_COMPILED_TEMPLATES, CommandTemplate, OutputTag
from pipeline.executor.replacement_strings import needs_shell, shell_quote
from pipeline.model.errors import UsageError
from pipeline.model.messages import Shape
from pipeline.model.records import encode_fields


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
def test_template_render_returns_argv(command: tuple[str, ...], record: bytes, words: list[bytes]) -> None:
    assert CommandTemplate(command, is_appended=True).render(record, "line", 0, 1).argv == words


def test_template_not_appended_leaves_command_as_is() -> None:
    assert CommandTemplate(("wc -l",), is_appended=False).render(b"x", "line", 0, 1).argv == [b"wc", b"-l"]
    assert CommandTemplate(("wc", "-l"), is_appended=False).render(b"x", "line", 0, 1).argv == [b"wc", b"-l"]
    assert CommandTemplate(("wc -l;",), is_appended=False).render(b"x", "line", 0, 1).argv == [b"sh", b"-c", b"wc -l;"]


@pytest.mark.parametrize(
    ("command", "program"),
    [(("ls -l",), b"ls"), (("ls", "x"), b"ls"), (("ls *",), b"/bin/sh"), (("{}", "x"), None), (("{}/run x",), None)],
)
def test_template_program_is_the_first_word_or_shell(command: tuple[str, ...], program: bytes | None) -> None:
    assert CommandTemplate(command, is_appended=True).program == program


@pytest.mark.parametrize("command", [("",), ("  ",), ("", "x")])
def test_template_blank_command_raises(command: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="empty"):
        CommandTemplate(command, is_appended=True)


@pytest.mark.parametrize(
    "line", [b"A=1 x", b"cd x", b". x", b"a|b", b"a\nb", b"~/x", b"x #", b"x [a]", b"a 'b'", b"! x"]
)
def test_needs_shell_with_shell_syntax_is_true(line: bytes) -> None:
    assert needs_shell(line)


@pytest.mark.parametrize("line", [b"x", b"x y=", b"./x -a --b=c,d %e @f +g :h", b""])
def test_needs_shell_with_plain_words_is_false(line: bytes) -> None:
    assert not needs_shell(line)


@pytest.mark.parametrize("text", ["", "a", "a b", "it's", "$x", "é", "a\nb", "~", "-n", "=x", "{}"])
def test_shell_quote_matches_shlex(text: str) -> None:
    ours = shell_quote(os.fsencode(text))
    assert shlex.split(os.fsdecode(ours)) == [text]
    if text.isascii():
        assert os.fsdecode(ours) == shlex.quote(text)


def test_shell_quote_any_bytes_survive_a_shell() -> None:
    rng = random.Random(7)
    texts = [bytes(rng.randrange(1, 256) for _ in range(rng.randrange(40))) for _ in range(50)]
    words = CommandTemplate(("printf '%s\\0' {}",), is_appended=True).render(b"x", "line", 0, 1).argv
    assert words[:2] == [b"sh", b"-c"]
    line = b"printf '%s\\0' " + b" ".join(shell_quote(text) for text in texts)
    printed = subprocess.run(["/bin/sh", "-c", line], check=True, stdout=subprocess.PIPE).stdout
    assert printed == b"".join(text + b"\0" for text in texts)


@pytest.mark.parametrize(
    "task", [b"a b", b"it's", b'"', b"; echo oops", b"$(echo oops)", b"`echo oops`", b"\\", b"-n", b"*"]
)
@pytest.mark.parametrize(
    "line", ["printf %s '{}'", 'printf %s "{}"', "printf %s {}", """printf %s "got "'it {}'" {}" """]
)
def test_template_task_in_quotes_stays_one_word(line: str, task: bytes) -> None:
    import subprocess

    words = CommandTemplate((line,), is_appended=True).render(task, "line", 0, 1).argv
    printed = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
    assert printed == (b"got it " + task + b" " + task if "got" in line else task)


@pytest.mark.parametrize(
    "line", [r"echo \{}", "cat <<END\n{}\nEND", 'echo "$(cat {})"', 'echo "`cat {}`"', 'echo "${x:-{}}"']
)
def test_template_unquotable_placeholder_raises_with_hint(line: str) -> None:
    with pytest.raises(UsageError, match=r"^\{\} cannot ") as raised:
        CommandTemplate((line,), is_appended=True)
    assert raised.value.hint


def test_template_task_in_unquoted_substitution_is_quoted() -> None:
    assert CommandTemplate(("echo $(cat {})",), is_appended=True).render(b"a b", "line", 0, 1).argv == [
        b"sh",
        b"-c",
        b"echo $(cat 'a b')",
    ]


def command(words: tuple[str, ...], record: bytes, shape: Shape = "line", task: int = 0, slot: int = 1) -> bytes:
    return CommandTemplate(words, is_appended=True).render(record, shape, task, slot).command


@pytest.mark.parametrize(
    ("record", "parts"),
    [
        (b"a b/c.tar.gz", b"[a b/c.tar][c.tar.gz][a b][c.tar]"),
        (b".bashrc", b"[][.bashrc][.][]"),
        (b"dir.d/file", b"[dir.d/file][file][dir.d][file]"),
        (b"/x", b"[/x][x][/][x]"),
        (b"/", b"[/][][/][]"),
        (b"a/", b"[a/][][.][]"),
        (b"a/.b", b"[a/][.b][a][]"),
        (b"", b"[][][.][]"),
    ],
)
def test_template_path_parts_match_gnu_parallel(record: bytes, parts: bytes) -> None:
    words = CommandTemplate(("x", "[{.}][{/}][{//}][{/.}]"), is_appended=True).render(record, "line", 0, 1).argv
    assert words == [b"x", parts]


def test_template_task_counts_from_one_and_slot_is_given() -> None:
    assert command(("x", "{#}", "{%}"), b"t", task=6, slot=3) == b"x 7 3"


AB = encode_fields([b"a b", b"c.d"])
XY = encode_fields([b"1", b"2.c"], [b"x", b"long name"])


@pytest.mark.parametrize(
    ("words", "record", "shape", "expected"),
    [
        (("x {}",), AB, "columns", b"x 'a b' c.d"),
        (("x [{}]; y",), AB, "columns", b"x ['a b' c.d]; y"),
        (('x "{}";',), AB, "columns", b'x ""\'a b c.d\'"";'),
        (("x", "{}", "-{}"), AB, "columns", b"x 'a b' c.d '-a b c.d'"),
        (("x {2.} {-1} {1} [{3}];",), AB, "columns", b"x c c.d 'a b' [''];"),
        (("x p{}.q {.} y;",), AB, "packed", b"x p'a b'.q pc.d.q 'a b' c y;"),
        (("x", "p{}.q"), AB, "packed", b"x 'pa b.q' pc.d.q"),
        (("x 'p {}' {} ;",), AB, "packed", b"x 'p ''a b''' 'p 'c.d'' 'a b' c.d ;"),
        (("x {x} {long name.}",), XY, "columns", b"x 1 2"),
        (("x {y} {x y}",), XY, "columns", b"x {y} {x y} 1 2.c"),
        (("x",), AB, "columns", b"x 'a b' c.d"),
        (("x {n} {o} {1};",), b'{"n": 7, "o": {"k": [1]}}', "json", b"x 7 '{\"k\":[1]}' 7;"),
        (("x {}",), b'{"n": 7}', "json", b"x '{\"n\": 7}'"),
        (("x {2}",), b'["a", "b c"]', "json", b"x 'b c'"),
        (("awk '{print $1}'",), b"f", "line", b"awk '{print $1}' f"),
        (("echo {a,b} ${HOME} {}",), b"f", "line", b"echo {a,b} ${HOME} f"),
        ((), b"echo a; b", "line", b"echo a; b"),
        ((), AB, "columns", b"a b c.d"),
        ((), b"", "line", b""),
    ],
)
def test_template_arguments_match_gnu_parallel(
    words: tuple[str, ...], record: bytes, shape: Shape, expected: bytes
) -> None:
    assert command(words, record, shape) == expected


@pytest.mark.parametrize(("record", "text"), [(b" ", "blank"), (b"{", "not JSON"), (b"[" * 100_000, "not JSON")])
def test_template_render_invalid_json_raises(record: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        command(("x",), record, "json")


def test_template_without_command_runs_the_record() -> None:
    template = CommandTemplate((), is_appended=True)
    assert template.program is None
    assert template.render(b"ls -l", "line", 0, 1).argv == [b"ls", b"-l"]
    assert template.render(b"ls | wc", "line", 0, 1).argv == [b"sh", b"-c", b"ls | wc"]


def test_template_cache_is_bounded() -> None:
    template = CommandTemplate(("x {a}",), is_appended=True)
    for number in range(1000):
        template.render(encode_fields([b"1"], [b"%d" % number]), "columns", 0, 1)
    assert len(template._compiled_templates) <= MAX_COMPILED_TEMPLATES


@pytest.mark.parametrize(
    ("text", "expected"), [("", b"a b c.d"), ("x {2.}", b"x c"), ("{#}", b"5"), ("plain", b"plain")]
)
def test_output_tag_renders_arguments_or_its_text(text: str, expected: bytes) -> None:
    assert OutputTag(text).render(AB, "columns", 4, 1) == expected
