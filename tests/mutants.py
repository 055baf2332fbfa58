"""Each rule of the protocol, switched off: the simulated line must notice, or a figure must worsen.

A mutant replaces one small method by one without its rule. What no seed and no figure misses is no rule, and goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from line import Line

from pipeline import held, worker
from pipeline.accord import Accord
from pipeline.desk import Desk
from pipeline.errands import Connect, Written
from pipeline.feeding import Feeding
from pipeline.held import Held
from pipeline.lanes import Lane, Lanes
from pipeline.ledger import Ledger
from pipeline.messages import Kill, Recipe, Result, Run
from pipeline.ranges import RangeSet
from pipeline.sink import Sink
from pipeline.station import NEVER, Port
from pipeline.stock import Span, cut
from pipeline.ties import Ties
from pipeline.unanswered import Unanswered
from pipeline.ventilator import Ventilator
from pipeline.watch import Watch
from pipeline.writing import Writing

Method = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule and the line without it. `figure` is None where a seed must fail; else what must grow, over all seeds."""

    rule: str
    place: Any
    method: str
    without: Callable[[Any], Any]
    figure: Callable[[Line], float] | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    """To the plan of every seed, so that the rule is asked for."""


def nothing(answer: Any) -> Callable[[Method], Method]:
    """The method does nothing and answers so."""
    return lambda _: lambda *_args, **_named: answer


def but_not(port: Port, *kinds: type) -> Callable[[Method], Method]:
    """The method's sends of these kinds to that port are left out."""

    def without(method: Method) -> Method:
        def mutated(*args: Any, **named: Any) -> Any:
            return [send for send in method(*args, **named) if send.to != port or not isinstance(send.message, kinds)]

        return mutated

    return without


def deaf_to(who: str) -> Callable[[Method], Method]:
    """This peer's connection is never replaced."""

    def without(method: Method) -> Method:
        return lambda self, *args: self._who != who and method(self, *args)

    return without


def executions(line: Line) -> float:
    return sum(line.log.executions.values())


def sendings(line: Line) -> float:
    return line.log.said.get("Result", 0)


def seconds(line: Line) -> float:
    return line.clock.now


def busy(line: Line) -> float:
    return line.log.busy


def alarms(line: Line) -> float:
    return line.log.alarms


def waited(line: Line) -> float:
    return line.log.waited


def _judge_by_sequence(_: Method) -> Method:
    def judge(self: Lane, pulse: Any, recipe: Recipe) -> list[Span]:
        self.claims = RangeSet((*pulse.holding, *pulse.finished))
        gone: list[Span] = []

        def held(span: Span) -> list[tuple[int, int]]:
            if span.sequence > pulse.seen:
                return [(span.first, span.end)]
            gone.extend(cut(span, self.claims.outside(span.first, span.end), recipe))
            return self.claims.inside(span.first, span.end)

        self._keep(held, recipe)
        return gone

    return judge


def _always_judged(method: Method) -> Method:
    return lambda self, peer, pulse, _, now: method(self, peer, pulse, True, now)


def _runs_all(_: Method) -> Method:
    def new(self: Held, chunk: Any, *_: Any) -> list[Any]:
        self.unfinished.add(chunk.first, chunk.first + chunk.count)
        return [chunk]

    return new


def _asked_always(method: Method) -> Method:
    return lambda self, again, pulse, now: method(self, replace(again, pulse=1 << 40), pulse, now)


def _not_quiet(method: Method) -> Method:
    def join(self: Ventilator, *args: Any) -> Any:
        sends = method(self, *args)
        self._quiet_until = 0.0
        return sends

    return join


def _no_ack(method: Method) -> Method:
    def beat(self: Sink, now: float) -> Any:
        before = self.speech.due
        sends = method(self, now)
        self.speech.due = before
        return sends

    return beat


def _acks_what_is_written(method: Method) -> Method:
    def safe(self: Writing, word: Any) -> Any:
        if isinstance(word, Written):
            self._ledger.settled.update((sent.low, sent.high) for sent in self._writes if sent.number <= word.number)
        return method(self, word)

    return safe


def _takes_all(_: Method) -> Method:
    def accept(self: Ledger, result: Result) -> list[Result]:
        self.pending.add(result.first, result.first + result.count)
        return [result]

    return accept


def _forgets_early(method: Method) -> Method:
    def pulsed(self: Desk, *args: Any) -> Any:
        sends = method(self, *args)
        self._early.clear()
        return sends

    return pulsed


def _always_room(_: Method) -> Method:
    return lambda self: 1 if self.at else 0


def _reads_on(method: Method) -> Method:
    def want(self: Feeding, lanes: Lanes) -> Any:
        self._window = 1 << 40
        return method(self, lanes)

    return want


def _keeps_silent_about_order(_: Method) -> Method:
    def place(self: Writing, part: Any) -> Any:
        return [self._write(part, 0)]

    return place


def _fresh_below(_: Method) -> Method:
    def read(self: Feeding, records: Any, lanes: Lanes) -> list[Any]:
        self._reading = False
        span = Span(records.first, records.count, records.body)
        known = RangeSet((*self.settled.inside(span.first, span.end), *lanes.claimed().inside(span.first, span.end)))
        if not known.tasks:
            self.stock.add(records)
            return []
        for part in cut(span, self.settled.outside(span.first, span.end), self.stock.recipe):
            self.stock.put_back(part)
        for lane in lanes:
            lanes.adopt(lane)
        return []

    return read


def _waits_at_the_end(method: Method) -> Method:
    def reason(*args: Any) -> Any:
        end = method(*args)
        return None if end and "left that no sink" in end[1] else end

    return reason


MUTANTS = [
    Mutant(
        "what lies below the settled is never fresh",
        Feeding,
        "read",
        _fresh_below,
        None,
        {"keep_order": True, "spill_limit": 4, "tasks": 60, "long": 5.0, "window": 1 << 20, "workers": 3}
        | {"faults": {"restart ventilator": 0.6, "kill worker": 0.2}},
    ),
    Mutant(
        "a worker whose run has ended does not wait for a sink that is gone",
        worker,
        "reason_to_end",
        _waits_at_the_end,
        None,
        {"stop": "soon", "stop_at": 3.0, "faults": {"dead": 0.6, "freeze worker": 0.6}},
    ),
    Mutant("a result is kept until it is answered", Unanswered, "keep", nothing(None)),
    Mutant("the sink asks again for what a pulse has finished and it has not", Ledger, "missing", nothing(())),
    Mutant(
        "an asking older than the last sending is ignored",
        Unanswered,
        "asked",
        _asked_always,
        sendings,
        {"faults": {"break": 0.6, "late": 1}},
    ),
    Mutant("what a pulse does not hold any more goes out again", Lane, "judge", nothing([])),
    Mutant("lane and sequence compare as a pair", Lane, "judge", _judge_by_sequence),
    Mutant("a lane carries no more than was asked for", Lane, "room", _always_room),
    Mutant(
        "a pulse is judged only by an Ack as new as its own",
        Desk,
        "pulsed",
        _always_judged,
        executions,
        {"faults": {"late": 1, "drop": 1}},
    ),
    Mutant("the same task again runs nothing", Held, "new", _runs_all, executions, {"faults": {"double": 1}}),
    Mutant("silence is loss", Lane, "is_silent", nothing(answer=False)),
    Mutant("unreachability is suspicion", Desk, "unreachable", nothing([]), seconds, {"faults": {"kill worker": 0.2}}),
    Mutant(
        "what a worker says it holds is not sent to others",
        Lanes,
        "adopt",
        nothing(None),
        executions,
        {"faults": {"restart ventilator": 0.2}, "tasks": 7, "workers": 3, "slots": 3, "seconds": 6.0},
    ),
    Mutant(
        "a ventilator that comes back is quiet at first",
        Ventilator,
        "_confirm",
        _not_quiet,
        executions,
        {"faults": {"restart ventilator": 0.2}},
    ),
    Mutant("repair of a worker's desk", Watch, "repair_due", deaf_to("ventilator")),
    Mutant("repair of control, and of the ventilator's way to the sink", Watch, "repair_due", deaf_to("sink")),
    Mutant("repair of a lane", Lane, "overdue", nothing(answer=False)),
    Mutant("repair of a worker's results", Ties, "repairs", but_not(Port.RESULTS, Connect)),
    Mutant("repair of the ventilator's results", Accord, "beat", but_not(Port.RESULTS, Connect)),
    Mutant("Ack is repeated", Sink, "_beat", _no_ack, alarms, {"faults": {}, "seconds": 6.0, "tasks": 7}),
    Mutant("Run is repeated", Accord, "beat", but_not(Port.RESULTS, Run)),
    Mutant("Kill is repeated", Sink, "_beat", but_not(Port.CONTROL, Kill)),
    Mutant("Welcome is repeated", Desk, "welcome_all", nothing([]), alarms, {"faults": {}, "seconds": 6.0, "tasks": 7}),
    Mutant(
        "a Welcome says that the run is over",
        Desk,
        "over",
        nothing([]),
        None,
        {"faults": {"dead": 0.6, "freeze worker": 0.6, "drop": 1}},
    ),
    Mutant(
        "what is settled elsewhere is not run on",
        Held,
        "elsewhere",
        nothing(()),
        busy,
        {"faults": {"freeze worker": 0.6}, "seconds": 20.0, "long": 60.0, "tasks": 7, "slots": 3, "workers": 3},
    ),
    Mutant(
        "what is stuck is given back",
        held,
        "STUCK",
        lambda _: NEVER,
        waited,
        {"faults": {}, "chunk": 4, "long": 5.0, "seconds": 0.01, "delay": 0.001, "workers": 3},
    ),
    Mutant("an Ack follows the journal", Writing, "safe", _acks_what_is_written),
    Mutant("each task is taken once", Ledger, "accept", _takes_all),
    Mutant("who calls before the run is known is remembered", Desk, "pulsed", _forgets_early, seconds, {"faults": {}}),
    Mutant("nothing is read past the window", Feeding, "_want", _reads_on),
    Mutant("results wait for their turn", Writing, "place", _keeps_silent_about_order),
]
