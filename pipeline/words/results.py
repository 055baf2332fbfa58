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


def slice_result(result: Result, ranges: list[tuple[int, int]]) -> list[Result]:
    """The parts of a result that lie in `ranges`; stderr goes with the first part, unless accounts cut it, too."""
    if ranges == [(result.first, result.first + result.count)]:
        return [result]
    ends = array("I", result.output_ends)
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
                output_ends=own.tobytes(),
                stderr=_slice_stderr(result, low, high) if result.metrics else b"" if parts else result.stderr,
                failures=tuple(note for note in result.failures if low <= note.task < high),
                failed_records=_slice_records(result, low, high),
                metrics=accounts.slice_metrics(result.metrics, low - result.first, high - result.first),
            )
        )
    return parts


def _slice_stderr(result: Result, low: int, high: int) -> bytes:
    """What the tasks from `low` to `high` wrote to stderr, as their accounts say."""
    ends = list(accumulate((each.stderr_size for each in accounts.decode_metrics(result.metrics)), initial=0))
    return result.stderr[ends[low - result.first] : ends[high - result.first]]


def _slice_records(result: Result, low: int, high: int) -> bytes:
    """The records of the tasks from `low` to `high` that did not end well."""
    if not result.failed_records:
        return b""
    starts = accumulate((note.record_size for note in result.failures), initial=0)
    spans = [(note, start) for note, start in zip(result.failures, starts, strict=False) if low <= note.task < high]
    return b"".join([result.failed_records[start : start + note.record_size] for note, start in spans])


def merge_results(results: list[Result]) -> Result:
    """Consecutive results as one, the `ends` counted from its start. It bears the name of the first's worker."""
    first = results[0]
    if len(results) == 1:
        return first
    ends: list[int] = []
    base = 0
    for result in results:
        most = len(result.output)  # a worker's word, of which only the last end was checked
        ends += [base + min(end, most) for (end,) in struct.iter_unpack("<I", result.output_ends)]
        base += len(result.output)
    return Result(
        first.run,
        first.worker,
        first.first,
        sum(result.count for result in results),
        b"".join([result.output for result in results]),
        struct.pack(f"<{len(ends)}I", *ends),
        b"".join([result.stderr for result in results]),
        tuple(note for result in results for note in result.failures),
        first.attempt,
        b"".join([result.failed_records for result in results]),
        b"".join([result.metrics for result in results]),
        first.shape,
    )


def remaining_output(result: Result, streamed_sizes: tuple[tuple[int, int], ...]) -> bytes:
    """What its tasks wrote, without the so many first bytes of these tasks."""
    if not streamed_sizes:
        return result.output
    ends, known = [0, *(end for (end,) in struct.iter_unpack("<I", result.output_ends))], dict(streamed_sizes)
    starts = [ends[at] + known.get(result.first + at, 0) for at in range(result.count)]
    return b"".join([result.output[start:end] for start, end in zip(starts, ends[1:], strict=True)])
