"""Replacement strings such as `{}`, `{.}`, `{2/}`, `{name}`, `{#}`, with GNU parallel's meaning; shell quoting.

Invariants:
  - a task is one argument or several, with names or without;
  - braces that name no column are not a replacement string: `{print $1}`, `{a,b}` and `${HOME}` stay as they are;
  - texts are bytes, valid UTF-8 or not. Nothing is executed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from pipeline.model import records
from pipeline.model.messages import Shape

ByteSpan = tuple[int, int]

_BRACES = re.compile(rb"\{[^{}\n]*\}")
_COLUMN_NUMBER = re.compile(rb"-?[1-9][0-9]{0,8}")

SHELL_SAFE_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_"
"""Characters that no shell interprets, anywhere in a word."""
SHELL_CHARACTERS = frozenset(b"\n\r'\"\\`$|&;<>()*?[]{}~#!")
SHELL_WORDS = frozenset(
    b". : alias bg break cd command continue eval exec exit export fc fg getopts hash jobs local read readonly return"
    b" set shift times trap type ulimit umask unalias unset wait".split()
)
"""First words of a line that only a shell knows."""


class QuotingError(ValueError):
    """A placeholder stands where an argument cannot be quoted. `hint` says what to write instead."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class Arguments(Struct, frozen=True):
    """A task's arguments. `whole_text` is what `{}` stands for, if that is not all of the values."""

    values: list[bytes]
    names: tuple[bytes, ...] = ()
    whole_text: bytes | None = None


def _strip_extension(text: bytes) -> bytes:
    return re.sub(rb"\.[^/.]+\Z", b"", text)


def _basename(text: bytes) -> bytes:
    return text.rpartition(b"/")[2]


def _dirname(text: bytes) -> bytes:
    """Return the directory as Perl's dirname does: `a` of `a/b`, `.` of `a/` and `a`, `/` of `/x`."""
    head, slash, _ = text.rstrip(b"/").rpartition(b"/")
    if slash:
        return head.rstrip(b"/") or b"/"
    return b"/" if text.startswith(b"/") else b"."


_TRANSFORMS: dict[bytes, Callable[[bytes], bytes]] = {
    b"": lambda text: text,
    b"/.": lambda text: _strip_extension(_basename(text)),
    b"//": _dirname,
    b"/": _basename,
    b".": _strip_extension,
}


class Replacement(Struct, frozen=True):
    """One replacement string: the argument (an empty key: all), and the transform of its text."""

    key: bytes
    transform: bytes

    @property
    def is_all(self) -> bool:
        return not self.key

    def expand(self, arguments: Arguments, task: int, slot: int) -> list[bytes]:
        """Return the text, or the text of each argument. A missing argument is empty, as in GNU parallel."""
        transform = _TRANSFORMS[self.transform]
        if not self.key:
            texts = arguments.values if arguments.whole_text is None else [arguments.whole_text]
            return [transform(text) for text in texts]
        if self.key in b"#%":
            return [b"%d" % (task + 1 if self.key == b"#" else slot)]
        if self.key in arguments.names:
            return [transform(arguments.values[arguments.names.index(self.key)])]
        number = int(self.key)
        index = number - 1 if number > 0 else len(arguments.values) + number
        return [transform(arguments.values[index]) if 0 <= index < len(arguments.values) else b""]


def find_replacements(text: bytes, names: tuple[bytes, ...]) -> list[tuple[int, int, Replacement]]:
    """Return start, end and meaning of each replacement string, if the columns have these names."""
    matches = [(match, _parse_replacement(match[0][1:-1], names)) for match in _BRACES.finditer(text)]
    return [(match.start(), match.end(), replacement) for match, replacement in matches if replacement]


def _parse_replacement(content: bytes, names: tuple[bytes, ...]) -> Replacement | None:
    if content in (b"#", b"%"):
        return Replacement(content, b"")
    for transform in _TRANSFORMS:
        key = content.removesuffix(transform) if content.endswith(transform) else None
        if key is not None and (key == b"" or key in names or _COLUMN_NUMBER.fullmatch(key)):
            return Replacement(key, transform)
    return None


def parse_arguments(record: bytes, shape: Shape) -> Arguments:
    """Return the arguments in a record. Raise ValueError if the record is not of this shape."""
    if shape == "line":
        return Arguments([record])
    if shape == "json":
        return _parse_json(record)
    values, names = records.decode_fields(record)
    return Arguments(values, tuple(names))


def _parse_json(record: bytes) -> Arguments:
    import json  # not needed by most runs, whose records are lines

    if not record.strip():
        raise ValueError("not JSON: blank line")
    try:
        value: Any = json.loads(record.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(value, dict):
        return Arguments([_encode_value(item) for item in value.values()], tuple(map(_encode_value, value)), record)
    items = value if isinstance(value, list) else [value]
    return Arguments([_encode_value(item) for item in items], (), record)


def _encode_value(value: Any) -> bytes:
    """Encode a text as it is, any other value as JSON."""
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape")


def shell_quote(text: bytes) -> bytes:
    """Return the text as one word of a shell line: shlex.quote for bytes."""
    if text and not text.translate(None, SHELL_SAFE_CHARACTERS):
        return text
    return b"'" + text.replace(b"'", b"'\"'\"'") + b"'"


def needs_shell(text: bytes) -> bool:
    """Return whether a shell would do more with this line, which has no placeholders, than split it into words."""
    first = (text.split() or [b""])[0]
    return not SHELL_CHARACTERS.isdisjoint(text) or b"=" in first or first in SHELL_WORDS


def find_open_quotes(line: bytes, spans: Sequence[ByteSpan]) -> list[bytes]:
    """Return the quote that is open at each placeholder span of a shell line, b"" for none.

    Raises QuotingError for a placeholder that would not stay one word: after a backslash, in a here-document, or in a
    substitution within double quotes.
    """
    open_quotes: list[bytes] = []
    ends = dict(spans)
    quote, quote_start, offset = b"", 0, 0
    while offset < len(line):
        char = line[offset : offset + 1]
        if char == b"\\" and quote != b"'":
            if offset + 1 in ends:
                placeholder = _decode_placeholder(line, offset + 1, ends)
                raise QuotingError(f"{placeholder} cannot follow a backslash", "remove it: arguments are quoted anyway")
            offset += 2
            continue
        if offset in ends:
            inside = line[quote_start:offset]
            if quote == b'"' and (b"$(" in inside or b"`" in inside or b"${" in inside):
                placeholder = _decode_placeholder(line, offset, ends)
                raise QuotingError(
                    f"{placeholder} cannot be quoted in a substitution within double quotes",
                    "pass it as an argument: `sh -c '... \"$1\" ...' _ {}`",
                )
            open_quotes.append(quote)
            offset = ends[offset]
            continue
        if not quote and line.startswith(b"<<", offset) and any(start > offset for start in ends):
            raise QuotingError("{} cannot be quoted in a here-document", "use --stdin, or put the command in a script")
        if char in (b"'", b'"') and quote in (b"", char):
            quote, quote_start = (b"" if quote else char), offset + 1
        offset += 1
    return open_quotes


def _decode_placeholder(line: bytes, start: int, ends: dict[int, int]) -> str:
    return line[start : ends[start]].decode(errors="replace")


def split_words(line: bytes) -> list[ByteSpan]:
    """Return the spans of the words of a shell line; blanks within quotes belong to their word."""
    spans: list[ByteSpan] = []
    quote, start, offset = b"", -1, 0
    while offset < len(line):
        char = line[offset : offset + 1]
        if not quote and char in b" \t\n":
            if start >= 0:
                spans.append((start, offset))
            start = -1
        elif start < 0:
            start = offset
        if char == b"\\" and quote != b"'":
            offset += 1
        elif char in (b"'", b'"') and quote in (b"", char):
            quote = b"" if quote else char
        offset += 1
    return [*spans, (start, len(line))] if start >= 0 else spans
