"""What a worker says of itself."""

from __future__ import annotations

from pipeline.words.errands import Connect, Done
from pipeline.words.messages import Ack, Chunk, Pulse, Result, Welcome
from pipeline.words.parts import Again, Note, Recipe, Tried
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace
from pipeline.worker.held import Held
from pipeline.worker.voice import BUDGET, UNSAID, Identity, Voice

WELCOME = Welcome("r", "run", "", Recipe(), 3, "ipc://l", "ipc://s", "ipc://c", 2.0, 20.0)
FIRST = Pulse(
    worker="ann", number=1, run="", digest="d", command="wc", slots=2, lane=0, seen=0, allowed=2, holding=(),
    finished=(), ack=0, pace=0.0, done=0,
)  # fmt: skip
JOINED = replace(FIRST, number=2, run="r", lane=3)
RESULT = Result("", "", 0, 1, b"x", b"\1\0\0\0", b"e", (Note(0, "exit", 1, "", "", 0),))
DONE = Done(RESULT, 0.5)


def chunk(sequence: int, first: int, count: int = 1) -> Chunk:
    return Chunk("r", 3, sequence, first, count, b"x\n" * count)


def scene() -> tuple[Voice, Held]:
    """Ann with two slots, who has called at 10.0 and joined run r on lane 3."""
    held = Held(2, 10.0)
    voice = Voice(Identity("ann", "d", "wc", 2), held, 10.0)
    assert voice.tick(10.0, asks=True) == [Send(Port.DESK, FIRST)]
    assert voice.welcomed(WELCOME) == [Send(Port.LANES, Connect("ipc://l"))]
    return voice, held


def test_who_has_joined_says_so_at_once_and_then_at_each_interval_also_to_the_sink() -> None:
    voice, _ = scene()
    assert voice.soon
    assert voice.tick(10.5, asks=True) == [Send(Port.DESK, JOINED), Send(Port.RESULTS, JOINED)]
    assert (voice.soon, voice.next) == (False, 12.5)
    assert voice.tick(12.4, asks=True) == []
    beat = replace(JOINED, number=3)
    assert voice.tick(12.5, asks=True) == [Send(Port.DESK, beat), Send(Port.RESULTS, beat)]
    assert voice.next == 14.5


def test_a_new_lane_of_the_same_run_is_said_at_once_to_the_desk_alone() -> None:
    voice, _ = scene()
    voice.tick(10.5, asks=True)
    voice.welcomed(replace(WELCOME, lane=4))
    assert voice.tick(10.6, asks=True) == [Send(Port.DESK, replace(JOINED, number=3, lane=4))]
    voice.welcomed(replace(WELCOME, run="s", lane=1))
    anew = replace(JOINED, number=4, run="s", lane=1)
    assert voice.tick(10.7, asks=True) == [Send(Port.DESK, anew), Send(Port.RESULTS, anew)]


def test_the_same_welcome_again_changes_nothing() -> None:
    voice, _ = scene()
    voice.saw(chunk(1, 0), 10.1)
    assert voice.welcomed(WELCOME) == []
    assert voice.welcomed(replace(WELCOME, lane=2)) == []
    assert (voice.lane, voice.seen) == (3, 1)


def test_a_newer_lane_begins_anew_and_so_does_another_run() -> None:
    voice, _ = scene()
    voice.saw(chunk(7, 0), 10.1)
    assert voice.welcomed(replace(WELCOME, lane=4, lane_at="ipc://m")) == [Send(Port.LANES, Connect("ipc://m"))]
    assert (voice.lane, voice.seen) == (4, 0)
    assert voice.welcomed(replace(WELCOME, run="s", lane=1)) == [Send(Port.LANES, Connect("ipc://l"))]
    assert (voice.run, voice.lane, voice.ack) == ("s", 1, 0)


def test_chunks_of_other_runs_and_lanes_are_not_seen() -> None:
    voice, _ = scene()
    assert not voice.saw(replace(chunk(9, 0), run="s"), 10.1)
    assert not voice.saw(replace(chunk(9, 0), lane=2), 10.1)
    assert voice.saw(chunk(2, 0), 10.1)
    assert voice.saw(chunk(1, 0), 10.1)
    assert voice.seen == 2


def test_a_pulse_says_all_that_is_held() -> None:
    voice, held = scene()
    voice.tick(10.0, asks=True)
    for sequence, first in ((1, 0), (2, 5)):
        voice.saw(chunk(sequence, first, 2), 10.1)
        held.new(chunk(sequence, first, 2), Recipe(), 10.1)
    held.finish(DONE, 10.6)
    result = voice.result(DONE)
    assert result == Result("r", "ann", 0, 1, b"x", b"\1\0\0\0", b"e", (Note(0, "exit", 1, "", "", 0),))
    held.unanswered.keep(result, voice.number, 10.6)
    voice.meant(Ack("r", 1, "print", "one", 77, 0, (), -1, full=False, again=()))
    pulse = replace(
        JOINED, number=3, seen=2, allowed=2, holding=((1, 2), (5, 7)), finished=((0, 1),), ack=77, pace=0.5, done=1
    )
    assert voice.tick(12.0, asks=True) == [Send(Port.DESK, pulse), Send(Port.RESULTS, pulse)]


def test_a_pulse_says_what_is_held_for_another_try_be_it_running_or_ended() -> None:
    voice, held = scene()
    voice.tick(10.0, asks=True)
    for sequence, tries in ((1, 1), (2, 0), (3, 2)):
        one = replace(chunk(sequence, 2 * sequence, 2), tries=tries)
        voice.saw(one, 10.1)
        held.new(one, Recipe(), 10.1)
    done = Done(replace(RESULT, first=6), 0.5)
    held.finish(done, 10.6)
    held.unanswered.keep(replace(voice.result(done), tries=2), voice.number, 10.6)
    pulse = voice.tick(12.0, asks=True)[0].message
    assert isinstance(pulse, Pulse)
    assert (pulse.holding, pulse.finished) == (((2, 6), (7, 8)), ((6, 7),))
    assert pulse.tried == (Tried(2, 4, 1), Tried(6, 8, 2))


def test_records_of_failed_tasks_go_with_their_result() -> None:
    voice, _ = scene()
    assert voice.result(Done(replace(RESULT, records=b"task"), 0.5)).records == b"task"


def test_an_idle_slot_is_said_at_once_and_no_news_are_not() -> None:
    voice, held = scene()
    voice.tick(10.0, asks=True)
    for number in (1, 2):
        voice.saw(chunk(number, number), 10.1)
        held.new(chunk(number, number), Recipe(), 10.1)
        assert voice.tick(10.1, asks=True) == []
    done = Done(replace(RESULT, first=1), 0.5)
    held.finish(done, 10.6)
    voice.result(done)
    assert voice.soon
    (send,) = voice.tick(10.6, asks=True)
    assert isinstance(send.message, Pulse)
    assert (send.to, send.message.seen, send.message.allowed) == (Port.DESK, 2, 3)
    assert voice.tick(10.7, asks=True) == []


def test_who_is_stuck_asks_for_idle_slots_only() -> None:
    voice, held = scene()
    voice.tick(10.0, asks=False)
    held.new(chunk(1, 0, 4), Recipe(), 10.1)
    held.tick(10.3)
    held.give_back(((1, 4),))
    voice.saw(chunk(1, 0, 4), 10.1)
    voice.result(replace(DONE, seconds=0.001))  # by its pace alone it would ask for more
    (send,) = voice.tick(10.4, asks=True)
    assert isinstance(send.message, Pulse)
    assert (send.message.allowed, send.message.holding) == (2, ((0, 1),))


def test_who_leaves_or_has_too_much_unanswered_asks_for_nothing() -> None:
    voice, held = scene()
    voice.saw(chunk(5, 0), 10.1)
    assert [send.message.allowed for send in voice.tick(10.2, asks=False) if isinstance(send.message, Pulse)] == [5, 5]
    held.unanswered.keep(Result("r", "ann", 9, 1, b"x" * (BUDGET + 1), b"\0\0\0\0", b"", ()), 1, 11.0)
    assert voice.tick(12.0, asks=True) == []
    assert [send.message.allowed for send in voice.tick(13.0, asks=True) if isinstance(send.message, Pulse)] == [5, 5]


def test_of_an_ack_it_hears_what_is_asked_of_itself() -> None:
    voice, _ = scene()
    mine, other = Again("ann", 1, ((0, 1),)), Again("bob", 1, ((2, 3),))
    ack = Ack("r", 1, "print", "one", 78, 0, (), -1, full=False, again=(other, mine))
    assert voice.meant(ack) == [mine]
    assert voice.ack == 78


def test_what_has_come_is_said_before_the_lane_counts_it_as_too_much_under_way() -> None:
    voice, held = scene()
    voice.tick(10.0, asks=True)
    for sequence, size in ((1, UNSAID - 1), (2, 1)):
        one = replace(chunk(sequence, sequence), body=b"x" * size)
        assert voice.tick(10.1, asks=True) == []
        assert voice.saw(one, 10.1)
        held.new(one, Recipe(block=True), 10.1)
    assert voice.soon
    (send,) = voice.tick(10.1, asks=True)
    assert isinstance(send.message, Pulse)
    assert (send.to, send.message.seen) == (Port.DESK, 2)
    assert voice.tick(10.2, asks=True) == []


def test_who_holds_nothing_any_more_has_said_all_that_came() -> None:
    voice, held = scene()
    voice.tick(10.0, asks=True)
    voice.saw(chunk(1, 0), 10.1)
    held.new(chunk(1, 0), Recipe(), 10.1)
    assert voice.tick(10.1, asks=True) == []
    held.give_back(((0, 1),))
    (send,) = voice.tick(10.2, asks=True)
    assert isinstance(send.message, Pulse)
    assert (send.message.seen, send.message.holding) == (1, ())
