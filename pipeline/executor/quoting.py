"""What a shell makes of a line: how a text stays one word in it, where its words end, whether it is needed at all.

Bytes in, bytes out, valid UTF-8 or not. Nothing is executed here.
"""

from __future__ import annotations

from collections.abc import Sequence

SHELL_SAFE_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_"
"""What no shell interprets, anywhere in a word."""
SHELL_CHARACTERS = frozenset(b"\n\r'\"\\`$|&;<>()*?[]{}~#!")
SHELL_WORDS = frozenset(
    b". : alias bg break cd command continue eval exec exit export fc fg getopts hash jobs local read readonly return"
    b" set shift times trap type ulimit umask unalias unset wait".split()
)
"""Words that only a shell knows: as the first word of a line, they call for one."""

ByteSpan = tuple[int, int]


def shell_quote(text: bytes) -> bytes:
    """`text` as one word of a shell line; shlex.quote for bytes."""
    if text and not text.translate(None, SHELL_SAFE_CHARACTERS):
        return text
    return b"'" + text.replace(b"'", b"'\"'\"'") + b"'"


def needs_shell(text: bytes) -> bool:
    """Whether this line, in which nothing stands for a task any more, means more than its words."""
    first = (text.split() or [b""])[0]
    return not SHELL_CHARACTERS.isdisjoint(text) or b"=" in first or first in SHELL_WORDS


def find_open_quotes(line: bytes, spans: Sequence[ByteSpan]) -> list[bytes]:
    """For each of these spans of a shell line, where a task will stand, the quote that is open there; b"" if none.

    Raises ValueError where a quoted task would not stay one word: behind a backslash, in a here-document, or within
    double quotes in a substitution.
    """
    around: list[bytes] = []
    starts = dict(spans)
    quote, since, at = b"", 0, 0
    while at < len(line):
        char = line[at : at + 1]
        if char == b"\\" and quote != b"'":
            if at + 1 in starts:
                raise ValueError(
                    f"{_decode_placeholder(line, at + 1, starts)} can't stand behind a backslash; it is quoted anyway"
                )
            at += 2
            continue
        if at in starts:
            inside = line[since:at]
            if quote == b'"' and (b"$(" in inside or b"`" in inside or b"${" in inside):
                where = "within a substitution in double quotes; pass it on, as in `sh -c '... \"$1\" ...' _ {}`"
                raise ValueError(f"{_decode_placeholder(line, at, starts)} can't be quoted {where}")
            around.append(quote)
            at = starts[at]
            continue
        if not quote and line.startswith(b"<<", at) and any(start > at for start in starts):
            raise ValueError("{} can't be quoted in a here-document; use --stdin, or put it into a script")
        if char in (b"'", b'"') and quote in (b"", char):
            quote, since = (b"" if quote else char), at + 1
        at += 1
    return around


def split_words(line: bytes) -> list[ByteSpan]:
    """Where the words of a shell line are, blanks within quotes being part of their word."""
    spans: list[ByteSpan] = []
    quote, start, at = b"", -1, 0
    while at < len(line):
        char = line[at : at + 1]
        if not quote and char in b" \t\n":
            if start >= 0:
                spans.append((start, at))
            start = -1
        elif start < 0:
            start = at
        if char == b"\\" and quote != b"'":
            at += 1
        elif char in (b"'", b'"') and quote in (b"", char):
            quote = b"" if quote else char
        at += 1
    return [*spans, (start, len(line))] if start >= 0 else spans


def _decode_placeholder(line: bytes, start: int, ends: dict[int, int]) -> str:
    return line[start : ends[start]].decode(errors="replace")
