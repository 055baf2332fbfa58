"""Which run it is, as ventilator and sink agree on it."""

from __future__ import annotations

from pipeline.ventilator.accord import LOST, Accord
from pipeline.words import errors
from pipeline.words.errands import Connect
from pipeline.words.messages import LISTED, Ack, Run, Stop
from pipeline.words.ranges import RangeSet
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace

NONE = Ack("", -1, "", "one", 1, 0, (), -1, full=False, again=())
OURS = replace(NONE, run="r", heard=1, fingerprint="print", number=2)
NOTHING, SOME = RangeSet(), RangeSet(((0, 4),))
FEEDING = Run("r", 0, "print", "feeding", -1, "")


def accord(*, confirmed: bool = False) -> Accord:
    made = Accord("r", "print", 0.0, patience=100.0)
    made.confirmed = confirmed
    return made


def test_every_saying_has_a_number_of_its_own() -> None:
    ours = accord()
    assert ours.say() == [Send(Port.RESULTS, replace(FEEDING, number=1))]
    ours.ended(7, "disk")
    ours.stop = Stop("soon", "^C")
    ended = Run("r", 2, "print", "ended", 7, "disk")
    assert ours.say() == [Send(Port.RESULTS, ended), Send(Port.RESULTS, Stop("soon", "^C"))]


def test_a_sink_without_a_run_is_offered_this_one() -> None:
    ours = accord()
    assert not ours.is_agreed(NONE, 1.0)
    assert ours.breach(NONE, NOTHING) is None
    assert ours.is_agreed(OURS, 2.0)
    assert ours.breach(OURS, NOTHING) is None
    assert (ours.run.run, ours.resumed, ours.ack) == ("r", False, 2)


def test_the_same_inputs_run_is_taken_up() -> None:
    ours = accord()
    assert ours.is_agreed(replace(OURS, run="older", low=3), 1.0)
    assert (ours.run.run, ours.resumed) == ("older", True)


def test_a_finished_run_of_the_same_input_is_not_taken_up() -> None:
    ours = accord()
    over = replace(OURS, run="older", low=3, total=3)
    assert not ours.is_agreed(over, 1.0)
    assert (ours.run.run, ours.breach(over, NOTHING)) == ("r", None)


def test_where_records_are_compared_the_name_of_the_input_is_enough() -> None:
    later = replace(OURS, run="older", fingerprint="name:then")
    for read, agreed in ((-1, False), (0, True)):
        ours = Accord("r", "name:now", 0.0, patience=100.0)
        assert ours.is_agreed(replace(later, read=read), 1.0) == agreed
    assert not Accord("r", "other:then", 0.0, patience=100.0).is_agreed(replace(later, read=0), 1.0)


def test_a_run_that_was_confirmed_is_never_another() -> None:
    ours = accord(confirmed=True)
    other = replace(OURS, run="older")
    assert not ours.is_agreed(other, 1.0)
    assert (ours.run.run, ours.breach(other, NOTHING)) == ("r", (errors.INCOMPLETE, LOST))


def test_another_inputs_run_is_no_accord_unless_it_is_over() -> None:
    other = replace(OURS, run="older", fingerprint="other", low=3, total=9)
    ours = accord()
    assert not ours.is_agreed(other, 1.0)
    assert ours.breach(other, NOTHING) == (errors.USAGE, "the sink is in the middle of a run of another input")
    assert ours.breach(replace(other, total=-1), NOTHING) is not None
    assert ours.breach(replace(other, total=3), NOTHING) is None


def test_a_sink_that_lost_what_it_had_settled_ends_the_run() -> None:
    ours = accord(confirmed=True)
    assert ours.breach(replace(OURS, low=4), NOTHING) is None
    assert ours.breach(replace(OURS, low=2), SOME) is None  # an older Ack of the same life, come late
    reborn = replace(OURS, epoch="two")
    assert ours.breach(replace(reborn, low=4), SOME) is None
    assert ours.breach(replace(reborn, epoch="three", low=3), SOME) == (errors.INCOMPLETE, LOST)
    assert ours.breach(replace(NONE, epoch="four"), SOME) == (errors.INCOMPLETE, LOST)


def test_an_ack_that_lists_only_the_lowest_has_not_lost_the_others() -> None:
    ours = accord(confirmed=True)
    ranges = tuple((at, at + 1) for at in range(2, 2 + 2 * LISTED, 2))
    settled = RangeSet([*ranges, (9 * LISTED, 9 * LISTED + 1)])
    assert ours.breach(replace(OURS, epoch="two", ranges=ranges), settled) is None
    assert ours.breach(replace(OURS, epoch="three", ranges=ranges[:-1]), settled) == (errors.INCOMPLETE, LOST)
    gap = RangeSet([*settled, (1, 2)])  # below what is listed: lost
    assert ours.breach(replace(OURS, epoch="four", ranges=ranges), gap) == (errors.INCOMPLETE, LOST)


def test_a_silent_sink_gets_new_sockets() -> None:
    ours = accord(confirmed=True)
    assert ours.beat(5.0, 5.0, starved=False) == [Send(Port.RESULTS, replace(FEEDING, number=1))]
    assert ours.beat(5.1, 5.0, starved=False) == [
        Send(Port.CONTROL, Connect()), Send(Port.RESULTS, Connect()), Send(Port.RESULTS, replace(FEEDING, number=2)),
    ]  # fmt: skip


def test_a_sink_that_does_not_hear_us_gets_a_new_socket_too() -> None:
    ours = accord()
    for now in (1.0, 3.0, 5.0, 7.0):
        ours.sink.heard(now)
        ours.is_agreed(OURS, now)  # but always the same number
    assert ours.beat(6.1, 5.0, starved=False) == [Send(Port.RESULTS, Connect())]
    ours.is_agreed(replace(OURS, heard=2), 7.0)
    ours.sink.heard(12.0)
    assert ours.beat(12.0, 5.0, starved=False) == []
    assert ours.beat(12.1, 5.0, starved=False) == [Send(Port.RESULTS, Connect())]


def test_a_sink_is_given_up_after_patience_or_soon_if_an_end_is_wished_for() -> None:
    ours = accord()
    assert ours.lost(1000.0, 2.0) is None  # never met
    ours.sink.heard(1000.0)
    assert ours.lost(1100.0, 2.0) is None
    assert ours.lost(1100.1, 2.0) == (errors.INCOMPLETE, "the sink did not answer any more")
    ours.sink.heard(1101.0)
    ours.stop = Stop("soon", "SIGTERM")
    assert ours.lost(1103.0, 2.0) is None
    assert ours.lost(1103.1, 2.0) == (errors.TERMINATED, "SIGTERM")


def test_it_says_that_the_input_is_silent_while_it_is_read() -> None:
    ours = accord(confirmed=True)
    ours.sink.heard(1.0)
    assert ours.beat(1.0, 5.0, starved=True) == [Send(Port.RESULTS, replace(FEEDING, number=1, waiting=True))]
    assert ours.beat(2.0, 5.0, starved=False) == [Send(Port.RESULTS, replace(FEEDING, number=2))]
    ours.ended(3, "")
    assert not ours.beat(3.0, 5.0, starved=True)[0].message.waiting  # type: ignore[union-attr]
