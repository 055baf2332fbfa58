"""From COMMAND and a record to the arguments to execute.

A command is compiled into pieces once, so that rendering a task is a few joins:
  - one word of COMMAND is a shell line; it needs no shell if its own text contains nothing that a shell interprets;
  - several words are an argv, which no shell reads;
  - without a command, each record is a command line.

Invariants:
  - in a shell line each argument is quoted, even inside quotes of the line; in an argv arguments stay raw, and a
    placeholder for all arguments that is a word of its own becomes one word for each;
  - with shape "packed", the word around a placeholder for all arguments is repeated for each argument;
  - records are bytes and stay as they are, valid UTF-8 or not. Nothing is executed or looked up here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from pipeline.executor.replacement_strings import (
    Arguments,
    ByteSpan,
    QuotingError,
    Replacement,
    find_open_quotes,
    find_replacements,
    needs_shell,
    parse_arguments,
    shell_quote,
    split_words,
)
from pipeline.model.errors import UsageError
from pipeline.model.messages import Shape

SHELL = b"/bin/sh"
MAX_COMPILED_TEMPLATES = 64  # of one command: each object of --jsonl may have other column names
ALL_ARGUMENTS = b"{}"
_COMMAND_WORD = re.compile(rb"(?:\{[^{}\n]*\}|\S)+")  # of a line without shell; a column's name may contain blanks

Placeholder = tuple[Replacement, bytes]
"""A part of the task, and the quote that is open there."""
TemplatePiece = bytes | Placeholder
ColumnNames = tuple[bytes, ...]


class RenderedCommand(NamedTuple):
    """A command to execute: its program (None: by PATH, from argv), its argv, and its line if a shell runs it."""

    program: bytes | None
    argv: list[bytes]
    line: bytes | None = None

    @property
    def command(self) -> bytes:
        """The command as a user would type it, and as GNU parallel's --dry-run and --joblog show it."""
        return b" ".join(map(shell_quote, self.argv)) if self.line is None else self.line


class CommandTemplate:
    """A command with placeholders. If `is_appended`, a command without any gets the task as its last argument.

    `program` is the word to execute, if it does not depend on the task. Raises UsageError for a blank command and for
    a placeholder where an argument cannot be quoted.
    """

    def __init__(self, command: tuple[str, ...], *, is_appended: bool) -> None:
        self._command = [os.fsencode(word) for word in command]
        if command and not self._command[0].strip():
            raise UsageError("the command is empty")
        self._is_appended = is_appended
        self._compiled_templates: dict[tuple[Shape, ColumnNames], ShellTemplate | ArgvTemplate] = {}
        try:
            template = self._get_compiled("line", ()) if command else None
        except QuotingError as error:
            raise UsageError(str(error), error.hint) from None
        self.program = SHELL if isinstance(template, ShellTemplate) else template.program if template else None

    @property
    def placeholder_count(self) -> int:
        """The number of places that an argument may take, each once or repeated for each argument."""
        replacements = [match for word in self._appended_words(()) for match in find_replacements(word, ())]
        return sum(replacement.key not in (b"#", b"%") for _, _, replacement in replacements)

    def render(self, record: bytes, shape: Shape, task: int, slot: int) -> RenderedCommand:
        """Return the command of a task, counted from 0. Raise ValueError if the record does not fit."""
        arguments = parse_arguments(record, shape)
        if not self._command:
            return _command_from_record(arguments)
        template = self._get_compiled(shape, arguments.names)
        if isinstance(template, ShellTemplate):
            return _shell_command(template.expand(arguments, task, slot))
        return RenderedCommand(template.program, template.expand(arguments, task, slot))

    def _get_compiled(self, shape: Shape, names: ColumnNames) -> ShellTemplate | ArgvTemplate:
        """Return the template for tasks with these column names. Raise QuotingError."""
        key = shape, names
        if key not in self._compiled_templates:
            if len(self._compiled_templates) >= MAX_COMPILED_TEMPLATES:
                self._compiled_templates.clear()
            self._compiled_templates[key] = self._compile(names, is_packed=shape == "packed")
        return self._compiled_templates[key]

    def _compile(self, names: ColumnNames, *, is_packed: bool) -> ShellTemplate | ArgvTemplate:
        words = self._appended_words(names)
        if len(words) > 1:
            return ArgvTemplate(words, names, is_packed=is_packed)
        line = words[0]
        if needs_shell(_remove_placeholders(line, names)):
            return ShellTemplate(line, names, is_packed=is_packed)
        return ArgvTemplate(_COMMAND_WORD.findall(line), names, is_packed=is_packed)

    def _appended_words(self, names: ColumnNames) -> list[bytes]:
        """Return the command with {} appended, if it needs that."""
        words = self._command
        if not self._is_appended or any(find_replacements(word, names) for word in words):
            return words
        return [words[0] + b" " + ALL_ARGUMENTS] if len(words) == 1 else [*words, ALL_ARGUMENTS]


class OutputTag:
    """Text before each line of a task's output, with replacement strings; if it is empty, the arguments."""

    def __init__(self, text: str) -> None:
        self._text = os.fsencode(text) or ALL_ARGUMENTS

    def render(self, record: bytes, shape: Shape, task: int, slot: int) -> bytes:
        """Return the tag of a task, without the tab after it. Raise ValueError if the record does not fit."""
        arguments = parse_arguments(record, shape)
        template = ArgvTemplate([self._text], arguments.names, is_packed=False)
        return b" ".join(template.expand(arguments, task, slot))


class ShellTemplate:
    """One line for a shell. Raises QuotingError for a placeholder where an argument would not stay one word."""

    def __init__(self, line: bytes, names: ColumnNames, *, is_packed: bool) -> None:
        matches = find_replacements(line, names)
        quotes = find_open_quotes(line, [(start, end) for start, end, _ in matches])
        placeholders = [
            (start, end, (replacement, quote)) for (start, end, replacement), quote in zip(matches, quotes, strict=True)
        ]
        self._words, offset = [], 0
        for start, end in split_words(line) if is_packed else [(0, len(line))]:
            self._words.append(TemplateWord([line[offset:start]]))
            inside = [placeholder for placeholder in placeholders if start <= placeholder[0] < end]
            self._words.append(_compile_word(line, (start, end), inside, is_packed=is_packed))
            offset = end
        self._words.append(TemplateWord([line[offset:]]))

    def expand(self, arguments: Arguments, task: int, slot: int) -> bytes:
        """Return the line of a task."""
        return b"".join([b" ".join(word.expand(arguments, task, slot, _quote_for_shell)) for word in self._words])


class ArgvTemplate:
    """Several words, which no shell reads. `program` is the first, or None if it depends on the task."""

    def __init__(self, words: list[bytes], names: ColumnNames, *, is_packed: bool) -> None:
        self._words = []
        for word in words:
            matches = find_replacements(word, names)
            placeholders = [(start, end, (replacement, b"")) for start, end, replacement in matches]
            self._words.append(_compile_word(word, (0, len(word)), placeholders, is_packed=is_packed))
        first = self._words[0].pieces
        self.program = first[0] if len(first) == 1 and isinstance(first[0], bytes) else None

    def expand(self, arguments: Arguments, task: int, slot: int) -> list[bytes]:
        """Return the words of a task."""
        words: list[bytes] = []
        for word in self._words:
            if replacement := word.sole_replacement:
                words += replacement.expand(arguments, task, slot)
            else:
                words += word.expand(arguments, task, slot, _join_raw)
        return words


class TemplateWord(Struct, frozen=True):
    """A part of the command; if `is_repeated`, it occurs once for each argument."""

    pieces: list[TemplatePiece]
    is_repeated: bool = False

    def expand(
        self, arguments: Arguments, task: int, slot: int, quote: Callable[[list[bytes], bytes], bytes]
    ) -> list[bytes]:
        """Return one text, or one for each argument."""
        groups = [Arguments([value]) for value in arguments.values] if self.is_repeated else [arguments]
        return [
            b"".join(
                [
                    piece if isinstance(piece, bytes) else quote(piece[0].expand(group, task, slot), piece[1])
                    for piece in self.pieces
                ]
            )
            for group in groups
        ]

    @property
    def sole_replacement(self) -> Replacement | None:
        """The replacement for all arguments, if the word is nothing else."""
        (first, *others) = self.pieces or [b""]
        return first[0] if not others and not isinstance(first, bytes) and first[0].is_all else None


def _compile_word(
    text: bytes, span: ByteSpan, placeholders: list[tuple[int, int, Placeholder]], *, is_packed: bool
) -> TemplateWord:
    """Split the text of this span at its placeholders."""
    pieces: list[TemplatePiece] = []
    offset, end = span
    for start, placeholder_end, placeholder in placeholders:
        pieces += [text[offset:start], placeholder] if offset < start else [placeholder]
        offset = placeholder_end
    if offset < end or not pieces:
        pieces.append(text[offset:end])
    return TemplateWord(pieces, is_packed and any(replacement.is_all for _, _, (replacement, _) in placeholders))


def _quote_for_shell(values: list[bytes], quote: bytes) -> bytes:
    """Quote each value as a word; inside quotes, which are closed and opened again, quote all of them as one."""
    return quote + shell_quote(b" ".join(values)) + quote if quote else b" ".join(map(shell_quote, values))


def _join_raw(values: list[bytes], _: bytes) -> bytes:
    return b" ".join(values)


def _command_from_record(arguments: Arguments) -> RenderedCommand:
    """Return the command of a record that is a command line itself."""
    line = b" ".join(arguments.values) if arguments.whole_text is None else arguments.whole_text
    words = line.split()
    return RenderedCommand(None, words, line) if words and not needs_shell(line) else _shell_command(line)


def _shell_command(line: bytes) -> RenderedCommand:
    return RenderedCommand(SHELL, [b"sh", b"-c", line], line)


def _remove_placeholders(line: bytes, names: ColumnNames) -> bytes:
    for start, end, _ in reversed(find_replacements(line, names)):
        line = line[:start] + line[end:]
    return line
