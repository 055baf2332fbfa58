"""Each rule of the protocol, switched off: the simulated line must notice, or a figure must worsen.

A mutant replaces one small method by one without its rule. What no seed and no figure misses is no rule, and goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from line import Line

from pipeline.sink.attempts import Attempts
from pipeline.sink.audience import Audience
from pipeline.sink.closing import Closing
from pipeline.sink.intake import Intake
from pipeline.sink.ledger import Ledger
from pipeline.sink.live import Live
from pipeline.sink.sink import Sink
from pipeline.sink.writing import Writing
from pipeline.ventilator import lanes
from pipeline.ventilator.accord import Accord
from pipeline.ventilator.desk import Desk
from pipeline.ventilator.feeding import Feeding
from pipeline.ventilator.judged import Judged
from pipeline.ventilator.lanes import Lane, Lanes
from pipeline.ventilator.marking import Marking
from pipeline.ventilator.stock import Span, cut
from pipeline.ventilator.suspects import Suspects
from pipeline.ventilator.ventilator import Ventilator
from pipeline.words.errands import Connect, Fetch, Show, Write
from pipeline.words.messages import Kill, Part, Result, Run
from pipeline.words.parts import Recipe, Tried
from pipeline.words.ranges import RangeSet
from pipeline.words.results import cut_result
from pipeline.words.station import NEVER, Port, Send
from pipeline.words.structs import replace
from pipeline.words.tries import Tries
from pipeline.words.watch import Watch
from pipeline.worker import held, worker
from pipeline.worker.held import Held
from pipeline.worker.ties import Ties
from pipeline.worker.unanswered import Unanswered

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


DEAD: dict[str, Any] = {"faults": {"dead": 0.6}}
BROKEN: dict[str, Any] = {"faults": {"break": 0.6}}
ENDED: dict[str, Any] = {"faults": {"restart sink": 3.0}, "stop": "soon", "stop_at": 3.0, "tasks": 60}

EDITED: dict[str, Any] = {"tasks": 60, "seconds": 0.3, "long": 0.0, "slots": 2, "workers": 2, "stop": "", "halt": None}
EDITED |= {"poison": False, "faults": {"restart ventilator": 0.3}}


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


def lines(line: Line) -> float:
    return line.log.lines


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


def _welcomes_without_wants(method: Method) -> Method:
    return lambda self, run, _, now: method(self, run, Recipe(), now)


def _no_ack(method: Method) -> Method:
    def beat(self: Sink, now: float) -> Any:
        before = self.speech.due
        sends = method(self, now)
        self.speech.due = before
        return sends

    return beat


def _acks_what_is_written(method: Method) -> Method:
    def safe(self: Writing, word: Any) -> Any:
        if word.store == "output":
            self._ledger.settled.update(
                (sent.low, sent.high) for sent in self.underway._writes if sent.number <= word.number
            )
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
        return [self._write(part)]

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


def _tells_of_retries_at_once(method: Method) -> Method:
    def again(self: Attempts, result: Result) -> list[Tried]:
        tried: list[Tried] = method(self, result)
        for each in tried:
            self.wait(each, 0.0)
        return tried

    return again


def _one_try(_: Method) -> Method:
    def fewer(*_args: Any) -> list[Any]:
        return []

    return fewer


def _always_alone(method: Method) -> Method:
    def lost(self: Suspects, worker: str, held: RangeSet, *, alone: bool) -> None:
        del alone
        method(self, worker, held, alone=True)
        for low, high in held:
            for task in range(low, high):
                self._alone.setdefault(task, set()).add(worker)

    return lost


def _says_before_the_journal(method: Method) -> Method:
    def wish(self: Closing, mode: Any, reason: str, now: float, code: int | None = None) -> list[Send]:
        sends: list[Send] = method(self, mode, reason, now, code)
        kills = [self._say(Kill(self._ledger.run, mode, reason, 130))] if sends else []
        return [*sends, *(send for said in kills for send in said)]

    return wish


def _forgets_the_end(method: Method) -> Method:
    def tick(self: Closing, now: float) -> Any:
        killed, self._ledger.killed = self._ledger.killed, None
        if self.verdict._asked is None:
            return method(self, now)
        self._ledger.killed = killed
        return method(self, now)

    return tick


def _logs_and_knows(_: Method) -> Method:
    def log_of(self: Writing, part: Result, tried: list[Tried]) -> list[Send]:
        sends = []
        for each in tried:
            (piece,) = cut_result(part, [(each.low, each.high)])
            self.underway.write(piece, each)
            sends += [Send(Port.OUTPUT, Write(self.underway._number, piece, tried=True))]
            sends += [self._ledger.enter(each)] if self._ledger.again(each) else []
        return sends

    return log_of


def _shows_all(_: Method) -> Method:
    return lambda _, part: [Send(Port.OUTPUT, Show(part.body))]


def _takes_late_results(method: Method) -> Method:
    def flush(self: Writing) -> list[Send]:
        sends: list[Send] = method(self)
        self.flushing = False
        return sends

    return flush


def _any_try(method: Method) -> Method:
    def heard(self: Live, part: Part) -> Any:
        known = self._heard.get(part.task)
        return method(self, replace(part, tries=known.tries) if known else part)

    return heard


def _no_advance(method: Method) -> Method:
    def beat(self: Sink, now: float) -> Any:
        return [send for send in method(self, now) if not isinstance(send.message, Fetch)]

    return beat


MUTANTS = [
    Mutant("a failed task is tried again", Attempts, "again", nothing([])),
    Mutant("a retry is told when the journal has it", Attempts, "again", _tells_of_retries_at_once),
    Mutant("a later try is not the same task again", Tries, "fewer", _one_try),
    Mutant(
        "a result whose task is tried again is answered",
        Unanswered,
        "settle",
        lambda method: lambda self, settled, *_: method(self, settled),
        sendings,
        {"retries": 3, "retry_delay": 2.0, "faults": {"break": 0.6}},
    ),
    Mutant(
        "what has failed since is not asked for again",
        Ledger,
        "missing",
        lambda method: lambda self, finished, _=(): method(self, finished, (Tried(0, 99, 99),)),
        sendings,
        {"retries": 3, "faults": {"late": 1, "drop": 1}},
    ),
    Mutant(
        "a claim of an earlier try is none",
        lanes,
        "claimed",
        lambda _: lambda pulse, _: RangeSet((*pulse.holding, *pulse.finished)),
        waited,
        {"retries": 3, "retry_delay": 0.0, "faults": {}, "wants": "", "workers": 1, "slots": 1, "tasks": 7}
        | {"seconds": 0.3, "delay": 0.3, "long": 0.0, "halt": None, "stop": "", "poison": False, "slow_input": False},
    ),
    Mutant("who takes workers along is convicted", Suspects, "convicted", nothing([]), None, {"poison": True}),
    Mutant("only losses while alone convict", Suspects, "lost", _always_alone, None, {"poison": True, "faults": {}}),
    Mutant(
        "suspects go singly, then alone",
        Suspects,
        "level",
        nothing(0),
        None,
        {"poison": True, "faults": {}},
    ),
    Mutant(
        "a verdict of the ventilator is repeated",
        Judged,
        "say",
        nothing([]),
        None,
        {"poison": True, "calm_after": 150.0} | DEAD,
    ),
    Mutant(
        "no result is taken of a task that nobody has told of", Intake, "told_of", nothing(answer=True), None, BROKEN
    ),
    Mutant(
        "checksums of two readings are cut at the same places",
        Marking,
        "_cuts",
        lambda _: lambda _self, _first, end: [end],
        None,
        EDITED | {"edited": 20, "slow_input": True},
    ),
    Mutant(
        "a group is read to its end to be compared",
        Marking,
        "needed",
        lambda _: 0,
        None,
        {"window": 64, "tasks": 60, "faults": {"restart ventilator": 0.6}},
    ),
    Mutant("Read is repeated", Marking, "say", nothing([]), None, DEAD),
    Mutant("an early end is in the journal before it is said", Closing, "wish", _says_before_the_journal, None, ENDED),
    Mutant("who is to end gives up waiting for room", Closing, "_give_up", nothing([]), None, {**ENDED, "fills": 2.0}),
    Mutant("a sink that comes back knows that the run was to end", Closing, "tick", _forgets_the_end, None, ENDED),
    Mutant(
        "a sink that comes back looks whose turn it is",
        Sink,
        "_beat",
        _no_advance,
        None,
        {"keep_order": True, "tasks": 60, "seconds": 0.03, "delay": 0.001, "faults": {"restart sink": 3.0}},
    ),
    Mutant("the spill forgets what is written", Writing, "forget", nothing([]), None, {"keep_order": True}),
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
        seconds,
        {"stop": "soon", "stop_at": 3.0, "faults": {"dead": 0.6, "freeze worker": 0.6}},
    ),
    Mutant(
        "a result is kept until it is answered",
        Unanswered,
        "keep",
        nothing(None),
        None,
        {"faults": {"break": 0.6, "dead": 0.2}, "tasks": 60},
    ),
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
    Mutant("a worker knows what the sink wants before its first task", Desk, "begin", _welcomes_without_wants),
    Mutant("repair of a worker's desk", Watch, "repair_due", deaf_to("ventilator")),
    Mutant("repair of control, and of the ventilator's way to the sink", Watch, "repair_due", deaf_to("sink")),
    Mutant("repair of a lane", Lane, "overdue", nothing(answer=False), None, DEAD),
    Mutant("repair of a worker's results", Ties, "repairs", but_not(Port.RESULTS, Connect), None, DEAD),
    Mutant("repair of the ventilator's results", Accord, "beat", but_not(Port.RESULTS, Connect)),
    Mutant("Ack is repeated", Sink, "_beat", _no_ack, alarms, {"faults": {}, "seconds": 6.0, "tasks": 7}),
    Mutant("Run is repeated", Accord, "beat", but_not(Port.RESULTS, Run)),
    Mutant(
        "who leaves because the run is over leaves nothing to be done",
        Desk,
        "left",
        lambda method: lambda self, bye, now: method(self, replace(bye, over=False), now),
        executions,
        {"faults": {"late": 1}, "workers": 3, "slots": 3, "tasks": 7, "seconds": 0.03, "delay": 0.02, "retries": 0},
    ),
    Mutant(
        "a dead ventilator is not waited for",
        Audience,
        "on_ventilator_dead",
        nothing([]),
        seconds,
        {"ventilator_dies": 3.0, "faults": {}, "tasks": 60, "seconds": 0.8, "slow_input": True},
    ),
    Mutant("Kill is repeated", Sink, "_beat", but_not(Port.CONTROL, Kill)),
    Mutant("Welcome is repeated", Desk, "welcome_all", nothing([]), alarms, {"faults": {}, "seconds": 6.0, "tasks": 7}),
    Mutant(
        "a Welcome says that the run is over",
        Desk,
        "over",
        nothing([]),
        None,
        {"faults": {"dead": 0.6, "freeze worker": 0.6, "freeze sink": 0.2, "drop": 1}},
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
        "a ventilator reads on for what workers hold when the run ends soon",
        Feeding,
        "read_on",
        nothing([]),
        None,
        {"stop": "soon", "stop_at": 4.0, "faults": {"restart ventilator": 0.6, "dead": 0.6}, "tasks": 60},
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
    Mutant(
        "when the end is being written, results are too late",
        Writing,
        "flush",
        _takes_late_results,
        None,
        {"wants": "live", "keep_order": True, "stop": "soon", "stop_at": 3.0, "tasks": 60},
    ),
    Mutant(
        "a try is written down before it is known to have failed",
        Writing,
        "_log_of",
        _logs_and_knows,
        None,
        {"wants": "log", "retries": 3, "faults": {"restart sink": 3.0}, "tasks": 60},
    ),
    Mutant(
        "a try that is known to have failed has its row",
        Ledger,
        "is_news",
        nothing(answer=True),
        None,
        {"wants": "log", "retries": 3, "faults": {"freeze all": 0.6}},
    ),
    Mutant("what was shown is not written again", Live, "shown", nothing(()), None, {"wants": "live"}),
    Mutant("lines come once, behind each other", Live, "heard", _shows_all, None, {"wants": "live"}),
    Mutant(
        "lines of an earlier try are none of this one",
        Live,
        "heard",
        _any_try,
        None,
        {"wants": "live", "retries": 3, "retry_delay": 0.0, "seconds": 0.8, "tasks": 60, "slots": 3, "workers": 3}
        | {"faults": {"freeze worker": 0.6, "partition": 0.6}},
    ),
    Mutant(
        "lines are shown when their turn comes",
        Live,
        "turned",
        nothing([]),
        lines,
        {"wants": "live", "keep_order": True, "faults": {}, "retries": 0, "poison": False, "halt": None, "stop": ""}
        | {"seconds": 3.0, "long": 8.0, "tasks": 7, "workers": 3, "slots": 3},
    ),
    Mutant("results wait for their turn", Writing, "place", _keeps_silent_about_order),
]
