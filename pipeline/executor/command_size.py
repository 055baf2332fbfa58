"""How many arguments fit one command of -X.

Invariants:
  - a packed command is never larger than the system allows, unless a single argument is;
  - the size of an argument does not depend on its neighbours, so packing costs little for each argument.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.executor.command_template import CommandTemplate
from pipeline.executor.replacement_strings import shell_quote
from pipeline.model.records import PackingLimit, encode_fields
from pipeline.system.exec_limits import MAX_WORD_BYTES, POINTER_BYTES, environment_size, max_exec_bytes, words_size

MAX_PACKED_BYTES = 256 << 10
"""Limit of a packed command where the system allows more: about as many arguments as xargs takes."""
RESERVED_BYTES = 4096
"""For the variables of the task, the path of its program, and the interpreter of a script."""
ROUNDING_BYTES = 8192
"""The room is rounded down, so that a resumed run forms the same commands though a few variables have changed."""
MAX_TASK, MAX_SLOT = 10**15, 10**6
"""For the length of `{#}` and `{%}`."""
MIN_ARGUMENT_BYTES = 2
"""An empty argument in a shell line; also a bound for `{//}`, which may be longer than a short argument."""


def limit_command(
    command: tuple[str, ...], environment: Mapping[bytes, bytes], *, is_appended: bool, stack_bytes: int | None = None
) -> PackingLimit:
    """Return the limit of arguments for one command, in this environment. Raise UsageError as CommandTemplate does."""
    allowed = max_exec_bytes(stack_bytes) - environment_size(environment) - RESERVED_BYTES
    allowed = min(MAX_PACKED_BYTES, allowed - allowed % ROUNDING_BYTES)
    if not command:
        return limit_any_command(allowed)
    template = CommandTemplate(command, is_appended=is_appended)

    def measure_command(*arguments: bytes) -> int:
        rendered = template.render(encode_fields(list(arguments)), "packed", MAX_TASK, MAX_SLOT)
        return words_size(rendered.argv) if rendered.line is None else len(rendered.line)

    is_line = template.render(encode_fields([]), "packed", 0, 1).line is not None
    fixed, count = measure_command(), template.placeholder_count
    step = measure_command(b"a", b"a") - measure_command(
        b"a"
    )  # the size of an argument of one byte, with the text around it

    def measure(argument: bytes) -> int:
        size = len(shell_quote(argument) if is_line else argument)
        # with --stdin, the argument is not part of the command
        return max(step + count * (max(size, MIN_ARGUMENT_BYTES) - 1), len(argument) + 1)

    return PackingLimit(min(allowed, MAX_WORD_BYTES - 1 if is_line else allowed) - fixed, measure)


def limit_any_command(allowed: int) -> PackingLimit:
    """Return the limit for a command that is not known here, which has each argument once."""

    def measure(argument: bytes) -> int:
        return len(shell_quote(argument)) + 1 + POINTER_BYTES * (argument.count(b" ") + 1)

    return PackingLimit(min(allowed, MAX_WORD_BYTES - 1) - RESERVED_BYTES, measure)
