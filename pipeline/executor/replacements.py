"""Replacement strings: what `{}`, `{.}`, `{2/}`, `{name}`, `{#}` and their like stand for, with GNU parallel's meaning.

A task is one argument or several, with names or without. What names no column is no replacement string and stays as it
is, so that `{print $1}`, `{a,b}` and `${HOME}` mean what they meant. Nothing is quoted here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from pipeline.words import columns
from pipeline.words.parts import Shape

_BRACES = re.compile(rb"\{[^{}\n]*\}")
_NUMBER = re.compile(rb"-?[1-9][0-9]{0,8}")


def _stem(text: bytes) -> bytes:
    return re.sub(rb"\.[^/.]+\Z", b"", text)


def _base(text: bytes) -> bytes:
    return text.rpartition(b"/")[2]


def _folder(text: bytes) -> bytes:
    """As Perl's dirname: of `a/b` it is `a`, of `a/` and `a` it is `.`, of `/x` it is `/`."""
    head, slash, _ = text.rstrip(b"/").rpartition(b"/")
    if slash:
        return head.rstrip(b"/") or b"/"
    return b"/" if text.startswith(b"/") else b"."


_HOW: dict[bytes, Callable[[bytes], bytes]] = {
    b"": lambda text: text,
    b"/.": lambda text: _stem(_base(text)),
    b"//": _folder,
    b"/": _base,
    b".": _stem,
}


class Arguments(Struct, frozen=True):
    """What a task is to a command. `whole` is what `{}` stands for, where that is not all of the values."""

    values: list[bytes]
    names: tuple[bytes, ...] = ()
    whole: bytes | None = None


class Replacement(Struct, frozen=True):
    """One of them: which argument (empty: all), and what is taken of it."""

    key: bytes
    how: bytes

    @property
    def is_all(self) -> bool:
        """Whether it stands for all arguments."""
        return not self.key

    def values(self, arguments: Arguments, task: int, slot: int) -> list[bytes]:
        """What it stands for: one text, or each argument's. A missing argument is empty, as in GNU parallel."""
        take = _HOW[self.how]
        if not self.key:
            return [take(text) for text in ([arguments.whole] if arguments.whole is not None else arguments.values)]
        if self.key in b"#%":
            return [b"%d" % (task + 1 if self.key == b"#" else slot)]
        if self.key in arguments.names:
            return [take(arguments.values[arguments.names.index(self.key)])]
        number = int(self.key)
        at = number - 1 if number > 0 else len(arguments.values) + number
        return [take(arguments.values[at]) if 0 <= at < len(arguments.values) else b""]


def found(text: bytes, names: tuple[bytes, ...]) -> list[tuple[int, int, Replacement]]:
    """Those in a text, each with its start and end, where the columns have these names."""
    hits = [(match, _parsed(match[0][1:-1], names)) for match in _BRACES.finditer(text)]
    return [(match.start(), match.end(), meant) for match, meant in hits if meant]


def arguments_of(record: bytes, shape: Shape) -> Arguments:
    """What a record is to a command. Raises ValueError with a sentence when it is not of this shape."""
    if shape == "line":
        return Arguments([record])
    if shape == "json":
        return _of_json(record)
    values, names = columns.parted(record)
    return Arguments(values, tuple(names))


def _of_json(record: bytes) -> Arguments:
    import json  # most runs have lines

    if not record.strip():
        raise ValueError("a blank line is no JSON")
    try:
        value: Any = json.loads(record)
    except (ValueError, RecursionError) as wrong:
        raise ValueError(f"no JSON: {wrong}") from None
    if isinstance(value, dict):
        return Arguments([_text(item) for item in value.values()], tuple(map(_text, value)), record)
    items = value if isinstance(value, list) else [value]
    return Arguments([_text(item) for item in items], (), record)


def _text(value: Any) -> bytes:
    """A text as it is, any other value as JSON."""
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape")


def _parsed(inside: bytes, names: tuple[bytes, ...]) -> Replacement | None:
    if inside in (b"#", b"%"):
        return Replacement(inside, b"")
    for how in _HOW:
        key = inside.removesuffix(how) if inside.endswith(how) else None
        if key is not None and (key == b"" or key in names or _NUMBER.fullmatch(key)):
            return Replacement(key, how)
    return None
