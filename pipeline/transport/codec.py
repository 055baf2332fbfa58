"""Encoding of messages as frames, and validation of received frames.

A message is one header frame, "pipe2.TAG " (magic, version and subscription topic in one) and a msgpack array of the
small fields, and then one frame per byte string. The field types state what is valid; the checks below add what types
cannot express. Invalid frames raise DecodeError. Nothing is ever pickled.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import Any, cast, get_args

import msgspec

from pipeline.model import checksums, results
from pipeline.model.errors import DecodeError, VersionMismatchError
from pipeline.model.events import SendContent
from pipeline.model.messages import (
    Ack,
    Chunk,
    Heartbeat,
    InputChecksums,
    Ranges,
    Result,
    ResultPiece,
    WireMessage,
)

VERSION = "pipe2"
MAX_HEADER_BYTES = 8 << 20
PIECE_BYTES = 1 << 20
"""Bytes of content in one ResultPiece at most."""


class MessageForm:
    """How one message type is written: its small fields in the header, then its byte strings."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        bodies = [name for name, hint in kind.__annotations__.items() if hint == "bytes"]
        fields = [name for name in kind.__struct_fields__ if name not in bodies]
        self.kind, self.fields, self.bodies = kind, fields, bodies
        self.prefix = f"{VERSION}.{kind.__struct_config__.tag} ".encode()
        self.header_of = attrgetter(*fields)
        self.in_order = itemgetter(*((*fields, *bodies).index(name) for name in kind.__struct_fields__))

    @cached_property
    def decoder(self) -> msgspec.msgpack.Decoder[tuple[Any, ...]]:
        """Decoder of the header, created on first use: creating one takes as long as decoding hundreds of messages."""
        hints = {field.name: field.type for field in msgspec.structs.fields(self.kind)}
        return msgspec.msgpack.Decoder(tuple[tuple(hints[name] for name in self.fields)])  # type: ignore[misc]


MESSAGE_CODECS = [MessageForm(kind) for kind in get_args(WireMessage)]
TOPIC = {form.kind: form.prefix for form in MESSAGE_CODECS}
"""The subscription topic of each message type."""

_BY_CLASS = {form.kind: form for form in MESSAGE_CODECS}
_BY_CLASS[results.LargeResult] = _BY_CLASS[Result]
_BY_PREFIX = {form.prefix: form for form in MESSAGE_CODECS}
_ENCODER = msgspec.msgpack.Encoder()


def encode(message: WireMessage) -> list[bytes]:
    """Return the frames of a message."""
    form = _BY_CLASS[type(message)]
    fields = form.header_of(message)
    try:
        header = _ENCODER.encode(fields)
    except UnicodeEncodeError:  # surrogates, from a file name that is not UTF-8
        header = _ENCODER.encode(_replace_surrogates(msgspec.to_builtins(fields)))
    return [form.prefix + header, *[getattr(message, body) for body in form.bodies]]


def iter_pieces(message: SendContent) -> Iterator[ResultPiece]:
    """Yield the wanted part of a large result in pieces. Raises OSError if it cannot be read."""
    result, content = message.result, message.result.content
    assert content
    for start in range(message.start, message.end, PIECE_BYTES):
        body = content.read(start, min(PIECE_BYTES, message.end - start))
        yield ResultPiece(result.run, result.worker, result.first, result.attempt, start, body)


def _replace_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return [_replace_surrogates(item) for item in value] if isinstance(value, list | tuple) else value


def decode(frames: Sequence[bytes]) -> WireMessage:
    """Return the message of these frames.

    Raises:
        VersionMismatchError: the frames are of another protocol version.
        DecodeError: the frames are invalid.
    """
    try:
        return _decode(frames)
    except (msgspec.DecodeError, IndexError, RecursionError, ValueError, struct.error) as error:
        raise DecodeError(f"{error} in {frames[0][:40]!r}" if frames else "no frames") from error


def _decode(frames: Sequence[bytes]) -> WireMessage:
    head = frames[0]
    prefix = head[: head.index(b" ", 0, 24) + 1]
    form = _BY_PREFIX.get(prefix)
    if form is None:
        raise _unknown_prefix_error(prefix)
    if len(head) > MAX_HEADER_BYTES or len(frames) != 1 + len(form.bodies):
        raise DecodeError(f"{len(frames)} frames in {prefix!r}")
    fields = form.decoder.decode(memoryview(head)[len(prefix) :])
    message: Any = form.kind(*form.in_order((*fields, *frames[1:])))
    if check := _CHECKS.get(form.kind):
        check(message)
    return cast("WireMessage", message)


def _unknown_prefix_error(prefix: bytes) -> DecodeError:
    version = prefix.partition(b".")[0]
    if version.startswith(b"pipe") and version[4:].isdigit() and version != VERSION.encode():
        return VersionMismatchError(version.decode())
    return DecodeError(f"unknown message {prefix[:24]!r}")


def _check_heartbeat(heartbeat: Heartbeat) -> None:
    _check_ranges((heartbeat.unfinished, heartbeat.unacked))


def _check_ack(ack: Ack) -> None:
    _check_ranges((ack.ranges, *(request.ranges for request in ack.resend)))


def _check_ranges(range_lists: Iterable[Ranges]) -> None:
    """Ranges must be half-open, not empty, ascending and merged: two adjacent ranges are one."""
    for ranges in range_lists:
        last = -1
        for low, high in ranges:
            if not last < low < high:
                raise DecodeError(f"ranges that are not ascending and merged, at {low}")
            last = high


def _check_chunk(chunk: Chunk) -> None:
    if chunk.count < 1:
        raise DecodeError("empty chunk")


def _check_checksums(message: InputChecksums) -> None:
    if message.count < 1 or len(message.checksums) != 4 * checksums.checksum_count(message.first, message.count):
        raise DecodeError("checksums that do not match their count")


def _check_result(result: Result) -> None:
    """Check that the parts match each other, without reading every end."""
    if result.count < 1 or len(result.output_ends) != 4 * result.count:
        raise DecodeError("result whose ends do not match its count")
    if struct.unpack_from("<I", result.output_ends, len(result.output_ends) - 4)[0] != len(result.output):
        raise DecodeError("result whose ends do not match its output")
    if any(not result.first <= failure.task < result.first + result.count for failure in result.failures):
        raise DecodeError("result with a failure of another task")
    if sizes := result.large_sizes:
        is_header = result.count == 1 and not (result.output or result.stderr)
        if len(sizes) != len(("output", "stderr")) or not sum(sizes) or not is_header:
            raise DecodeError("large result that is not without its content")
    if sum(failure.record_size for failure in result.failures) != len(result.failed_records):
        raise DecodeError("result whose failures do not match its records")
    if result.metrics:
        results.check_metrics(result.metrics, result.count, len(result.stderr))


_CHECKS: dict[type, Callable[[Any], None]] = {
    Heartbeat: _check_heartbeat,
    Ack: _check_ack,
    Chunk: _check_chunk,
    InputChecksums: _check_checksums,
    Result: _check_result,
}
