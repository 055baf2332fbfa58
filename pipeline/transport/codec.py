"""Words to frames and back.

A word is one frame, its kind ("pipe1.ack ": magic, version and subscription topic in one) followed by a msgpack array
of its small fields, and then one frame for each of its byte strings. The types of a word's fields say what may come in;
what types can't say is checked here. Anything else raises DecodeError. Nothing is ever pickled.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import Any, cast, get_args

import msgspec

from pipeline.model import checksums, results
from pipeline.model.errors import DecodeError, VersionMismatchError
from pipeline.model.messages import Ack, Chunk, Heartbeat, InputChecksums, Ranges, Result, WireMessage

VERSION = "pipe2"
MAX_HEADER_BYTES = 8 << 20
"""Bytes of a header at most."""


class MessageForm:
    """How one kind of word is written: its small fields in the header, then its byte strings."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        bodies = [name for name, hint in kind.__annotations__.items() if hint == "bytes"]
        fields = [name for name in kind.__struct_fields__ if name not in bodies]
        self.kind, self.fields, self.bodies = kind, fields, bodies
        self.prefix = f"{VERSION}.{kind.__struct_config__.tag} ".encode()
        self.header_of = attrgetter(*fields)
        self.in_order = itemgetter(*((*fields, *bodies).index(name) for name in kind.__struct_fields__))

    @cached_property
    def decoder(self) -> msgspec.msgpack.Decoder[tuple[Any, ...]]:
        """Made when first needed: a process hears few kinds, and making one takes as long as decoding hundreds."""
        hints = {field.name: field.type for field in msgspec.structs.fields(self.kind)}
        return msgspec.msgpack.Decoder(tuple[tuple(hints[name] for name in self.fields)])  # type: ignore[misc]


MESSAGE_CODECS = [MessageForm(kind) for kind in get_args(WireMessage)]
TOPIC = {form.kind: form.prefix for form in MESSAGE_CODECS}
"""What to subscribe to, to hear a kind of word."""

_BY_CLASS = {form.kind: form for form in MESSAGE_CODECS}
_BY_PREFIX = {form.prefix: form for form in MESSAGE_CODECS}
_ENCODER = msgspec.msgpack.Encoder()


def encode(message: WireMessage) -> list[bytes]:
    """The frames of a word."""
    form = _BY_CLASS[type(message)]
    fields = form.header_of(message)
    try:
        header = _ENCODER.encode(fields)
    except UnicodeEncodeError:
        header = _ENCODER.encode(_unicode(msgspec.to_builtins(fields)))
    return [form.prefix + header, *[getattr(message, body) for body in form.bodies]]


def _unicode(value: Any) -> Any:
    """The same with a question mark for each character that is not Unicode, as in a file name of other bytes."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return [_unicode(item) for item in value] if isinstance(value, list | tuple) else value


def decode(frames: Sequence[bytes]) -> WireMessage:
    """The word of these frames. Raises ForeignError for another version's, DecodeError for anything else."""
    try:
        return _decode(frames)
    except (msgspec.DecodeError, IndexError, RecursionError, ValueError, struct.error) as error:
        raise DecodeError(f"{error} in {frames[0][:40]!r}" if frames else "no frames") from error


def _decode(frames: Sequence[bytes]) -> WireMessage:
    head = frames[0]
    prefix = head[: head.index(b" ", 0, 24) + 1]
    form = _BY_PREFIX.get(prefix)
    if form is None:
        raise _unknown(prefix)
    if len(head) > MAX_HEADER_BYTES or len(frames) != 1 + len(form.bodies):
        raise DecodeError(f"{len(frames)} frames in {prefix!r}")
    fields = form.decoder.decode(memoryview(head)[len(prefix) :])
    word: Any = form.kind(*form.in_order((*fields, *frames[1:])))
    if check := _CHECKS.get(form.kind):
        check(word)
    return cast("WireMessage", word)


def _check_pulse(pulse: Heartbeat) -> None:
    _check_ranges((pulse.unfinished, pulse.unacked))


def _check_ack(ack: Ack) -> None:
    _check_ranges((ack.ranges, *(again.ranges for again in ack.resend)))


def _check_ranges(many: Iterable[Ranges]) -> None:
    """They must be half-open, not empty, ascending and merged: two that touch are one."""
    for ranges in many:
        last = -1
        for low, high in ranges:
            if not last < low < high:
                raise DecodeError(f"ranges that are not ascending and merged, at {low}")
            last = high


def _check_chunk(chunk: Chunk) -> None:
    if chunk.count < 1:
        raise DecodeError("an empty chunk")


def _check_read(read: InputChecksums) -> None:
    if read.count < 1 or len(read.checksums) != 4 * checksums.length(read.first, read.count):
        raise DecodeError("a Read whose marks do not fit its count")


def _check_result(result: Result) -> None:
    """Its parts must fit each other, as far as that is told without reading every end."""
    if result.count < 1 or len(result.output_ends) != 4 * result.count:
        raise DecodeError("a result whose ends do not fit its count")
    if struct.unpack_from("<I", result.output_ends, len(result.output_ends) - 4)[0] != len(result.output):
        raise DecodeError("a result whose ends do not fit its output")
    if any(not result.first <= note.task < result.first + result.count for note in result.failures):
        raise DecodeError("a result with a note on another's task")
    if sum(note.record_size for note in result.failures) != len(result.failed_records):
        raise DecodeError("a result whose notes do not fit its records")
    if result.metrics:
        results.check_metrics(result.metrics, result.count, len(result.stderr))


_CHECKS: dict[type, Callable[[Any], None]] = {
    Heartbeat: _check_pulse,
    Ack: _check_ack,
    Chunk: _check_chunk,
    InputChecksums: _check_read,
    Result: _check_result,
}
"""What no type can say."""


def _unknown(prefix: bytes) -> DecodeError:
    version = prefix.partition(b".")[0]
    if version.startswith(b"pipe") and version[4:].isdigit() and version != VERSION.encode():
        return VersionMismatchError(version.decode())
    return DecodeError(f"unknown word {prefix[:24]!r}")
