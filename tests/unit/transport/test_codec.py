"""Encoding and decoding of messages: valid ones round-trip, all others raise DecodeError."""

from __future__ import annotations

import random
import struct
from contextlib import suppress
from itertools import pairwise
from typing import get_args

import msgpack
import pytest

from pipeline.model.errors import DecodeError, VersionMismatchError
from pipeline.model.events import SendContent
from pipeline.model.messages import (
    MAX_LENGTH,
    Ack,
    AttemptRange,
    Chunk,
    FailureKind,
    Goodbye,
    Heartbeat,
    InputChecksums,
    Kill,
    PartialOutput,
    RecordFormat,
    Registration,
    ResendRequest,
    Result,
    ResultPiece,
    RetryRange,
    RunningTask,
    RunStatus,
    StopRequest,
    TaskFailure,
    Transfer,
    VentilatorState,
    WireMessage,
    WorkerActivity,
    WorkerStatus,
)
from pipeline.model.results import LargeResult, TaskMetrics, encode_metrics
from pipeline.model.structs import replace
from pipeline.transport import codec
from pipeline.transport.codec import MAX_HEADER_BYTES, MESSAGE_CODECS, TOPIC, decode, encode

PULSE = Heartbeat(
    worker="host.1.ab", number=7, run="r", digest="d", command="wc {} ü", slots=2, lane=3, last_sequence=4,
    credit_limit=9,
    unfinished=((0, 1), (5, 9)), unacked=((2, 3),), last_ack_number=10**15, seconds_per_task=0.25, done_count=11,
    attempts=(AttemptRange(2, 3, 1), AttemptRange(5, 7, 2)),
)  # fmt: skip
NOTE = TaskFailure(6, "signal", 9, "killed", "the end of stderr", 3)
ACCOUNTS = encode_metrics(TaskMetrics(1e9, 0.5, 2.0, 1.5, 1 << 40, 1, 1, b"wc five", b"five"))
ACCOUNTS += encode_metrics(TaskMetrics(1e9, 0.0, 0.1, 0.1, 9, 2, 2, b"wc \xff", b"six"))
RESULT = Result(
    "r", "host.1.ab", 5, 2, b"ab", struct.pack("<2I", 1, 2), b"oh\n", (NOTE,), 2, b"six", ACCOUNTS, "columns"
)  # fmt: skip
DOING = RunningTask(7, 1, 0.25, "wc seven")
ACK = Ack(
    "r", 3, "print", "epoch", 9, 4, ((6, 7), (9, 12)), -1, False, (ResendRequest("host.1.ab", 7, ((2, 3),)),),
    (RetryRange(5, 6, 1, 0.5),), "v", 8, 9, "d", "wc {} ü", True, True,
    transfers=(Transfer("host.1.ab", 7, 0, 8, 16),),
)  # fmt: skip
CHUNK = Chunk("r", 3, 4, 5, 2, b"five\nsix\n", 2)
READ = InputChecksums("r", "v", 0, 5, 2, struct.pack("<2I", 7, 8))
WORDS: list[WireMessage] = [
    PULSE,
    Registration(
        "r", "refused", "why", RecordFormat(True, False, "packed", True, True), 3, "ipc:///l", "ipc:///s", "", 1.0, 10.0
    ),
    CHUNK,
    RESULT,
    ResultPiece("r", "host.1.ab", 7, 0, 8, b"a part"),
    PartialOutput("r", 7, 1, 9, b"a line\n"),
    WorkerActivity("host.1.ab", 0.5, 1 << 40, (DOING,)),
    READ,
    VentilatorState("r", 2, "print", "ended", 40, "", True),
    ACK,
    StopRequest("soon", "pipe kill"),
    Kill("", "done", "", 0),
    RunStatus(
        "r",
        "feeding",
        3,
        1,
        -1,
        4,
        (WorkerStatus("w", "wc", 2, 1, 9, 0.5, 1.0, 2, (DOING,)),),
        ("ventilator",),
        5,
        2.5,
        9.0,
        "turn",
    ),
    Goodbye("host.1.ab"),
]


def header(message: WireMessage, *fields: object) -> bytes:
    """Return a header of this message type with other fields."""
    packed: bytes = msgpack.packb(fields)
    return TOPIC[type(message)] + packed


def field_names(message: WireMessage) -> list[str]:
    """Return the names of the small fields, in order."""
    return next(form.fields for form in MESSAGE_CODECS if form.kind is type(message))


def with_field(message: WireMessage, name: str, value: object) -> bytes:
    """Return the header of this message with another value for one field."""
    fields = list(msgpack.unpackb(encode(message)[0].removeprefix(TOPIC[type(message)]), use_list=False))
    fields[field_names(message).index(name)] = value
    return header(message, *fields)


@pytest.mark.parametrize("message", WORDS, ids=lambda message: type(message).__name__)
def test_every_message_round_trips(message: WireMessage) -> None:
    frames = encode(message)
    assert frames[0].startswith(TOPIC[type(message)])
    assert decode(frames) == message
    assert encode(decode(frames)) == frames


def test_examples_cover_every_message() -> None:
    assert {type(message) for message in WORDS} == {form.kind for form in MESSAGE_CODECS} == set(get_args(WireMessage))


def test_no_topic_is_prefix_of_another() -> None:
    topics = sorted(TOPIC.values())
    assert topics[0] == b"pipe2.ack "
    assert not [one for one, other in pairwise(topics) if other.startswith(one)]


def test_bodies_are_separate_frames() -> None:
    assert encode(CHUNK)[1:] == [CHUNK.body]
    assert encode(RESULT)[1:] == [RESULT.output, RESULT.output_ends, RESULT.stderr, RESULT.failed_records, ACCOUNTS]
    assert encode(READ)[1:] == [READ.checksums]
    assert len(encode(replace(CHUNK, body=b"x" * 10**6))[0]) == len(encode(CHUNK)[0])


def test_small_chunk_has_small_header() -> None:
    assert sum(map(len, encode(CHUNK))) - len(CHUNK.body) < 30


def test_every_failure_kind_round_trips() -> None:
    for kind in get_args(FailureKind):
        noted = replace(RESULT, failures=(replace(NOTE, kind=kind),))
        assert decode(encode(noted)) == noted


def test_surrogates_are_replaced() -> None:
    decoded = decode(encode(Goodbye("a\udcffb")))
    assert decoded == Goodbye("a?b")


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"pipe2.goodbye"],
        [b"GET / HTTP/1.1\r\n"],
        [b"\x01pipe2.ack "],
        [header(WORDS[-1])],
        [header(WORDS[-1], "name")],
        [header(WORDS[-1], "name", "reason", "more")],
        [header(WORDS[-1], "name", b"reason")],
        [header(WORDS[-1], "name", 7)],
        [header(WORDS[-1], "name", {"reason": 1})],
        [header(WORDS[-1], "name", "x" * (MAX_LENGTH + 1))],
        [*encode(WORDS[-1]), b"a body too many"],
        [encode(WORDS[-1])[0] + b"\0"],
        [encode(WORDS[-1])[0][:-1]],
        [encode(CHUNK)[0]],
        [header(CHUNK, "r", 3, 4, 5, 0, 0), b""],
        [header(CHUNK, "r", 3, 4, -2, 1, 0), b""],
        [header(CHUNK, "r", 3, 4, True, 1, 0), b""],
        [header(CHUNK, "r", 3, 4, 1 << 62, 1, 0), b""],
        [header(CHUNK, "r", 3, 4, 5.0, 1, 0), b""],
        [header(CHUNK, "r", 3, 4, 5, 1), b""],
        [header(READ, "r", "v", 5, 0), b""],
        [header(StopRequest("soon", ""), "later", "reason")],
        [TOPIC[Goodbye] + b"\x91" * 2000],
        [TOPIC[Goodbye] + b"x" * MAX_HEADER_BYTES],
    ],
    ids=lambda frames: repr(frames)[:40],
)
def test_invalid_frames_raise(frames: list[bytes]) -> None:
    with pytest.raises(DecodeError):
        decode(frames)


@pytest.mark.parametrize(("message", "name"), [(ACK, "ranges"), (PULSE, "unfinished"), (PULSE, "unacked")])
@pytest.mark.parametrize(
    "ranges",
    [((3, 3),), ((3, 2),), ((-1, 2),), ((0, 2), (2, 3)), ((0, 3), (2, 4)), ((5, 6), (0, 1)), ((0, 1, 2),), "ab"],
)
def test_unordered_ranges_raise(message: WireMessage, name: str, ranges: object) -> None:
    assert decode([with_field(message, name, getattr(message, name))]) == message
    with pytest.raises(DecodeError):
        decode([with_field(message, name, ranges)])


@pytest.mark.parametrize(
    ("message", "name", "value"),
    [
        (PULSE, "attempts", ((2, 3),)), (PULSE, "attempts", ((2, 3, -1),)), (PULSE, "attempts", ((2, 3, 1, 0.5),)),
        (ACK, "retries", ((5, 6, 1),)), (ACK, "retries", ((5, 6, 1, -0.5),)), (ACK, "retries", ((5, 6, "1", 0.5),)),
        (ACK, "resend", (("ann", 7),)), (ACK, "resend", (("ann", 7, ((3, 2),)),)),
        (RESULT, "failures", ((6, "signal", 9, "killed"),)), (RESULT, "failures", ((6, "odd", 9, "killed", "", 3),)),
        (RESULT, "failures", ((6, "signal", 9, "killed", b"", 3),)), (RESULT, "failures", ((6, "signal", 9, "", "",
        -3),)),
        (RESULT, "attempt", -1), (CHUNK, "attempt", None), (READ, "ventilator_epoch", 7),
    ],
)  # fmt: skip
def test_nested_record_fields_are_checked(message: WireMessage, name: str, value: object) -> None:
    with pytest.raises(DecodeError):
        decode([with_field(message, name, value), *encode(message)[1:]])


PLAIN_RESULT = replace(RESULT, failures=())
ARRAYS = [(message, name) for message in (PULSE, PLAIN_RESULT, ACK, WORDS[-2]) for name in field_names(message)]
ARRAYS = [(message, name) for message, name in ARRAYS if isinstance(getattr(message, name), tuple)]


@pytest.mark.parametrize(
    ("message", "name"), ARRAYS, ids=lambda each: each if type(each) is str else type(each).__name__
)
@pytest.mark.parametrize("value", ["", "ab", {}, None, 0, [3]], ids=repr)
def test_wrong_array_type_raises(message: WireMessage, name: str, value: object) -> None:
    bodies = [b"", b"\0" * 8, b"", b"", b""] if isinstance(message, Result) else []
    assert decode([with_field(message, name, ()), *bodies])
    with pytest.raises(DecodeError):
        decode([with_field(message, name, value), *bodies])


@pytest.mark.parametrize("message", WORDS, ids=lambda message: type(message).__name__)
def test_minus_one_is_valid_only_where_unknown_is(message: WireMessage) -> None:
    _, *bodies = encode(message)
    accepted = set()
    for name in field_names(message):
        with suppress(DecodeError):
            decode([with_field(message, name, -1), *bodies])
            accepted.add(name)
        with pytest.raises(DecodeError):
            decode([with_field(message, name, -2), *bodies])
    unknown = {"total", "last_state_number", "next_in_order", "checksum_watermark", "events_left"}
    assert accepted == unknown & set(field_names(message))


@pytest.mark.parametrize("pace", [-1.0, float("nan"), float("inf"), "1", None, True])
def test_invalid_seconds_raise(pace: object) -> None:
    with pytest.raises(DecodeError):
        decode([with_field(PULSE, "seconds_per_task", pace)])


@pytest.mark.parametrize(
    ("output", "ends"),
    [(b"ab", (1, 3)), (b"ab", (2,)), (b"ab", (1, 1, 2)), (b"", ()), (b"abc", (1, 2))],
)
def test_result_with_wrong_ends_raises(output: bytes, ends: tuple[int, ...]) -> None:
    packed = struct.pack(f"<{len(ends)}I", *ends)
    with pytest.raises(DecodeError):
        decode(encode(replace(RESULT, output=output, output_ends=packed)))


@pytest.mark.parametrize(("task", "sound"), [(4, False), (5, True), (6, True), (7, False)])
def test_failure_of_another_task_raises(task: int, *, sound: bool) -> None:
    noted = replace(RESULT, failures=(TaskFailure(task, "exit", 1, "odd", "", record_size=3),))
    if sound:
        assert decode(encode(noted)) == noted
        return
    with pytest.raises(DecodeError, match="failure"):
        decode(encode(noted))


@pytest.mark.parametrize(("sizes", "sound"), [((3, 0), True), ((1, 2), True), ((2, 2), False), ((0, 0), False)])
def test_result_with_wrong_record_sizes_raises(sizes: tuple[int, int], *, sound: bool) -> None:
    noted = replace(
        RESULT, failures=tuple(TaskFailure(5 + k, "exit", 1, "", "", record_size=size) for k, size in enumerate(sizes))
    )
    if sound:
        assert decode(encode(noted)) == noted
        return
    with pytest.raises(DecodeError, match="records"):
        decode(encode(noted))


@pytest.mark.parametrize(
    "marks",
    [b"", b"12345", struct.pack("<I", 7), struct.pack("<3I", 1, 5, 7)],
)
def test_wrong_number_of_checksums_raises(marks: bytes) -> None:
    assert decode(encode(replace(READ, first=1200, checksums=struct.pack("<I", 7))))
    with pytest.raises(DecodeError):
        decode(encode(replace(READ, checksums=marks)))


def test_other_version_raises_with_its_name() -> None:
    with pytest.raises(VersionMismatchError) as raised:
        decode([b"pipe3.ack \x90"])
    assert raised.value.version == "pipe3"
    with pytest.raises(DecodeError) as refused:
        decode([b"pipe2.sing \x90"])
    assert not isinstance(refused.value, VersionMismatchError)


@pytest.mark.parametrize("bug", [NameError, AttributeError, AssertionError])
def test_bug_in_codec_is_not_a_decode_error(monkeypatch: pytest.MonkeyPatch, bug: type[Exception]) -> None:
    def check(_: object) -> object:
        raise bug

    monkeypatch.setitem(codec._CHECKS, Goodbye, check)
    with pytest.raises(bug):
        decode(encode(Goodbye("ann")))


def mutated(frames: list[bytes], rng: random.Random) -> list[bytes]:
    """Return the frames with a few bytes changed, removed or inserted, and sometimes a frame too few or too many."""
    frames = list(frames)
    for _ in range(rng.randint(1, 3)):
        which = rng.randrange(len(frames))
        frame = bytearray(frames[which])
        at = rng.randrange(len(frame) + 1)
        match rng.randrange(6):
            case 0 | 1 if frame:
                frame[at % len(frame)] = rng.randrange(256)
            case 2:
                del frame[at : at + rng.randint(1, 4)]
            case 3:
                frame[at:at] = rng.randbytes(rng.randint(1, 9))
            case 4:
                frame[at:] = frames[rng.randrange(len(frames))][at:]
            case _ if rng.random() < 0.2:
                frames.insert(which, bytes(frame[:at]))
        frames[which] = bytes(frame)
    return frames


def test_mutated_frames_decode_or_raise() -> None:
    rng = random.Random(5)
    originals = [encode(message) for message in WORDS]
    refused = 0
    for _ in range(20_000):
        frames = mutated(rng.choice(originals), rng)
        try:
            message = decode(frames)
        except DecodeError:
            refused += 1
        else:
            assert decode(encode(message)) == message
    assert 5_000 < refused < 20_000


def make_large_result(body: bytes) -> LargeResult:
    class Content:
        def read(self, start: int, size: int) -> bytes:
            return body[start : start + size]

    return LargeResult("r", "ann", 5, 1, b"", bytes(4), b"", (), 2, large_sizes=(len(body) - 3, 3), content=Content())


def test_large_result_is_sent_as_a_result_without_content() -> None:
    sent = make_large_result(b"output" + b"err")
    decoded = decode(encode(sent))
    assert type(decoded) is Result
    assert decoded == Result("r", "ann", 5, 1, b"", bytes(4), b"", (), 2, large_sizes=(6, 3))


def test_content_is_sent_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "PIECE_BYTES", 4)
    message = SendContent(make_large_result(b"output" + b"err"), 1, 9)
    bodies = [(piece.start, piece.body) for piece in codec.iter_pieces(message)]
    assert bodies == [(1, b"utpu"), (5, b"terr")]
    (piece,) = codec.iter_pieces(SendContent(message.result, 7, 9))
    assert piece == ResultPiece("r", "ann", 5, 2, 7, b"rr")


@pytest.mark.parametrize(
    "changes",
    [
        {"large_sizes": (1,)},
        {"large_sizes": (1, 2, 3)},
        {"large_sizes": (0, 0)},
        {"count": 2, "output_ends": bytes(8)},
        {"stderr": b"x"},
        {"output": b"x", "output_ends": b"\1\0\0\0"},
    ],
)
def test_large_result_with_content_raises(changes: dict[str, object]) -> None:
    header = Result("r", "ann", 5, 1, b"", bytes(4), b"", (), large_sizes=(6, 3))
    with pytest.raises(DecodeError, match="without its content"):
        decode(encode(replace(header, **changes)))  # type: ignore[arg-type]
