"""From a command and a record to the words to execute.

One word of COMMAND is a shell line; it needs no shell when its own text holds nothing that a shell would interpret.
Several are an argv. Without a command, each record is a command line. Records are bytes and pass through as they are,
valid UTF-8 or not. Nothing is executed or looked up here.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from pipeline.executor.fillings import Argv, Names, ShellLine
from pipeline.executor.quoting import needs_shell, quoted
from pipeline.executor.replacements import Arguments, arguments_of, found
from pipeline.words.errors import UsageError
from pipeline.words.parts import Shape

SHELL = b"/bin/sh"
REMEMBERED = 64
"""Sets of column names for which a command is kept cut: each object of --jsonl may have others."""
WHOLE = b"{}"
_WORD = re.compile(rb"(?:\{[^{}\n]*\}|\S)+")
"""Of a line that needs no shell; a column's name may hold blanks."""


class Rendered(NamedTuple):
    """A command to execute: its program (None: by PATH, from argv), its argv; and its line, if a shell runs it."""

    program: bytes | None
    argv: list[bytes]
    line: bytes | None = None

    @property
    def command(self) -> bytes:
        """As a person would type it, and as GNU parallel's --dry-run and --joblog show it."""
        return b" ".join(map(quoted, self.argv)) if self.line is None else self.line


class Template:
    """A command with places for the task. With `appended`, one without any gets the task as its last word.

    `program` is the word to execute, as far as it is known before the first task. A command of blanks, or one with a
    place where no argument can stand, is a UsageError.
    """

    def __init__(self, command: tuple[str, ...], *, appended: bool) -> None:
        self._command = [os.fsencode(word) for word in command]
        if command and not self._command[0].strip():
            raise UsageError("the command is empty")
        self._appended = appended
        self._cuts: dict[tuple[Shape, Names], ShellLine | Argv] = {}
        try:
            cut = self._cut("line", ()) if command else None
        except ValueError as wrong:
            raise UsageError(str(wrong)) from None
        self.program = SHELL if isinstance(cut, ShellLine) else cut.program if cut else None

    def render(self, record: bytes, shape: Shape, task: int, slot: int) -> Rendered:
        """The command for this record, the `task`-th from 0 on, in this slot. Raises ValueError with a sentence."""
        arguments = arguments_of(record, shape)
        if not self._command:
            return _as_line(arguments)
        cut = self._cut(shape, arguments.names)
        if isinstance(cut, ShellLine):
            return _in_shell(cut.filled(arguments, task, slot))
        return Rendered(cut.program, cut.filled(arguments, task, slot))

    def _cut(self, shape: Shape, names: Names) -> ShellLine | Argv:
        """The command for tasks whose columns have these names. Raises ValueError."""
        key = shape, names
        if key not in self._cuts:
            if len(self._cuts) >= REMEMBERED:
                self._cuts.clear()
            self._cuts[key] = self._made(names, packed=shape == "packed")
        return self._cuts[key]

    def _made(self, names: Names, *, packed: bool) -> ShellLine | Argv:
        words = self._command
        if self._appended and not any(found(word, names) for word in words):
            words = [words[0] + b" " + WHOLE] if len(words) == 1 else [*words, WHOLE]
        if len(words) > 1:
            return Argv(words, names, packed=packed)
        line = words[0]
        if needs_shell(_without(line, names)):
            return ShellLine(line, names, packed=packed)
        return Argv(_WORD.findall(line), names, packed=packed)


class Tag:
    """What stands before each line of a task's output: `text` with its replacement strings; empty: the arguments."""

    def __init__(self, text: str) -> None:
        self._text = os.fsencode(text) or WHOLE

    def render(self, record: bytes, shape: Shape, task: int, slot: int) -> bytes:
        """The tag of this task, without the tab behind it. Raises ValueError with a sentence."""
        arguments = arguments_of(record, shape)
        (word,) = [self._text]
        return b" ".join(Argv([word], arguments.names, packed=False).filled(arguments, task, slot))


def _as_line(arguments: Arguments) -> Rendered:
    """The task is a command line itself; without a shell, where it needs none."""
    line = b" ".join(arguments.values) if arguments.whole is None else arguments.whole
    words = line.split()
    return Rendered(None, words, line) if words and not needs_shell(line) else _in_shell(line)


def _in_shell(line: bytes) -> Rendered:
    return Rendered(SHELL, [b"sh", b"-c", line], line)


def _without(line: bytes, names: Names) -> bytes:
    """The line without what stands for a task."""
    for start, end, _ in reversed(found(line, names)):
        line = line[:start] + line[end:]
    return line
