"""Tasks on which the ventilator itself has the last word: too large to be sent, or poison for workers.

Their final records are results like all others, said until the sink has settled them. They are never sent to a worker.
"""

from __future__ import annotations

from pipeline.ventilator.stock import Span
from pipeline.words.messages import Result
from pipeline.words.parts import Note, Recipe
from pipeline.words.ranges import RangeSet
from pipeline.words.records import each
from pipeline.words.station import VENTILATOR, Port, Send
from pipeline.words.structs import replace

NOTHING = bytes(4)
"""The ends of a task that wrote nothing."""


class Judged:
    """The records of the judged tasks, by number."""

    def __init__(self) -> None:
        self._results: dict[int, Result] = {}
        self._unsaid: list[int] = []

    def __contains__(self, task: int) -> bool:
        return task in self._results

    def large(self, span: Span, size: int, recipe: Recipe) -> None:
        """The one task of this span is too large to be sent."""
        text = f"a task of {size} bytes is more than --max-task-bytes"
        self._add(span, Note(span.first, "size", 0, text, "", 0), recipe)

    def poison(self, span: Span, lost: int, recipe: Recipe) -> None:
        """The one task of this span has taken so many workers along."""
        text = f"{lost} worker{'s were' if lost != 1 else ' was'} lost while it ran there alone"
        self._add(span, Note(span.first, "poison", 0, text, "", 0), recipe)

    def _add(self, span: Span, note: Note, recipe: Recipe) -> None:
        record = span.body if recipe.block else span.body[:-1]
        note = replace(note, size=len(record))
        self._results[span.first] = Result(
            "", VENTILATOR, span.first, 1, b"", NOTHING, b"", (note,), span.tries, record, b"", recipe.shape
        )
        self._unsaid.append(span.first)

    def settle(self, settled: RangeSet) -> None:
        """Forget those that the sink has settled."""
        if self._results:
            self._results = {task: result for task, result in self._results.items() if task not in settled}

    def news(self, run: str) -> list[Send]:
        """What has not been said yet."""
        unsaid, self._unsaid = self._unsaid, []
        return [self._send(task, run) for task in unsaid if task in self._results]

    def say(self, run: str) -> list[Send]:
        """All of it, again."""
        return [self._send(task, run) for task in self._results]

    def _send(self, task: int, run: str) -> Send:
        return Send(Port.RESULTS, replace(self._results[task], run=run))


def too_large(span: Span, most: int, recipe: Recipe) -> list[tuple[int, int]]:
    """Which of these tasks have more than `most` bytes, as (task, size)."""
    if len(span.body) <= most:
        return []
    sizes = enumerate(map(len, each(span.body, recipe)), start=span.first)
    return [(task, size) for task, size in sizes if size > most]
