"""Results in pieces: the parts of one, and neighbours as one.

A part is a result like any other. Nothing here looks into what tasks wrote; a result comes from a peer, so lengths are
never trusted to be in order.
"""

from __future__ import annotations

import struct
from array import array
from itertools import accumulate
from sys import byteorder

from pipeline.words import accounts
from pipeline.words.messages import Result
from pipeline.words.structs import replace


def cut_result(result: Result, ranges: list[tuple[int, int]]) -> list[Result]:
    """The parts of a result that lie in `ranges`; stderr goes with the first part, unless accounts cut it, too."""
    if ranges == [(result.first, result.first + result.count)]:
        return [result]
    ends = array("I", result.ends)
    if byteorder == "big":
        ends.byteswap()
    ends = array(
        "I", accumulate(ends, max)
    )  # a worker's word: it may cut its own output wrongly, but not kill the sink
    parts: list[Result] = []
    for low, high in ranges:
        start = ends[low - result.first - 1] if low > result.first else 0
        own = array("I", (end - start for end in ends[low - result.first : high - result.first]))
        if byteorder == "big":
            own.byteswap()
        parts.append(
            replace(
                result,
                first=low,
                count=high - low,
                output=bytes(memoryview(result.output)[start : ends[high - result.first - 1]]),
                ends=own.tobytes(),
                errors=_errors(result, low, high) if result.accounts else b"" if parts else result.errors,
                notes=tuple(note for note in result.notes if low <= note.task < high),
                records=_records(result, low, high),
                accounts=accounts.cut(result.accounts, low - result.first, high - result.first),
            )
        )
    return parts


def _errors(result: Result, low: int, high: int) -> bytes:
    """What the tasks from `low` to `high` wrote to stderr, as their accounts say."""
    ends = list(accumulate((each.errors for each in accounts.each(result.accounts)), initial=0))
    return result.errors[ends[low - result.first] : ends[high - result.first]]


def _records(result: Result, low: int, high: int) -> bytes:
    """The records of the tasks from `low` to `high` that did not end well."""
    if not result.records:
        return b""
    starts = accumulate((note.size for note in result.notes), initial=0)
    spans = [(note, start) for note, start in zip(result.notes, starts, strict=False) if low <= note.task < high]
    return b"".join([result.records[start : start + note.size] for note, start in spans])


def merged(results: list[Result]) -> Result:
    """Consecutive results as one, the `ends` counted from its start. It bears the name of the first's worker."""
    first = results[0]
    if len(results) == 1:
        return first
    ends: list[int] = []
    base = 0
    for result in results:
        most = len(result.output)  # a worker's word, of which only the last end was checked
        ends += [base + min(end, most) for (end,) in struct.iter_unpack("<I", result.ends)]
        base += len(result.output)
    return Result(
        first.run,
        first.worker,
        first.first,
        sum(result.count for result in results),
        b"".join([result.output for result in results]),
        struct.pack(f"<{len(ends)}I", *ends),
        b"".join([result.errors for result in results]),
        tuple(note for result in results for note in result.notes),
        first.tries,
        b"".join([result.records for result in results]),
        b"".join([result.accounts for result in results]),
        first.shape,
    )


def unshown(result: Result, shown: tuple[tuple[int, int], ...]) -> bytes:
    """What its tasks wrote, without the so many first bytes of these tasks."""
    if not shown:
        return result.output
    ends, known = [0, *(end for (end,) in struct.iter_unpack("<I", result.ends))], dict(shown)
    starts = [ends[at] + known.get(result.first + at, 0) for at in range(result.count)]
    return b"".join([result.output[start:end] for start, end in zip(starts, ends[1:], strict=True)])
