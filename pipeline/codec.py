"""Words to frames and back: the only place that knows msgpack.

A word is one frame, its kind ("pipe1.ack ": magic, version and subscription topic in one) followed by a msgpack array
of its small fields, and then one frame for each of its byte strings. What comes in is checked field by field; anything
else raises DecodeError. Nothing is ever pickled.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgpack

from pipeline.errors import DecodeError, ForeignError
from pipeline.messages import (
    Ack,
    Again,
    Bye,
    Chunk,
    Kill,
    Member,
    Note,
    Pulse,
    Ranges,
    Recipe,
    Result,
    Run,
    Status,
    Stop,
    Welcome,
    Wire,
)

VERSION = "pipe1"
LONGEST = 1 << 16
"""Items of an array, or characters of a text, in a header at most."""
HEADER = 8 << 20
"""Bytes of a header at most."""

Check = Callable[[Any], Any]


def _exactly(kind: type) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(value)
        return value

    return check


_text, _flag = _exactly(str), _exactly(bool)


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise TypeError(value)
    return value


def _known(value: Any) -> int:
    """A whole number, or -1 while it is unknown."""
    return -1 if value == -1 else _whole(value)


def _seconds(value: Any) -> float:
    if type(value) not in (float, int) or not 0 <= value < 1e12:  # noqa: PLR2004 (NaN fails, too)
        raise TypeError(value)
    return float(value)


def _ranges(value: Any) -> Ranges:
    last = -1
    if type(value) is not tuple:
        raise TypeError(value)
    for low, high in value:
        if type(low) is not int or type(high) is not int or not last < low < high < 1 << 62:
            raise TypeError(value)
        last = high
    return tuple(value)


def _one_of(*words: str) -> Check:
    def check(value: Any) -> str:
        if value not in words:
            raise TypeError(value)
        return str(value)

    return check


def _record(kind: type, *checks: Check) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not tuple:
            raise TypeError(value)
        return kind(*(own(item) for own, item in zip(checks, value, strict=True)))

    return check


def _many(check_one: Check) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not tuple:
            raise TypeError(value)
        return tuple(check_one(item) for item in value)

    return check


_recipe = _record(Recipe, _flag, _flag)
_note = _record(Note, _whole, _one_of("exit", "signal", "exception", "lost"), _whole, _text)
_again = _record(Again, _text, _whole, _ranges)
_member = _record(Member, _text, _text, _whole, _whole, _whole, _seconds)
_mode = _one_of("soon", "now")


@dataclass(frozen=True, slots=True)
class _Form:
    """How one word is written: its small fields with their checks, then its byte strings."""

    kind: type
    checks: dict[str, Check]
    bodies: tuple[str, ...] = ()

    @property
    def prefix(self) -> bytes:
        return f"{VERSION}.{self.kind.__name__.lower()} ".encode()


FORMS = [
    _Form(
        Pulse,
        {"worker": _text, "number": _whole, "run": _text, "digest": _text, "command": _text, "slots": _whole}
        | {"lane": _whole, "seen": _whole, "allowed": _whole, "holding": _ranges, "finished": _ranges}
        | {"ack": _whole, "pace": _seconds, "done": _whole},
    ),
    _Form(
        Welcome,
        {"run": _text, "state": _one_of("run", "over", "refused"), "reason": _text, "recipe": _recipe}
        | {"lane": _whole, "lane_at": _text, "sink_at": _text, "control_at": _text}
        | {"interval": _seconds, "liveness": _seconds},
    ),
    _Form(Chunk, {"run": _text, "lane": _whole, "sequence": _whole, "first": _whole, "count": _whole}, ("body",)),
    _Form(
        Result,
        {"run": _text, "worker": _text, "first": _whole, "count": _whole, "notes": _many(_note)},
        ("output", "ends", "errors"),
    ),
    _Form(
        Run,
        {"run": _text, "number": _whole, "fingerprint": _text, "state": _one_of("feeding", "ended", "stopped")}
        | {"total": _known, "reason": _text},
    ),
    _Form(
        Ack,
        {"run": _text, "heard": _known, "fingerprint": _text, "epoch": _text, "number": _whole, "low": _whole}
        | {"ranges": _ranges, "failed": _whole, "total": _known, "full": _flag, "again": _many(_again)},
    ),
    _Form(Stop, {"mode": _mode, "reason": _text}),
    _Form(Kill, {"run": _text, "mode": _one_of("done", "soon", "now"), "reason": _text, "failed": _whole}),
    _Form(
        Status,
        {"run": _text, "state": _text, "settled": _whole, "failed": _whole, "total": _known, "turn": _known}
        | {"members": _many(_member), "awaited": _many(_text)},
    ),
    _Form(Bye, {"name": _text, "reason": _text}),
]

TOPIC = {form.kind: form.prefix for form in FORMS}
"""What to subscribe to, to hear a kind of word."""

_BY_KIND = {form.kind: (form.prefix, attrgetter(*form.checks), tuple(form.bodies)) for form in FORMS}
_BY_PREFIX = {form.prefix: (form, list(form.checks.values())) for form in FORMS}


def encode(word: Wire) -> list[bytes]:
    """The frames of a word."""
    prefix, fields, bodies = _BY_KIND[type(word)]
    header = prefix + msgpack.packb(_plain(fields(word)), unicode_errors="replace")
    return [header, *(getattr(word, body) for body in bodies)]


def _plain(values: Any) -> Any:
    """Records inside a word as arrays."""
    return tuple(tuple(_tuple(item) for item in value) if type(value) is tuple else _tuple(value) for value in values)


def _tuple(value: Any) -> Any:
    slots = getattr(type(value), "__dataclass_fields__", None)
    return tuple(_tuple(getattr(value, name)) for name in slots) if slots else value


def decode(frames: Sequence[bytes]) -> Wire:
    """The word of these frames. Raises ForeignError for another version's, DecodeError for anything else."""
    try:
        return _decode(frames)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError, struct.error) as error:
        raise DecodeError(f"{type(error).__name__} in {frames[0][:40]!r}" if frames else "no frames") from error


def _decode(frames: Sequence[bytes]) -> Wire:
    head = frames[0]
    prefix = head[: head.index(b" ", 0, 24) + 1]
    if prefix not in _BY_PREFIX:
        _raise_unknown(prefix)
    form, checks = _BY_PREFIX[prefix]
    if len(head) > HEADER or len(frames) != 1 + len(form.bodies):
        raise DecodeError(f"{len(frames)} frames in {prefix!r}")
    values = msgpack.unpackb(
        memoryview(head)[len(prefix) :],
        use_list=False,
        max_array_len=LONGEST,
        max_str_len=LONGEST,
        max_map_len=0,
        max_bin_len=0,
        max_ext_len=0,
    )
    if type(values) is not tuple or len(values) != len(checks):
        raise DecodeError(f"{len(values)} fields in {prefix!r}")
    fields = [check(value) for check, value in zip(checks, values, strict=True)]
    if form.kind is Result:
        *rest, notes = fields
        (run, worker, first, count), (output, ends, told) = rest, frames[1:]
        return _sound_result(Result(run, worker, first, count, output, ends, told, notes))
    word: Wire = form.kind(*fields, *frames[1:])
    if isinstance(word, Chunk) and word.count < 1:
        raise DecodeError("an empty chunk")
    return word


def _sound_result(result: Result) -> Result:
    """Its parts must fit each other, as far as that is told without reading every end."""
    if result.count < 1 or len(result.ends) != 4 * result.count:
        raise DecodeError("a result whose ends do not fit its count")
    if struct.unpack_from("<I", result.ends, len(result.ends) - 4)[0] != len(result.output):
        raise DecodeError("a result whose ends do not fit its output")
    if any(not result.first <= note.task < result.first + result.count for note in result.notes):
        raise DecodeError("a result with a note on another's task")
    return result


def _raise_unknown(prefix: bytes) -> None:
    version = prefix.partition(b".")[0]
    if version.startswith(b"pipe") and version[4:].isdigit() and version != VERSION.encode():
        raise ForeignError(version.decode())
    raise DecodeError(f"unknown word {prefix[:24]!r}")
