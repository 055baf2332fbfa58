"""COMMAND + record -> argv.

A command cut into pieces, so that filling in a task is a few joins: a shell line, or an argv.

In a shell line each argument is quoted, also where the line has quotes around it already; in an argv they stay raw, and
a place for all of them that stands alone is as many words. With `packed`, the word around a place for all
arguments is repeated for each. What is filled in was meant by `replacements`; nothing is executed here.

From a command and a record to the words to execute.

One word of COMMAND is a shell line; it needs no shell when its own text holds nothing that a shell would interpret.
Several are an argv. Without a command, each record is a command line. Records are bytes and pass through as they are,
valid UTF-8 or not. Nothing is executed or looked up here.
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

Placeholder = tuple[Replacement, bytes]
"""What stands for a part of the task, and the quote that is open there."""
TemplatePiece = bytes | Placeholder
ColumnNames = tuple[bytes, ...]


class TemplateWord(Struct, frozen=True):
    """A stretch of the command; `is_repeated`: it comes once for each argument."""

    pieces: list[TemplatePiece]
    is_repeated: bool = False

    def expand(
        self, arguments: Arguments, task: int, slot: int, quote: Callable[[list[bytes], bytes], bytes]
    ) -> list[bytes]:
        """What becomes of it: one text, or one for each argument."""
        alone = [Arguments([value]) for value in arguments.values] if self.is_repeated else [arguments]
        return [self._expand_once(own, task, slot, quote) for own in alone]

    def _expand_once(
        self, arguments: Arguments, task: int, slot: int, quote: Callable[[list[bytes], bytes], bytes]
    ) -> bytes:
        return b"".join(
            [
                piece if isinstance(piece, bytes) else quote(piece[0].expand(arguments, task, slot), piece[1])
                for piece in self.pieces
            ]
        )

    @property
    def sole_replacement(self) -> Replacement | None:
        """What stands there alone, if it stands for all arguments."""
        (only, *more) = self.pieces or [b""]
        return only[0] if not more and not isinstance(only, bytes) and only[0].is_all else None


class ShellTemplate:
    """One line, for a shell. Raises ValueError for a place where an argument would not stay one word."""

    def __init__(self, line: bytes, names: ColumnNames, *, packed: bool) -> None:
        hits = find_replacements(line, names)
        quotes = find_open_quotes(line, [(start, end) for start, end, _ in hits])
        places = [(start, end, (meant, quote)) for (start, end, meant), quote in zip(hits, quotes, strict=True)]
        self._words, at = [], 0
        for start, end in split_words(line) if packed else [(0, len(line))]:
            self._words.append(TemplateWord([line[at:start]]))
            own = [place for place in places if start <= place[0] < end]
            self._words.append(
                TemplateWord(_split_pieces(line, (start, end), own), packed and any(one[2][0].is_all for one in own))
            )
            at = end
        self._words.append(TemplateWord([line[at:]]))

    def expand(self, arguments: Arguments, task: int, slot: int) -> bytes:
        """The line for a task."""
        return b"".join([b" ".join(word.expand(arguments, task, slot, _quote_for_shell)) for word in self._words])


class ArgvTemplate:
    """Several words, which no shell sees."""

    def __init__(self, words: list[bytes], names: ColumnNames, *, packed: bool) -> None:
        self._words = []
        for word in words:
            places = [(start, end, (meant, b"")) for start, end, meant in find_replacements(word, names)]
            pieces = _split_pieces(word, (0, len(word)), places)
            self._words.append(TemplateWord(pieces, packed and any(place[2][0].is_all for place in places)))
        first = self._words[0].pieces
        self.program = first[0] if len(first) == 1 and isinstance(first[0], bytes) else None
        """The word to execute; None when it depends on the task."""

    def expand(self, arguments: Arguments, task: int, slot: int) -> list[bytes]:
        """The words for a task."""
        words: list[bytes] = []
        for word in self._words:
            if replacement := word.sole_replacement:
                words += replacement.expand(arguments, task, slot)
            else:
                words += word.expand(arguments, task, slot, _join_raw)
        return words


def _split_pieces(text: bytes, span: ByteSpan, placeholders: list[tuple[int, int, Placeholder]]) -> list[TemplatePiece]:
    """The text of that span, cut at its places."""
    pieces: list[TemplatePiece] = []
    at, end = span
    for start, after, place in placeholders:
        pieces += [text[at:start], place] if at < start else [place]
        at = after
    return [*pieces, text[at:end]] if at < end or not pieces else pieces


def _quote_for_shell(values: list[bytes], quote: bytes) -> bytes:
    """Each value a word; within quotes, which are closed and opened again, all of them one."""
    return quote + shell_quote(b" ".join(values)) + quote if quote else b" ".join(map(shell_quote, values))


def _join_raw(values: list[bytes], _: bytes) -> bytes:
    return b" ".join(values)


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
