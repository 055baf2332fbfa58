"""From a command and a record to the words to execute: `{}` is the task.

One word is a shell line, in which the task is quoted, also where the line has quotes around it already; it needs no
shell when its own text holds nothing that a shell would interpret. Several words are an argv, in which the task stays
raw. Records are bytes and pass through as they are, valid UTF-8 or not. Nothing is executed or looked up here.
"""

from __future__ import annotations

import os

from pipeline.words.errors import UsageError

TASK = b"{}"
PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_"
"""What no shell interprets, anywhere in a word."""
SHELL_CHARACTERS = frozenset(b"\n\r'\"\\`$|&;<>()*?[]{}~#!")
SHELL_WORDS = frozenset(
    b". : alias bg break cd command continue eval exec exit export fc fg getopts hash jobs local read readonly return"
    b" set shift times trap type ulimit umask unalias unset wait".split()
)
"""Words that only a shell knows: as the first word of a line, they call for one."""


def quoted(text: bytes) -> bytes:
    """`text` as one word of a shell line; shlex.quote for bytes."""
    if text and not text.translate(None, PLAIN):
        return text
    return b"'" + text.replace(b"'", b"'\"'\"'") + b"'"


def quotes_around(line: bytes) -> list[bytes]:
    """For each `{}` of a shell line the quote that is open there, b"" if none.

    Raises UsageError where a quoted task would not stay one word: behind a backslash, in a here-document, or within
    double quotes in a substitution.
    """
    around: list[bytes] = []
    quote, since, at = b"", 0, 0
    while at < len(line):
        char = line[at : at + 1]
        if char == b"\\" and quote != b"'":
            if line.startswith(TASK, at + 1):
                raise UsageError("{} can't stand behind a backslash; it is quoted for the shell anyway")
            at += 2
            continue
        if line.startswith(TASK, at):
            inside = line[since:at]
            if quote == b'"' and (b"$(" in inside or b"`" in inside or b"${" in inside):
                raise UsageError("{} can't be quoted within a substitution in double quotes; put it into a script")
            around.append(quote)
        elif not quote and line.startswith(b"<<", at) and TASK in line[at:]:
            raise UsageError("{} can't be quoted in a here-document; use --stdin, or put it into a script")
        elif char in (b"'", b'"') and quote in (b"", char):
            quote, since = (b"" if quote else char), at + 1
        at += 1
    return around


def needs_shell(line: bytes) -> bool:
    """Whether `line`, its `{}` aside, means more than its words."""
    text = line.replace(TASK, b"")
    first = (line.split() or [b""])[0]
    return not SHELL_CHARACTERS.isdisjoint(text) or b"=" in first or first in SHELL_WORDS


class Template:
    """A command with places for the task.

    `program` is the word to execute; None when it depends on the task. With `appended`, a command without `{}`
    gets the task as its last word. A command of no words, or of blanks, is a UsageError.
    """

    def __init__(self, command: tuple[str, ...], *, appended: bool) -> None:
        words = [os.fsencode(word) for word in command]
        if not words or not words[0].strip():
            raise UsageError("the command is empty")
        if appended and not any(TASK in word for word in words):
            words = [words[0] + b" " + TASK] if len(words) == 1 else [*words, TASK]
        self._shell = len(words) == 1 and needs_shell(words[0])
        if len(words) == 1 and not self._shell:
            words = words[0].split()
        # a word is kept cut at its `{}`, so that filling it in is one join
        self._words = [word.split(TASK) for word in words]
        self._quotes = quotes_around(words[0]) if self._shell else []
        self.program = b"/bin/sh" if self._shell else words[0] if len(self._words[0]) == 1 else None

    def render(self, record: bytes) -> list[bytes]:
        """The words to execute for this record, the program's name first."""
        if self._shell:
            task = quoted(record)
            if not any(self._quotes):
                return [b"sh", b"-c", task.join(self._words[0])]
            places = (quote + task + quote for quote in self._quotes)  # closes the quotes, and opens them again
            line = b"".join(piece for pair in zip(self._words[0], (*places, b""), strict=True) for piece in pair)
            return [b"sh", b"-c", line]
        return [record.join(parts) for parts in self._words]
