"""One lane: what it may be sent, what it holds, whether its worker and its connection are still there; then all."""

from __future__ import annotations

from pipeline.ventilator.lanes import GROWTH, IN_FLIGHT, MOST_SPANS, SUSPECT, WORK, Lane, Lanes, claimed, share
from pipeline.ventilator.stock import Span, Stock
from pipeline.ventilator.transit import UNSEEN
from pipeline.words.messages import Pulse
from pipeline.words.parts import Recipe, Tried
from pipeline.words.ranges import RangeSet
from pipeline.words.station import NEVER
from pipeline.words.structs import replace
from pipeline.words.tries import Tries

LINES = Recipe()
PULSE = Pulse(
    worker="ann", number=1, run="r", digest="d", command="wc", slots=2, lane=3, seen=0, allowed=4, holding=(),
    finished=(), ack=0, pace=0.0, done=0,
)  # fmt: skip


def span(first: int, count: int, lane: int = 0, sequence: int = 0) -> Span:
    return Span(first, count, b"".join(b"%d\n" % task for task in range(first, first + count)), lane, sequence)


def lane() -> Lane:
    """Lane 3 of ann's, bound, allowed four chunks."""
    made = Lane(3, PULSE, b"peer", 0.0)
    made.at = "ipc://lane"
    made.pulsed(PULSE, b"peer", 0.0)
    return made


def test_credit_is_the_highest_sequence_that_may_be_sent() -> None:
    one = lane()
    assert one.room() == 4
    assert one.carry(span(0, 2), 1.0) == span(0, 2, lane=3, sequence=1)
    assert one.carry(span(2, 1), 1.0) == span(2, 1, lane=3, sequence=2)
    assert one.room() == 2
    one.pulsed(PULSE, b"peer", 1.5)  # the same again changes nothing
    assert one.room() == 2
    one.pulsed(replace(PULSE, allowed=1), b"peer", 2.0)  # what was sent is sent
    assert one.room() == 0
    one.pulsed(replace(PULSE, seen=2, allowed=5), b"peer", 3.0)
    assert one.room() == 3


def test_of_another_lane_only_the_difference_counts() -> None:
    one = lane()
    one.pulsed(replace(PULSE, lane=2, seen=70, allowed=75), b"peer", 0.0)
    assert one.room() == 5
    one.pulsed(replace(PULSE, lane=2, seen=70, allowed=60), b"peer", 0.0)
    assert one.room() == 0


def test_no_room_before_it_is_bound_nor_with_too_much_in_flight() -> None:
    one = lane()
    one.at = ""
    assert one.room() == 0
    one.at = "ipc://lane"
    assert one.room() == 4
    one.hold(Span(0, 1, b"x" * IN_FLIGHT))  # in its hands, not on the way: that is no reason to starve it
    assert one.room() == 4
    one.carry(Span(1, 1, b"x" * IN_FLIGHT), 1.0)
    assert one.room() == 0
    one.pulsed(replace(PULSE, seen=1, allowed=6), b"peer", 2.0)
    assert one.room() == 5


def test_no_room_for_more_chunks_than_a_pulse_can_name() -> None:
    one = lane()
    one.pulsed(replace(PULSE, allowed=2 * MOST_SPANS), b"peer", 0.0)
    for task in range(0, 2 * MOST_SPANS - 2, 2):
        one.hold(span(task, 1))
    assert one.room() == 1


def test_what_was_seen_to_pass_and_is_not_held_goes_out_again() -> None:
    one = lane()
    for first in (0, 10, 20):
        one.carry(span(first, 4), 1.0)
    pulse = replace(PULSE, seen=2, holding=((1, 2), (10, 12)), finished=((12, 14),))
    assert one.judge(pulse, LINES, Tries()) == [span(0, 1, 3, 1), span(2, 2, 3, 1)]
    assert list(one.out.values()) == [span(10, 4, 3, 2), span(20, 4, 3, 3), span(1, 1, 3, 1)]
    assert (one.claims.ranges(), one.finished.ranges()) == (((1, 2), (10, 14)), ((12, 14),))
    assert one.size == len(span(10, 4).body + span(20, 4).body + span(1, 1).body)
    assert one.judge(pulse, LINES, Tries()) == []


def test_what_a_former_lane_carried_is_judged_by_a_pulse_that_knows_the_newer_one() -> None:
    one = lane()
    one.carry(span(0, 1), 1.0)
    one.rebind(5)
    one.at = "ipc://again"
    one.carry(span(1, 1), 2.0)
    assert one.judge(replace(PULSE, lane=3, seen=0), LINES, Tries()) == []
    assert one.judge(replace(PULSE, lane=5, seen=0), LINES, Tries()) == [span(0, 1, 3, 1)]
    assert one.judge(replace(PULSE, lane=5, seen=1), LINES, Tries()) == [span(1, 1, 5, 1)]


def test_what_its_worker_holds_of_an_earlier_try_it_does_not_hold() -> None:
    one, tries = lane(), Tries([Tried(1, 3, 1)])
    pulse = replace(PULSE, holding=((0, 2),), finished=((2, 4),))
    assert claimed(pulse, Tries()).ranges() == ((0, 4),)
    assert claimed(pulse, tries).ranges() == ((0, 1), (3, 4))
    assert claimed(replace(pulse, tried=(Tried(2, 3, 1),)), tries).ranges() == ((0, 1), (2, 4))
    one.carry(replace(span(1, 1), tries=1), 1.0)
    assert one.judge(replace(pulse, seen=1), LINES, tries) == [replace(span(1, 1, 3, 1), tries=1)]


def test_what_failed_goes_out_again_with_more_tries_and_rather_to_another() -> None:
    one = lane()
    one.carry(span(0, 4), 1.0)
    one.carry(replace(span(7, 1), tries=2), 1.0)
    one.judge(replace(PULSE, seen=2, holding=((0, 4), (7, 8))), LINES, Tries())
    assert one.retry(Tried(1, 8, 2), LINES, due=5.0) == [replace(span(1, 3), tries=2, due=5.0, avoid="ann")]
    assert list(one.out.values()) == [replace(span(7, 1, 3, 2), tries=2), span(0, 1, 3, 1)]
    assert one.claims.ranges() == ((0, 1),)  # until a pulse says that it holds the next try
    assert one.size == len(b"7\n0\n")


def test_what_goes_out_is_of_its_lane_and_waits_for_nobody_any_more() -> None:
    back = replace(span(5, 1, lane=1, sequence=9), tries=2, due=7.0, avoid="bob")
    assert lane().carry(back, 8.0) == replace(span(5, 1, lane=3, sequence=1), tries=2)


def test_unfinished_is_what_it_was_given_and_is_not_known_to_have_ended() -> None:
    one = lane()
    one.carry(span(0, 4), 1.0)
    assert one.unfinished().ranges() == ((0, 4),)
    one.judge(replace(PULSE, seen=1, holding=((2, 4),), finished=((0, 2),)), LINES, Tries())
    one.carry(span(8, 1), 2.0)
    assert one.unfinished().ranges() == ((2, 4), (8, 9))


def test_who_has_one_suspect_alone_gets_nothing_else_until_that_has_gone() -> None:
    one = lane()
    one.solo = "draining"
    assert (one.room(), one.allowance()) == (0, 4)
    one.carry(span(0, 1), 1.0)
    one.solo = "alone"
    assert (one.room(), one.allowance()) == (0, 3)
    one.settle(RangeSet([(0, 1)]), LINES)
    assert (one.room(), one.solo) == (3, "")


def test_what_is_settled_is_forgotten() -> None:
    one = lane()
    one.carry(span(0, 4), 1.0)
    one.settle(RangeSet(((0, 1), (2, 3))), LINES)
    assert list(one.out.values()) == [span(1, 1, 3, 1), span(3, 1, 3, 1)]
    one.settle(RangeSet(((0, 9),)), LINES)
    assert (one.out, one.size) == ({}, 0)


def test_chunks_grow_fourfold_per_measurement_towards_so_much_work() -> None:
    one, sizes = lane(), []
    for done in (1, 1, 5, 21, 100, 200, 300):
        one.pulsed(replace(PULSE, done=done, pace=WORK / 300), b"peer", 0.0)
        sizes.append(one.chunk)
    assert sizes == [GROWTH, GROWTH, 16, 64, 256, 300, 300]
    one.pulsed(replace(PULSE, done=301, pace=2.0), b"peer", 0.0)
    assert one.chunk == 1


def test_a_chunk_is_a_fair_share_of_what_is_at_hand() -> None:
    one = lane()
    one.chunk = 10
    assert [share(one, at_hand, 4, None) for at_hand in (0, 3, 5, 40, 1000)] == [1, 1, 2, 10, 10]
    assert share(one, 1000, 0, None) == 10
    assert share(one, 1, 4, 7) == 7


def test_a_lane_that_swallows_chunks_while_pulses_come_is_overdue() -> None:
    one = lane()
    assert not one.overdue(1000.0)
    one.carry(span(0, 1), 10.0)
    assert not one.overdue(20.0)  # no pulse since: perhaps the worker is frozen
    one.pulsed(PULSE, b"peer", 12.0)
    assert not one.overdue(10.0 + UNSEEN)
    assert one.overdue(10.1 + UNSEEN)
    one.pulsed(replace(PULSE, seen=1), b"peer", 14.0)
    assert not one.overdue(1000.0)


def test_a_large_chunk_has_more_time() -> None:
    one = lane()
    one.carry(Span(0, 1, b"x" * 4_000_000), 10.0)
    one.pulsed(PULSE, b"peer", 12.0)
    assert not one.overdue(16.9)
    assert one.overdue(17.1)


def test_each_repair_in_a_row_doubles_the_time_until_something_is_seen() -> None:
    one = lane()
    one.rebind(4)
    assert (one.number, one.at, one.sequence) == (4, "", 0)
    one.at = "ipc://again"
    one.carry(span(0, 1), 10.0)
    one.pulsed(replace(PULSE, lane=4), b"peer", 12.0)
    assert not one.overdue(15.9)
    assert one.overdue(16.1)
    one.pulsed(replace(PULSE, lane=4, seen=1), b"peer", 17.0)
    one.carry(span(1, 1), 20.0)
    one.pulsed(replace(PULSE, lane=4, seen=1), b"peer", 22.0)
    assert one.overdue(23.1)


def test_silence_is_loss_and_unreachability_is_suspicion() -> None:
    one = lane()
    assert not one.is_silent(10.0, 10.0)
    assert one.is_silent(10.1, 10.0)
    one.suspected = 1.0
    assert not one.is_silent(1.0 + SUSPECT, 10.0)
    assert one.is_silent(1.1 + SUSPECT, 10.0)
    one.pulsed(PULSE, b"new", 3.0)
    assert (one.peer, one.suspected) == (b"new", NEVER)
    assert not one.is_silent(13.0, 10.0)


def both() -> tuple[Stock, Lanes, Lane, Lane]:
    """A stock, and all lanes: ann's, then bob's."""
    stock = Stock(LINES)
    lanes = Lanes(stock)
    ann, bob = lane(), Lane(4, replace(PULSE, worker="bob", lane=4), b"bob", 0.0)
    lanes.add(ann)
    lanes.add(bob)
    return stock, lanes, ann, bob


def back(stock: Stock) -> list[Span]:
    """All that would be sent again."""
    spans = []
    while (taken := stock.next_back(lambda _: True)) is not None:
        spans.append(stock.take_back(taken, taken.count))
    return spans


def test_each_worker_has_its_lane() -> None:
    _, lanes, ann, bob = both()
    assert (list(lanes), len(lanes)) == ([ann, bob], 2)
    assert (lanes.of("ann"), lanes.of("bob"), lanes.of("eve")) == (ann, bob, None)
    for one in lanes:  # they may be closed while one looks through them
        lanes.close(one, 0.0)
    assert (list(lanes), len(lanes), lanes.of("ann")) == ([], 0, None)


def test_their_size_is_all_that_workers_hold() -> None:
    _, lanes, ann, bob = both()
    assert lanes.size == 0
    ann.carry(span(0, 2), 1.0)
    bob.carry(span(10, 1), 1.0)
    assert lanes.size == len(b"0\n1\n10\n")
    lanes.settle(RangeSet(((1, 11),)))
    assert lanes.size == len(b"0\n")


def test_all_lanes_forget_what_is_settled() -> None:
    _, lanes, ann, bob = both()
    ann.carry(span(0, 4), 1.0)
    bob.carry(span(4, 2), 1.0)
    lanes.settle(RangeSet(((0, 3), (5, 6))))
    assert (list(ann.out.values()), list(bob.out.values())) == ([span(3, 1, 3, 1)], [span(4, 1, 4, 1)])


def test_claimed_is_what_any_worker_says_it_holds() -> None:
    _, lanes, ann, bob = both()
    assert lanes.claimed().ranges() == ()
    lanes.judge(ann, replace(PULSE, holding=((0, 2),), finished=((7, 8),)))
    lanes.judge(bob, replace(PULSE, lane=4, holding=((2, 3),)))
    assert lanes.claimed().ranges() == ((0, 3), (7, 8))
    lanes.close(ann, 0.0)
    assert lanes.claimed().ranges() == ((2, 3),)


def test_who_goes_gives_back_all_but_what_others_hold() -> None:
    stock, lanes, ann, bob = both()
    ann.carry(span(0, 4), 1.0)
    lanes.judge(bob, replace(PULSE, lane=4, holding=((1, 2),)))
    lanes.close(ann, 0.0)
    assert list(bob.out.values()) == [span(1, 1)]
    assert back(stock) == [span(0, 1, 3, 1), span(2, 2, 3, 1)]


def test_what_a_pulse_does_not_hold_goes_back_and_what_it_does_is_not_sent_to_others() -> None:
    stock, lanes, ann, _ = both()
    ann.carry(span(0, 3), 1.0)
    stock.put_back(span(8, 2))
    lanes.judge(ann, replace(PULSE, seen=1, holding=((1, 2), (8, 9))))
    assert list(ann.out.values()) == [span(1, 1, 3, 1), span(8, 1)]
    assert back(stock) == [span(0, 1, 3, 1), span(2, 1, 3, 1), span(9, 1)]


def test_what_is_adopted_is_of_no_lane_so_that_the_next_pulse_judges_it() -> None:
    stock, lanes, ann, _ = both()
    stock.put_back(span(5, 1, lane=9, sequence=70))
    ann.claims.add(5, 6)
    lanes.adopt(ann)
    assert (list(ann.out.values()), back(stock)) == ([span(5, 1)], [])
    lanes.judge(ann, PULSE)
    assert (list(ann.out.values()), back(stock)) == ([], [span(5, 1)])


def test_what_a_lane_loses_goes_to_another_that_holds_it_and_not_to_itself() -> None:
    stock, lanes, ann, bob = both()
    ann.claims.add(0, 2)
    bob.claims.add(1, 2)
    lanes.take_back(ann, [span(0, 3)])
    assert (list(ann.out.values()), list(bob.out.values())) == ([], [span(1, 1)])
    assert back(stock) == [span(0, 1), span(2, 1)]


def test_all_that_anybody_has_of_an_earlier_try_goes_back() -> None:
    stock, lanes, ann, bob = both()
    ann.carry(span(0, 2), 1.0)
    bob.carry(span(4, 2), 1.0)
    stock.put_back(span(8, 2))
    lanes.retry(Tried(1, 5, 1), 5.0)
    lanes.retry(Tried(8, 9, 1), 6.0)
    assert (list(ann.out.values()), list(bob.out.values())) == ([span(0, 1, 3, 1)], [span(5, 1, 4, 1)])
    assert back(stock) == [
        replace(span(1, 1), tries=1, due=5.0, avoid="ann"), replace(span(4, 1), tries=1, due=5.0, avoid="bob"),
        replace(span(8, 1), tries=1, due=6.0), span(9, 1),
    ]  # fmt: skip


def test_what_is_adopted_keeps_its_tries() -> None:
    stock, lanes, ann, _ = both()
    stock.tries.set(5, 6, 1)
    stock.put_back(replace(span(5, 1), tries=1))
    lanes.judge(ann, replace(PULSE, holding=((5, 6),)))  # of the try before: nobody's
    assert (list(ann.out.values()), lanes.claimed().ranges()) == ([], ())
    lanes.judge(ann, replace(PULSE, holding=((5, 6),), tried=(Tried(5, 6, 1),)))
    assert (list(ann.out.values()), back(stock)) == ([replace(span(5, 1), tries=1)], [])


def test_who_is_lost_makes_suspects_of_what_it_had_not_finished_until_it_comes_back() -> None:
    _, lanes, ann, bob = both()
    ann.carry(span(0, 3), 1.0)
    lanes.judge(ann, replace(PULSE, seen=1, holding=((1, 3),), finished=((0, 1),)))
    lanes.suspect(ann)
    assert [lanes.suspects.level(task) for task in range(4)] == [0, 1, 1, 0]
    lanes.settle(RangeSet([(2, 3)]))
    assert [lanes.suspects.level(task) for task in range(4)] == [0, 1, 0, 0]
    bob.carry(span(1, 1), 2.0)
    bob.solo = "alone"
    lanes.suspect(bob)
    assert (lanes.suspects.level(1), lanes.suspects.convicted(1)) == (2, [1])
    lanes.add(Lane(7, replace(PULSE, worker="bob"), b"bob", 3.0))
    assert (lanes.suspects.level(1), lanes.suspects.convicted(1)) == (1, [])


def test_what_one_had_who_leaves_because_the_run_is_over_goes_out_again_only_if_acks_go_on() -> None:
    stock, lanes, ann, _ = both()
    ann.carry(span(0, 2), 1.0)
    lanes.parked = 2.0
    lanes.close(ann, NEVER)
    lanes.wake(1.9)
    assert stock.next_due(9.0) == NEVER
    assert [part.due for part in (stock.next_back(lambda _: True),) if part] == [NEVER]
    lanes.wake(2.0)
    assert [part.due for part in (stock.next_back(lambda _: True),) if part] == [0.0]
