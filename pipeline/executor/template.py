"""From a command and a record to the words to execute.

One word of COMMAND is a shell line; it needs no shell when its own text holds nothing that a shell would interpret.
Several are an argv. Without a command, each record is a command line. Records are bytes and pass through as they are,
valid UTF-8 or not. Nothing is executed or looked up here.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from pipeline.executor.fillings import ArgvTemplate, ColumnNames, ShellTemplate
from pipeline.executor.quoting import needs_shell, shell_quote
from pipeline.executor.replacements import Arguments, find_replacements, parse_arguments
from pipeline.words.errors import UsageError
from pipeline.words.parts import Shape

SHELL = b"/bin/sh"
MAX_COMPILED_TEMPLATES = 64
"""Sets of column names for which a command is kept cut: each object of --jsonl may have others."""
ALL_ARGUMENTS = b"{}"
_COMMAND_WORD = re.compile(rb"(?:\{[^{}\n]*\}|\S)+")
"""Of a line that needs no shell; a column's name may hold blanks."""


class RenderedCommand(NamedTuple):
    """A command to execute: its program (None: by PATH, from argv), its argv; and its line, if a shell runs it."""

    program: bytes | None
    argv: list[bytes]
    line: bytes | None = None

    @property
    def command(self) -> bytes:
        """As a person would type it, and as GNU parallel's --dry-run and --joblog show it."""
        return b" ".join(map(shell_quote, self.argv)) if self.line is None else self.line


class CommandTemplate:
    """A command with places for the task. With `appended`, one without any gets the task as its last word.

    `program` is the word to execute, as far as it is known before the first task. A command of blanks, or one with a
    place where no argument can stand, is a UsageError.
    """

    def __init__(self, command: tuple[str, ...], *, is_appended: bool) -> None:
        self._command = [os.fsencode(word) for word in command]
        if command and not self._command[0].strip():
            raise UsageError("the command is empty")
        self._is_appended = is_appended
        self._compiled_templates: dict[tuple[Shape, ColumnNames], ShellTemplate | ArgvTemplate] = {}
        try:
            cut = self._get_compiled("line", ()) if command else None
        except ValueError as wrong:
            raise UsageError(str(wrong)) from None
        self.program = SHELL if isinstance(cut, ShellTemplate) else cut.program if cut else None

    def render(self, record: bytes, shape: Shape, task: int, slot: int) -> RenderedCommand:
        """The command for this record, the `task`-th from 0 on, in this slot. Raises ValueError with a sentence."""
        arguments = parse_arguments(record, shape)
        if not self._command:
            return _command_from_record(arguments)
        cut = self._get_compiled(shape, arguments.names)
        if isinstance(cut, ShellTemplate):
            return _shell_command(cut.expand(arguments, task, slot))
        return RenderedCommand(cut.program, cut.expand(arguments, task, slot))

    def _get_compiled(self, shape: Shape, names: ColumnNames) -> ShellTemplate | ArgvTemplate:
        """The command for tasks whose columns have these names. Raises ValueError."""
        key = shape, names
        if key not in self._compiled_templates:
            if len(self._compiled_templates) >= MAX_COMPILED_TEMPLATES:
                self._compiled_templates.clear()
            self._compiled_templates[key] = self._compile(names, packed=shape == "packed")
        return self._compiled_templates[key]

    def _compile(self, names: ColumnNames, *, packed: bool) -> ShellTemplate | ArgvTemplate:
        words = self._command
        if self._is_appended and not any(find_replacements(word, names) for word in words):
            words = [words[0] + b" " + ALL_ARGUMENTS] if len(words) == 1 else [*words, ALL_ARGUMENTS]
        if len(words) > 1:
            return ArgvTemplate(words, names, packed=packed)
        line = words[0]
        if needs_shell(_remove_placeholders(line, names)):
            return ShellTemplate(line, names, packed=packed)
        return ArgvTemplate(_COMMAND_WORD.findall(line), names, packed=packed)


class OutputTag:
    """What stands before each line of a task's output: `text` with its replacement strings; empty: the arguments."""

    def __init__(self, text: str) -> None:
        self._text = os.fsencode(text) or ALL_ARGUMENTS

    def render(self, record: bytes, shape: Shape, task: int, slot: int) -> bytes:
        """The tag of this task, without the tab behind it. Raises ValueError with a sentence."""
        arguments = parse_arguments(record, shape)
        (word,) = [self._text]
        return b" ".join(ArgvTemplate([word], arguments.names, packed=False).expand(arguments, task, slot))


def _command_from_record(arguments: Arguments) -> RenderedCommand:
    """The task is a command line itself; without a shell, where it needs none."""
    line = b" ".join(arguments.values) if arguments.whole_text is None else arguments.whole_text
    words = line.split()
    return RenderedCommand(None, words, line) if words and not needs_shell(line) else _shell_command(line)


def _shell_command(line: bytes) -> RenderedCommand:
    return RenderedCommand(SHELL, [b"sh", b"-c", line], line)


def _remove_placeholders(line: bytes, names: ColumnNames) -> bytes:
    """The line without what stands for a task."""
    for start, end, _ in reversed(find_replacements(line, names)):
        line = line[:start] + line[end:]
    return line
