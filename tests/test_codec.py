"""Words to frames and back: what goes in comes out, and nothing that comes in can do more than be refused."""

from __future__ import annotations

import random
import struct
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import msgpack
import pytest

from pipeline import codec
from pipeline.codec import FORMS, HEADER, LONGEST, TOPIC, decode, encode
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
    Recipe,
    Result,
    Run,
    Status,
    Stop,
    Welcome,
    Wire,
)

PULSE = Pulse(
    worker="host.1.ab", number=7, run="r", digest="d", command="wc {} ü", slots=2, lane=3, seen=4, allowed=9,
    holding=((0, 1), (5, 9)), finished=((2, 3),), ack=10**15, pace=0.25, done=11,
)  # fmt: skip
RESULT = Result("r", "host.1.ab", 5, 2, b"ab", struct.pack("<2I", 1, 2), b"oh\n", (Note(6, "signal", 9, "killed"),))
ACK = Ack("r", 3, "print", "epoch", 9, 4, ((6, 7), (9, 12)), 1, -1, False, (Again("host.1.ab", 7, ((2, 3),)),))
CHUNK = Chunk("r", 3, 4, 5, 2, b"five\nsix\n")
WORDS: list[Wire] = [
    PULSE,
    Welcome("r", "refused", "why", Recipe(zero=True), 3, "ipc:///l", "ipc:///s", "ipc:///c", 1.0, 10.0),
    CHUNK,
    RESULT,
    Run("r", 2, "print", "ended", 40, ""),
    ACK,
    Stop("soon", "pipe kill"),
    Kill("", "done", "", 0),
    Status("r", "feeding", 3, 1, -1, 4, (Member("w", "wc", 2, 1, 9, 0.5),), ("ventilator",)),
    Bye("host.1.ab", "^C"),
]


def header(word: Wire, *fields: object) -> bytes:
    """A header of that kind with other fields."""
    packed: bytes = msgpack.packb(fields)
    return TOPIC[type(word)] + packed


@pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__)
def test_every_word_comes_back_as_it_was(word: Wire) -> None:
    frames = encode(word)
    assert frames[0].startswith(TOPIC[type(word)])
    assert decode(frames) == word
    assert encode(decode(frames)) == frames


def test_no_word_is_forgotten() -> None:
    assert {type(word) for word in WORDS} == {form.kind for form in FORMS} == set(get_args(Wire))


def test_a_topic_is_no_other_ones_beginning() -> None:
    topics = sorted(TOPIC.values())
    assert topics[0] == b"pipe1.ack "
    assert not [one for one, other in pairwise(topics) if other.startswith(one)]


def test_bodies_are_frames_of_their_own_and_never_in_the_header() -> None:
    assert encode(CHUNK)[1:] == [CHUNK.body]
    assert encode(RESULT)[1:] == [RESULT.output, RESULT.ends, RESULT.errors]
    assert len(encode(replace(CHUNK, body=b"x" * 10**6))[0]) == len(encode(CHUNK)[0])


def test_a_small_chunk_costs_little() -> None:
    assert sum(map(len, encode(CHUNK))) - len(CHUNK.body) < 30


def test_text_that_is_no_unicode_is_sent_anyway() -> None:
    said = decode(encode(Bye("a\udcffb", "")))
    assert said == Bye("a?b", "")


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"pipe1.bye"],
        [b"GET / HTTP/1.1\r\n"],
        [b"\x01pipe1.ack "],
        [header(WORDS[-1])],
        [header(WORDS[-1], "name")],
        [header(WORDS[-1], "name", "reason", "more")],
        [header(WORDS[-1], "name", b"reason")],
        [header(WORDS[-1], "name", 7)],
        [header(WORDS[-1], "name", {"reason": 1})],
        [header(WORDS[-1], "name", "x" * (LONGEST + 1))],
        [*encode(WORDS[-1]), b"a body too many"],
        [encode(WORDS[-1])[0] + b"\0"],
        [encode(WORDS[-1])[0][:-1]],
        [encode(CHUNK)[0]],
        [header(CHUNK, "r", 3, 4, 5, 0), b""],
        [header(CHUNK, "r", 3, 4, -2, 1), b""],
        [header(CHUNK, "r", 3, 4, True, 1), b""],
        [header(CHUNK, "r", 3, 4, 1 << 62, 1), b""],
        [header(CHUNK, "r", 3, 4, 5.0, 1), b""],
        [header(WORDS[6], "later", "reason")],
        [TOPIC[Bye] + b"\x91" * 2000],
        [TOPIC[Bye] + b"x" * HEADER],
    ],
    ids=lambda frames: repr(frames)[:40],
)
def test_what_is_not_ours_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(DecodeError):
        decode(frames)


@pytest.mark.parametrize(
    "ranges", [((3, 3),), ((3, 2),), ((-1, 2),), ((0, 2), (2, 3)), ((5, 6), (0, 1)), ((0, 1, 2),), "ab"]
)
def test_ranges_are_ascending_and_merged(ranges: object) -> None:
    fields = msgpack.unpackb(encode(ACK)[0].removeprefix(TOPIC[Ack]), use_list=False)
    assert decode([header(ACK, *fields)]) == ACK
    with pytest.raises(DecodeError):
        decode([header(ACK, *fields[:6], ranges, *fields[7:])])


@pytest.mark.parametrize("kind", [Ack, Result, Status], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("value", ["", "ab", {}, None, 0], ids=repr)
def test_an_array_is_an_array(kind: type, value: object) -> None:
    word = next(word for word in WORDS if type(word) is kind)
    head, *bodies = encode(word)
    *fields, _ = msgpack.unpackb(head.removeprefix(TOPIC[kind]), use_list=False)
    assert decode([header(word, *fields, ()), *bodies])
    with pytest.raises(DecodeError):
        decode([header(word, *fields, value), *bodies])


@pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__)
def test_only_what_may_be_unknown_is_minus_one(word: Wire) -> None:
    head, *bodies = encode(word)
    fields = msgpack.unpackb(head.removeprefix(TOPIC[type(word)]), use_list=False)
    names = next(form.checks for form in FORMS if form.kind is type(word))
    accepted = set()
    for k, name in enumerate(names):
        with suppress(DecodeError):
            decode([header(word, *fields[:k], -1, *fields[k + 1 :]), *bodies])
            accepted.add(name)
        with pytest.raises(DecodeError):
            decode([header(word, *fields[:k], -2, *fields[k + 1 :]), *bodies])
    assert accepted == {"total", "heard", "turn"} & set(names)


@pytest.mark.parametrize("pace", [-1.0, float("nan"), float("inf"), "1", None, True])
def test_seconds_are_finite_and_not_negative(pace: object) -> None:
    fields = msgpack.unpackb(encode(PULSE)[0].removeprefix(TOPIC[Pulse]), use_list=False)
    with pytest.raises(DecodeError):
        decode([header(PULSE, *fields[:12], pace, fields[13])])


@pytest.mark.parametrize(
    ("output", "ends"),
    [(b"ab", (1, 3)), (b"ab", (2,)), (b"ab", (1, 1, 2)), (b"", ()), (b"abc", (1, 2))],
)
def test_a_result_whose_parts_do_not_fit_is_refused(output: bytes, ends: tuple[int, ...]) -> None:
    packed = struct.pack(f"<{len(ends)}I", *ends)
    with pytest.raises(DecodeError):
        decode(encode(replace(RESULT, output=output, ends=packed)))


@pytest.mark.parametrize(("task", "sound"), [(4, False), (5, True), (6, True), (7, False)])
def test_a_note_is_on_a_task_of_its_result(task: int, *, sound: bool) -> None:
    noted = replace(RESULT, notes=(Note(task, "exit", 1, "odd"),))
    if sound:
        assert decode(encode(noted)) == noted
        return
    with pytest.raises(DecodeError, match="note"):
        decode(encode(noted))


def test_another_version_is_told_by_name() -> None:
    with pytest.raises(ForeignError) as raised:
        decode([b"pipe2.ack \x90"])
    assert raised.value.version == "pipe2"
    with pytest.raises(DecodeError) as refused:
        decode([b"pipe1.sing \x90"])
    assert not isinstance(refused.value, ForeignError)


@pytest.mark.parametrize("bug", [NameError, AttributeError, AssertionError])
def test_a_bug_of_ours_is_no_strangers_fault(monkeypatch: pytest.MonkeyPatch, bug: type[Exception]) -> None:
    def check(_: object) -> object:
        raise bug

    form, _ = codec._BY_PREFIX[TOPIC[Bye]]
    monkeypatch.setitem(codec._BY_PREFIX, TOPIC[Bye], (form, [check, check]))
    with pytest.raises(bug):
        decode(encode(Bye("ann", "")))


def mutated(frames: list[bytes], rng: random.Random) -> list[bytes]:
    """The frames with a few bytes changed, cut out or put in; sometimes a frame is missing, or one too many."""
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


def test_twenty_thousand_mutations_are_words_or_refused() -> None:
    rng = random.Random(5)
    originals = [encode(word) for word in WORDS]
    refused = 0
    for _ in range(20_000):
        frames = mutated(rng.choice(originals), rng)
        try:
            word = decode(frames)
        except DecodeError:
            refused += 1
        else:
            assert decode(encode(word)) == word
    assert 5_000 < refused < 20_000
