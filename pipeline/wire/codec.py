"""Words to frames and back: the only place that knows msgpack.

A word is one frame, its kind ("pipe1.ack ": magic, version and subscription topic in one) followed by a msgpack array
of its small fields, and then one frame for each of its byte strings. What comes in is checked field by field; anything
else raises DecodeError. Nothing is ever pickled.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, get_args

import msgpack

from pipeline.wire.fields import Check, flag, known, many, one_of, ranges, record, seconds, text, whole
from pipeline.words import accounts, checksums
from pipeline.words.errors import DecodeError, ForeignError
from pipeline.words.messages import (
    WHY,
    Ack,
    Bye,
    Chunk,
    Glance,
    Kill,
    Part,
    Pulse,
    Read,
    Result,
    Run,
    Status,
    Stop,
    Welcome,
    Wire,
)
from pipeline.words.parts import Again, Doing, Member, Note, NoteKind, Recipe, Retry, Shape, Tried

VERSION = "pipe1"
LONGEST = 1 << 16
"""Items of an array, or characters of a text, in a header at most."""
HEADER = 8 << 20
"""Bytes of a header at most."""

_shape = one_of(*get_args(Shape))
_recipe = record(Recipe, flag, flag, _shape)
_tries = record(Tried, whole, whole, whole)
_retry = record(Retry, whole, whole, whole, seconds)
_note = record(Note, whole, one_of(*get_args(NoteKind)), whole, text, text, whole)
_again = record(Again, text, whole, ranges)
_doing = record(Doing, whole, whole, seconds, text)
_member = record(Member, text, text, whole, whole, whole, seconds, seconds, whole, many(_doing))
_mode = one_of("soon", "now")


@dataclass(frozen=True, slots=True)
class _Form:
    """How one word is written: its small fields with their checks, then its byte strings."""

    name: str
    """Its name on the wire, whatever the class is called."""
    kind: type
    checks: dict[str, Check]
    bodies: tuple[str, ...] = ()

    @property
    def prefix(self) -> bytes:
        return f"{VERSION}.{self.name} ".encode()


FORMS = [
    _Form(
        "pulse",
        Pulse,
        {"worker": text, "number": whole, "run": text, "digest": text, "command": text, "slots": whole}
        | {"lane": whole, "seen": whole, "allowed": whole, "holding": ranges, "finished": ranges}
        | {"ack": whole, "pace": seconds, "done": whole, "tried": many(_tries)},
    ),
    _Form(
        "welcome",
        Welcome,
        {"run": text, "state": one_of("run", "over", "refused"), "reason": text, "recipe": _recipe}
        | {"lane": whole, "lane_at": text, "sink_at": text, "control_at": text}
        | {"interval": seconds, "liveness": seconds},
    ),
    _Form(
        "chunk",
        Chunk,
        {"run": text, "lane": whole, "sequence": whole, "first": whole, "count": whole, "tries": whole}
        | {"account": flag, "live": flag},
        ("body",),
    ),
    _Form(
        "result",
        Result,
        {"run": text, "worker": text, "first": whole, "count": whole, "notes": many(_note)}
        | {"tries": whole, "shape": _shape},
        ("output", "ends", "errors", "records", "accounts"),
    ),
    _Form("part", Part, {"run": text, "worker": text, "task": whole, "tries": whole, "start": whole}, ("body",)),
    _Form("glance", Glance, {"worker": text, "cpu": seconds, "memory": whole, "doing": many(_doing)}),
    _Form("read", Read, {"run": text, "reader": text, "since": whole, "first": whole, "count": whole}, ("marks",)),
    _Form(
        "run",
        Run,
        {"run": text, "number": whole, "fingerprint": text, "state": one_of("feeding", "ended", "stopped")}
        | {"total": known, "reason": text, "waiting": flag},
    ),
    _Form(
        "ack",
        Ack,
        {"run": text, "heard": known, "fingerprint": text, "epoch": text, "number": whole, "low": whole}
        | {"ranges": ranges, "failed": whole, "total": known, "full": flag, "again": many(_again)}
        | {"retries": many(_retry), "reader": text, "read": known, "recorded": whole, "digest": text, "command": text}
        | {"account": flag, "live": flag},
    ),
    _Form("stop", Stop, {"mode": _mode, "reason": text}),
    _Form("kill", Kill, {"run": text, "mode": one_of("done", "soon", "now"), "reason": text, "code": whole}),
    _Form(
        "status",
        Status,
        {"run": text, "state": text, "settled": whole, "failed": whole, "total": known, "turn": known}
        | {"members": many(_member), "awaited": many(text), "retrying": whole}
        | {"rate": seconds, "elapsed": seconds, "why": one_of("", *WHY)},
    ),
    _Form("bye", Bye, {"name": text, "reason": text, "over": flag}),
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
    return _plain(getattr(value, name) for name in slots) if slots else value


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
    word: Wire = form.kind(**dict(zip((*form.checks, *form.bodies), (*fields, *frames[1:]), strict=True)))
    if isinstance(word, Result):
        _check_result(word)
    elif isinstance(word, Chunk | Read) and word.count < 1:
        raise DecodeError(f"an empty {type(word).__name__}")
    elif isinstance(word, Read) and len(word.marks) != 4 * checksums.length(word.first, word.count):
        raise DecodeError("a Read whose marks do not fit its count")
    return word


def _check_result(result: Result) -> None:
    """Its parts must fit each other, as far as that is told without reading every end."""
    if result.count < 1 or len(result.ends) != 4 * result.count:
        raise DecodeError("a result whose ends do not fit its count")
    if struct.unpack_from("<I", result.ends, len(result.ends) - 4)[0] != len(result.output):
        raise DecodeError("a result whose ends do not fit its output")
    if any(not result.first <= note.task < result.first + result.count for note in result.notes):
        raise DecodeError("a result with a note on another's task")
    if sum(note.size for note in result.notes) != len(result.records):
        raise DecodeError("a result whose notes do not fit its records")
    if result.accounts:
        accounts.check(result.accounts, result.count, len(result.errors))


def _raise_unknown(prefix: bytes) -> None:
    version = prefix.partition(b".")[0]
    if version.startswith(b"pipe") and version[4:].isdigit() and version != VERSION.encode():
        raise ForeignError(version.decode())
    raise DecodeError(f"unknown word {prefix[:24]!r}")
