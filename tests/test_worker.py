"""The worker: what it answers to each word, from its first pulse to its Bye."""

from __future__ import annotations

import pytest

from pipeline.words import errors
from pipeline.words.errands import Broken, Cancel, Connect, Done, Foreign, Look, Release, Returned
from pipeline.words.messages import Ack, Bye, Chunk, Glance, Kill, Part, Pulse, Result, Stop, Welcome
from pipeline.words.notices import Asked, Shown, Waiting
from pipeline.words.parts import Again, Doing, Note, Recipe, Retry, Tried
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace
from pipeline.worker.voice import Identity
from pipeline.worker.worker import ALL, Worker

PULSE = Pulse(
    worker="ann", number=1, run="", digest="d", command="wc", slots=1, lane=0, seen=0, allowed=1, holding=(),
    finished=(), ack=0, pace=0.0, done=0,
)  # fmt: skip
WELCOME = Welcome("r", "run", "", Recipe(), 1, "ipc://1", "ipc://s", "ipc://c", 1.0, 10.0)
ACK = Ack("r", 1, "print", "one", 101, 0, (), -1, full=False, again=())
CHUNK = Chunk("r", 1, 1, 0, 2, b"a\nb\n")
NOTE = Note(0, "exit", 1, "oh", "", 0)
DONE = Done(Result("", "", 0, 1, b"A", b"\1\0\0\0", b"e", (NOTE,)), 0.05)
RESULT = Result("r", "ann", 0, 1, b"A", b"\1\0\0\0", b"e", (NOTE,))
LOOK = Send(Port.EXECUTOR, Look())
JOIN = [
    Send(Port.EXECUTOR, Recipe()), Send(Port.RESULTS, Connect("ipc://s")), Send(Port.CONTROL, Connect("ipc://c")),
    Send(Port.LANES, Connect("ipc://1")),
]  # fmt: skip


def goodbye(*, welcomed: bool = True, over: bool = False) -> list[Send]:
    bye = Bye("ann", over)
    to_sink = [Send(Port.RESULTS, bye)] if welcomed else []
    return [Send(Port.EXECUTOR, Cancel(ALL)), Send(Port.DESK, bye), *to_sink]


def fresh() -> Worker:
    ours = Worker(Identity("ann", "d", "wc", 1), 0.0, patience=60.0)
    assert ours.tick(0.0) == [Send(Port.DESK, PULSE)]
    return ours


def joined() -> Worker:
    """On lane 1 since 0.5, and it has been given tasks 0 and 1."""
    ours = fresh()
    assert ours.receive(WELCOME, 0.5) == JOIN
    hello = replace(PULSE, number=2, run="r", lane=1)
    assert ours.tick(0.5) == [Send(Port.DESK, hello), Send(Port.RESULTS, hello)]
    assert ours.receive(ACK, 0.6) == []
    assert ours.receive(CHUNK, 0.6) == [Send(Port.EXECUTOR, CHUNK)]
    return ours


def test_from_chunk_to_answer() -> None:
    ours = joined()
    assert ours.receive(DONE, 0.65) == [Send(Port.RESULTS, RESULT)]
    assert ours.deadline == 0.0
    assert ours.tick(0.65) == []  # one task is running, so there is nothing to ask for
    beat = replace(
        PULSE, number=3, run="r", lane=1, seen=1, allowed=1, holding=((1, 2),), finished=((0, 1),), ack=101, pace=0.05,
        done=1,
    )  # fmt: skip
    assert ours.tick(1.5)[-2:] == [Send(Port.DESK, beat), Send(Port.RESULTS, beat)]
    assert ours.receive(replace(ACK, number=102, low=1), 1.6) == []
    assert ours.tick(2.5)[-1] == Send(Port.RESULTS, replace(beat, number=4, finished=(), ack=102))


def test_a_result_is_sent_again_only_when_asked_later_than_it_was_sent() -> None:
    ours = joined()
    ours.receive(DONE, 0.65)  # after pulse 2
    ask = replace(ACK, again=(Again("ann", 2, ((0, 1),)), Again("bob", 9, ((0, 1),))))
    assert ours.receive(ask, 0.7) == []
    assert ours.receive(replace(ask, again=(Again("ann", 3, ((0, 1),)),)), 0.8) == [Send(Port.RESULTS, RESULT)]


def test_what_was_settled_elsewhere_is_cancelled_and_what_ends_then_is_not_told() -> None:
    ours = joined()
    assert ours.receive(replace(ACK, ranges=((0, 1),)), 0.7) == [Send(Port.EXECUTOR, Cancel(((0, 1),)))]
    assert ours.receive(DONE, 0.8) == []


def test_acks_and_chunks_of_other_runs_say_nothing() -> None:
    ours = joined()
    assert ours.receive(replace(ACK, run="x", low=9), 0.7) == []
    assert ours.receive(replace(CHUNK, run="x", first=5, sequence=2), 0.7) == []
    assert ours.receive(replace(CHUNK, lane=9, first=5, sequence=2), 0.7) == []
    assert ours.receive(DONE, 0.8) == [Send(Port.RESULTS, RESULT)]


def test_the_same_chunk_again_runs_nothing() -> None:
    assert joined().receive(CHUNK, 0.7) == []


def test_a_failed_task_comes_again_and_its_result_says_which_try_it_was() -> None:
    ours = joined()
    ours.receive(DONE, 0.65)
    again = Chunk("r", 1, 2, 0, 1, b"a\n", tries=1)
    assert ours.receive(again, 0.7) == [Send(Port.EXECUTOR, again)]
    assert ours.receive(again, 0.7) == []
    second = replace(RESULT, tries=1)
    assert ours.receive(DONE, 0.8) == [Send(Port.RESULTS, second)]
    # the first is answered by the retry, the second by neither
    beat = replace(ACK, retries=(Retry(0, 1, 1, 0.0),), again=(Again("ann", 9, ((0, 1),)),))
    assert ours.receive(beat, 0.9) == [Send(Port.RESULTS, second)]
    pulse = ours.tick(1.5)[1].message
    assert isinstance(pulse, Pulse)
    assert (pulse.holding, pulse.finished, pulse.tried) == (((1, 2),), ((0, 1),), (Tried(0, 1, 1),))


def test_a_later_try_of_what_still_runs_takes_its_place() -> None:
    again = Chunk("r", 1, 2, 1, 1, b"b\n", tries=1)
    assert joined().receive(again, 0.7) == [Send(Port.EXECUTOR, Cancel(((1, 2),))), Send(Port.EXECUTOR, again)]


def test_neighbours_of_different_tries_that_ended_together_are_results_of_their_own() -> None:
    ours = joined()
    ours.receive(replace(CHUNK, sequence=2, first=2, tries=1), 0.7)
    ends = bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])
    done = Done(Result("", "", 0, 4, b"ABCD", ends, b"", ()), 0.1)
    ends = bytes([1, 0, 0, 0, 2, 0, 0, 0])
    assert ours.receive(done, 0.8) == [
        Send(Port.RESULTS, Result("r", "ann", 0, 2, b"AB", ends, b"", ())),
        Send(Port.RESULTS, Result("r", "ann", 2, 2, b"CD", ends, b"", (), 1)),
    ]


def test_what_cannot_start_soon_is_given_back() -> None:
    ours = joined()
    assert ours.tick(0.65) == []
    assert ours.tick(0.7) == [Send(Port.EXECUTOR, Release())]
    assert ours.receive(Returned(((1, 2),)), 0.71) == []
    assert ours.deadline == 0.0
    beat = replace(PULSE, number=3, run="r", lane=1, seen=1, allowed=1, holding=((0, 1),), ack=101)
    assert ours.tick(1.5) == [LOOK, Send(Port.DESK, beat), Send(Port.RESULTS, beat)]


def test_another_run_begins_anew() -> None:
    ours = joined()
    ours.receive(DONE, 0.65)
    sends = ours.receive(replace(WELCOME, run="s", lane=7), 0.7)
    assert sends == [Send(Port.EXECUTOR, Cancel(ALL)), *JOIN]
    hello = replace(PULSE, number=3, run="s", lane=7, pace=0.05, done=1)
    assert ours.tick(0.7) == [Send(Port.DESK, hello), Send(Port.RESULTS, hello)]


@pytest.mark.parametrize("mode", ["done", "now"])
def test_kill_ends_it_at_once(mode: str) -> None:
    ours = joined()
    assert ours.receive(Kill("r", mode, "why", 0), 0.7) == goodbye(over=True)  # type: ignore[arg-type]
    assert (ours.done, ours.outcome, ours.reason) == (True, errors.OK, "why")


def test_kill_of_another_run_is_not_obeyed() -> None:
    ours = joined()
    assert ours.receive(Kill("x", "now", "", 0), 0.7) == []
    assert not ours.done


def test_kill_before_any_welcome_is_obeyed_after_a_liveness_of_silence() -> None:
    ours = fresh()
    assert ours.receive(Kill("x", "done", "", 0), 9.9) == []
    assert ours.receive(Kill("x", "done", "", 0), 10.1) == goodbye(welcomed=False, over=True)


def test_kill_soon_lets_it_finish_and_wait_for_the_answer() -> None:
    ours = joined()
    assert ours.receive(Kill("r", "soon", "^C", 0), 0.62) == [Send(Port.EXECUTOR, Release())]
    assert ours.receive(Kill("r", "soon", "^C", 0), 0.63) == []
    ours.receive(Returned(((1, 2),)), 0.63)
    assert ours.receive(replace(CHUNK, sequence=2, first=5), 0.63) == []
    ours.receive(DONE, 0.64)
    last = replace(PULSE, number=3, run="r", lane=1, seen=2, allowed=2, finished=((0, 1),), ack=101, pace=0.05, done=1)
    assert ours.tick(0.64) == [Send(Port.DESK, last)]  # so what it has not taken goes to others
    assert ours.receive(replace(ACK, low=1), 0.7) == []
    assert ours.tick(0.7) == goodbye(over=True)
    assert (ours.done, ours.outcome, ours.reason) == (True, errors.OK, "^C")


def test_asked_to_leave_it_finishes_what_runs_and_asked_again_it_does_not() -> None:
    ours = joined()
    assert ours.receive(Stop("soon", "SIGTERM"), 0.62) == [Send(Port.EXECUTOR, Release())]
    assert not ours.done
    assert ours.receive(Stop("soon", "SIGTERM"), 0.63) == goodbye()
    assert (ours.done, ours.outcome, ours.reason) == (True, errors.TERMINATED, "SIGTERM")


@pytest.mark.parametrize(
    ("word", "outcome", "reason"),
    [
        (replace(WELCOME, state="refused", reason="other command"), errors.USAGE, "refused: other command"),
        (replace(WELCOME, state="over", reason="pipe kill"), errors.OK, "pipe kill"),
        (Broken("no such command", errors.USAGE), errors.USAGE, "no such command"),
        (Foreign(b"", "pipe9"), errors.INCOMPLETE, errors.foreign("pipe9")),
    ],
)
def test_there_are_other_ends(word: Welcome | Broken | Foreign, outcome: int, reason: str) -> None:
    ours = fresh()
    assert ours.receive(word, 0.5) == goodbye(welcomed=False, over=isinstance(word, Welcome) and outcome == 0)
    assert (ours.done, ours.outcome, ours.reason) == (True, outcome, reason)


def test_silence_is_told_repaired_and_in_the_end_not_waited_for() -> None:
    ours = joined()
    ours.receive(Returned(((0, 2),)), 0.6)
    assert Send(Port.TOLD, Waiting("ventilator")) in ours.tick(3.5)
    assert Send(Port.DESK, Connect()) in ours.tick(4.6)
    assert Send(Port.CONTROL, Connect()) in ours.tick(6.7)
    assert ours.tick(60.6)[-3:] == goodbye()
    reason = "the ventilator did not answer any more"
    assert (ours.done, ours.outcome, ours.reason) == (True, errors.INCOMPLETE, reason)


def test_lines_of_a_running_task_go_to_the_sink_and_those_of_others_do_not() -> None:
    ours = joined()
    part = Part("r", 1, 0, 4, b"a\n")
    assert ours.receive(part, 0.7) == [Send(Port.RESULTS, part)]
    assert ours.receive(Part("r", 2, 0, 0, b"a\n"), 0.7) == []


def test_it_looks_at_each_beat_and_tells_the_sink_and_who_asks() -> None:
    ours, doing = joined(), (Doing(0, 1, 0.5, "wc a"),)
    glance = Glance("ann", 0.5, 1024, doing)
    assert LOOK in ours.tick(1.5)
    assert ours.receive(Glance("", 0.5, 1024, doing), 1.5) == [Send(Port.RESULTS, glance)]
    assert ours.receive(Asked(), 1.6) == [LOOK]
    told = [Send(Port.TOLD, Shown(glance)), Send(Port.RESULTS, glance)]
    assert ours.receive(Glance("", 0.5, 1024, doing), 1.6) == told
    assert fresh().receive(Glance("", 0.5, 1024, doing), 0.1) == []


def test_results_say_their_shape_and_have_the_accounts_of_their_tasks() -> None:
    ours = fresh()
    ours.receive(replace(WELCOME, recipe=Recipe(shape="columns")), 0.5)
    ours.receive(CHUNK, 0.6)
    (said,) = ours.receive(replace(DONE, result=replace(DONE.result, accounts=b"of it")), 0.65)
    assert said.message == replace(RESULT, accounts=b"of it", shape="columns")
