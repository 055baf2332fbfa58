"""Splitting and merging results; per-task metrics.

What the sink is told of each task where it wants an account: when and where it ran, what it cost, what it was.

Accounts are bytes, one behind the other in the order of tasks, so that they can be cut and joined without being read.
They hold records and commands byte for byte. Nothing here is trusted: what does not fit raises ValueError.

Results in pieces: the parts of one, and neighbours as one.

A part is a result like any other. Nothing here looks into what tasks wrote; a result comes from a peer, so lengths are
never trusted to be in order.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from itertools import accumulate
from struct import Struct
from sys import byteorder
from typing import NamedTuple

from pipeline.model.messages import Result
from pipeline.model.structs import replace

_METRICS_HEADER = Struct("<4dQ4I")
_METRICS_LENGTHS = Struct("<3I")
_METRICS_LENGTHS_OFFSET = _METRICS_HEADER.size - _METRICS_LENGTHS.size


class TaskMetrics(NamedTuple):
    """One task in one try. Times are seconds, `started` since 1970; `rss` is the most memory it had, in bytes.

    `queued` is how long it waited for a slot here; `slot` counts from 1; `errors` are the bytes of its stderr.
    """

    started_at: float
    queued_seconds: float
    seconds: float
    cpu_seconds: float
    max_rss: int
    slot: int
    stderr_size: int
    command: bytes
    record: bytes


def encode_metrics(metrics: TaskMetrics) -> bytes:
    """One account as bytes."""
    *numbers, command, record = metrics
    return _METRICS_HEADER.pack(*numbers, len(command), len(record)) + command + record


def decode_metrics(body: bytes) -> Iterator[TaskMetrics]:
    """All of them, read one by one. Raises ValueError at what is none."""
    for start, end, errors, command in _metrics_spans(body):
        at = start + _METRICS_HEADER.size
        started, queued, seconds, cpu, rss, slot, *_ = _METRICS_HEADER.unpack_from(body, start)
        name, record = body[at : at + command], body[at + command : end]
        yield TaskMetrics(started, queued, seconds, cpu, rss, slot, errors, name, record)


def check_metrics(body: bytes, count: int, stderr_size: int) -> None:
    """Raise ValueError unless these are `count` accounts, of tasks that wrote `errors` bytes to stderr in all."""
    told = [own for _, _, own, _ in _metrics_spans(body)]
    if len(told) != count or sum(told) != stderr_size:
        raise ValueError("accounts that do not fit their result")


def slice_metrics(body: bytes, low: int, high: int) -> bytes:
    """Those from number `low` up to `high`."""
    spans = list(_metrics_spans(body))[low:high]
    return body[spans[0][0] : spans[-1][1]] if spans else b""


def _metrics_spans(body: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Of each: where it starts and ends, the bytes of its stderr and of its command."""
    at = 0
    while at < len(body):
        if at + _METRICS_HEADER.size > len(body):
            raise ValueError("an account that is cut off")
        errors, command, record = _METRICS_LENGTHS.unpack_from(body, at + _METRICS_LENGTHS_OFFSET)
        start, at = at, at + _METRICS_HEADER.size + command + record
        if at > len(body):
            raise ValueError("an account that is cut off")
        yield start, at, errors, command


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
                metrics=slice_metrics(result.metrics, low - result.first, high - result.first),
            )
        )
    return parts


def _slice_stderr(result: Result, low: int, high: int) -> bytes:
    """What the tasks from `low` to `high` wrote to stderr, as their accounts say."""
    ends = list(accumulate((each.stderr_size for each in decode_metrics(result.metrics)), initial=0))
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
