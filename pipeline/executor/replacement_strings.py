"""{} {.} {1} {name}; shell quoting.

Replacement strings: what `{}`, `{.}`, `{2/}`, `{name}`, `{#}` and their like stand for, with GNU parallel's meaning.

A task is one argument or several, with names or without. What names no column is no replacement string and stays as it
is, so that `{print $1}`, `{a,b}` and `${HOME}` mean what they meant. Nothing is quoted here.

What a shell makes of a line: how a text stays one word in it, where its words end, whether it is needed at all.

Bytes in, bytes out, valid UTF-8 or not. Nothing is executed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from pipeline.model import records
from pipeline.model.messages import Shape

_BRACES = re.compile(rb"\{[^{}\n]*\}")
_COLUMN_NUMBER = re.compile(rb"-?[1-9][0-9]{0,8}")


def _strip_extension(text: bytes) -> bytes:
    return re.sub(rb"\.[^/.]+\Z", b"", text)


def _basename(text: bytes) -> bytes:
    return text.rpartition(b"/")[2]


def _dirname(text: bytes) -> bytes:
    """As Perl's dirname: of `a/b` it is `a`, of `a/` and `a` it is `.`, of `/x` it is `/`."""
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


class Arguments(Struct, frozen=True):
    """What a task is to a command. `whole` is what `{}` stands for, where that is not all of the values."""

    values: list[bytes]
    names: tuple[bytes, ...] = ()
    whole_text: bytes | None = None


class Replacement(Struct, frozen=True):
    """One of them: which argument (empty: all), and what is taken of it."""

    key: bytes
    transform: bytes

    @property
    def is_all(self) -> bool:
        """Whether it stands for all arguments."""
        return not self.key

    def expand(self, arguments: Arguments, task: int, slot: int) -> list[bytes]:
        """What it stands for: one text, or each argument's. A missing argument is empty, as in GNU parallel."""
        take = _TRANSFORMS[self.transform]
        if not self.key:
            return [
                take(text)
                for text in ([arguments.whole_text] if arguments.whole_text is not None else arguments.values)
            ]
        if self.key in b"#%":
            return [b"%d" % (task + 1 if self.key == b"#" else slot)]
        if self.key in arguments.names:
            return [take(arguments.values[arguments.names.index(self.key)])]
        number = int(self.key)
        at = number - 1 if number > 0 else len(arguments.values) + number
        return [take(arguments.values[at]) if 0 <= at < len(arguments.values) else b""]


def find_replacements(text: bytes, names: tuple[bytes, ...]) -> list[tuple[int, int, Replacement]]:
    """Those in a text, each with its start and end, where the columns have these names."""
    hits = [(match, _parse_replacement(match[0][1:-1], names)) for match in _BRACES.finditer(text)]
    return [(match.start(), match.end(), meant) for match, meant in hits if meant]


def parse_arguments(record: bytes, shape: Shape) -> Arguments:
    """What a record is to a command. Raises ValueError with a sentence when it is not of this shape."""
    if shape == "line":
        return Arguments([record])
    if shape == "json":
        return _parse_json(record)
    values, names = records.decode_fields(record)
    return Arguments(values, tuple(names))


def _parse_json(record: bytes) -> Arguments:
    import json  # most runs have lines

    if not record.strip():
        raise ValueError("a blank line is no JSON")
    try:
        value: Any = json.loads(record)
    except (ValueError, RecursionError) as wrong:
        raise ValueError(f"no JSON: {wrong}") from None
    if isinstance(value, dict):
        return Arguments([_encode_value(item) for item in value.values()], tuple(map(_encode_value, value)), record)
    items = value if isinstance(value, list) else [value]
    return Arguments([_encode_value(item) for item in items], (), record)


def _encode_value(value: Any) -> bytes:
    """A text as it is, any other value as JSON."""
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape")


def _parse_replacement(content: bytes, names: tuple[bytes, ...]) -> Replacement | None:
    if content in (b"#", b"%"):
        return Replacement(content, b"")
    for how in _TRANSFORMS:
        key = content.removesuffix(how) if content.endswith(how) else None
        if key is not None and (key == b"" or key in names or _COLUMN_NUMBER.fullmatch(key)):
            return Replacement(key, how)
    return None


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
