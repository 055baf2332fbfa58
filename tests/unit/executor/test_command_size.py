"""How many arguments fit one command of -X, compared with the size of the command and with the kernel."""

from __future__ import annotations

import subprocess

import pytest

from pipeline.executor.command_size import limit_command
from pipeline.executor.command_template import CommandTemplate
from pipeline.model.records import encode_fields
from pipeline.system.exec_limits import MAX_WORD_BYTES, environment_size, max_exec_bytes, words_size

SMALL_STACK, LARGE_STACK = 256 << 10, 8 << 20
ARGUMENTS = {
    "short": [b"7"],
    "long": [b"some/longer/name.%d.txt" % number for number in range(7)],
    "quoted": [b"it's", b"a b", b"", b"\xff"],
    "slashes": [b"/", b"a/", b""],
}
COMMANDS = {
    "appended": ("echo",),
    "argv": ("mv", "{}", "to/{}.bak", "-t{#}"),
    "transformed": ("echo", "{/}", "{//}", "{.}x"),
    "first": ("echo", "{1}", "{}"),
    "line": ("echo {} >&2",),
    "twice": ("echo '{} and' x{}.{/} > out{%}",),
}


def pack(arguments: list[bytes], command: tuple[str, ...], variable: bytes, stack: int) -> list[bytes]:
    """Return the arguments of a full command, these ones repeated."""
    limit = limit_command(command, {b"V": variable}, is_appended=True, stack_bytes=stack)
    group, size = [arguments[0]], limit.measure(arguments[0])
    while size + limit.measure(argument := arguments[len(group) % len(arguments)]) <= limit.room:
        group.append(argument)
        size += limit.measure(argument)
    return group


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(("variable_bytes", "stack"), [(80_000, SMALL_STACK), (10, LARGE_STACK)])
def test_packed_command_is_within_the_limit(
    variable_bytes: int, stack: int, command: tuple[str, ...], arguments: list[bytes]
) -> None:
    variable = b"x" * variable_bytes
    group = pack(arguments, command, variable, stack)
    rendered = CommandTemplate(command, is_appended=True).render(encode_fields(group), "packed", 10**9, 10**3)
    used = words_size(rendered.argv) + environment_size({b"V": variable})
    assert used <= max_exec_bytes(stack)
    assert all(len(word) < MAX_WORD_BYTES for word in rendered.argv)


def test_packed_command_takes_most_of_the_limit() -> None:
    group = pack([b"12345"], ("echo {}",), b"", SMALL_STACK)
    assert len(group) * 14 > max_exec_bytes(SMALL_STACK) - 16_000
    group = pack([b"12345"], ("echo {} ;",), b"", LARGE_STACK)
    assert len(group) * 6 > MAX_WORD_BYTES - 100


@pytest.mark.parametrize(("variable_bytes", "stack_kib"), [(10, 256), (100_000, 256), (100_000, 1024)])
def test_packed_command_is_executed(variable_bytes: int, stack_kib: int) -> None:
    variable = b"x" * variable_bytes
    group = pack([b"1", b"22"], ("/bin/true", "{}"), variable, stack_kib << 10)
    shell = [b"/bin/sh", b"-c", b'ulimit -S -s %d; exec /bin/true "$@"' % stack_kib, b"sh"]
    subprocess.run([*shell, *group], env={b"V": variable}, check=True)


def test_command_not_known_here_is_measured_as_the_largest_form() -> None:
    limit = limit_command((), {}, is_appended=True, stack_bytes=SMALL_STACK)
    count = limit.room // limit.measure(b"1")
    assert words_size([b"echo", *[b"1"] * count]) < max_exec_bytes(SMALL_STACK)
    assert limit.measure(b"it's") > len(b"'it'\"'\"'s' ")


def test_arguments_on_stdin_are_limited() -> None:
    limit = limit_command(("wc -c",), {}, is_appended=False)
    assert limit.measure(b"x" * 1000) > 1000
