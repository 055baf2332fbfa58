"""Splitting and merging results; metrics of tasks.

- Metrics are bytes, concatenated in the order of the tasks, so they are split and joined without being parsed.
- A part of a result is a result itself. Outputs are never inspected.
- The content of a large result stays in a file; it is never split or merged.
- Results come from peers, so no length is trusted; invalid metrics raise ValueError.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from itertools import accumulate
from struct import Struct
from sys import byteorder
from typing import NamedTuple, Protocol

from msgspec.structs import asdict

from pipeline.model.messages import Result
from pipeline.model.structs import replace

_METRICS_HEADER = Struct("<4dQ4I")
_METRICS_LENGTHS = Struct("<3I")
_METRICS_LENGTHS_OFFSET = _METRICS_HEADER.size - _METRICS_LENGTHS.size


class LargeContent(Protocol):
    """Output and then stderr of one task, in a file that exists as long as this object."""

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start` on, fewer at the end. Raises OSError."""


class LargeResult(Result, frozen=True):
    """A large result in the process that has its content. A connection sends it as a Result, without the content."""

    content: LargeContent | None = None


def with_content(result: Result, content: LargeContent) -> LargeResult:
    return LargeResult(**asdict(result), content=content)


def content_bytes(result: Result) -> int:
    """Return the bytes of output and stderr, wherever they are."""
    return len(result.output) + len(result.stderr) + sum(result.large_sizes)


class TaskMetrics(NamedTuple):
    """Metrics of one attempt of a task.

    Times are in seconds, `started_at` since 1970. `queued_seconds` is the time spent waiting for a slot of the worker,
    `max_rss` the peak memory in bytes. `slot` counts from 1.
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
    *numbers, command, record = metrics
    return _METRICS_HEADER.pack(*numbers, len(command), len(record)) + command + record


def decode_metrics(body: bytes) -> Iterator[TaskMetrics]:
    """Yield the metrics of each task.

    Raises:
        ValueError: the bytes are not metrics.
    """
    for start, end, _, command_size in _metrics_spans(body):
        at = start + _METRICS_HEADER.size
        numbers = _METRICS_HEADER.unpack_from(body, start)[:7]
        yield TaskMetrics._make((*numbers, body[at : at + command_size], body[at + command_size : end]))


def check_metrics(body: bytes, count: int, stderr_size: int) -> None:
    """Raise ValueError unless these are metrics of `count` tasks that wrote `stderr_size` bytes to stderr in all."""
    stderr_sizes = [size for _, _, size, _ in _metrics_spans(body)]
    if len(stderr_sizes) != count or sum(stderr_sizes) != stderr_size:
        raise ValueError("metrics that do not match their result")


def slice_metrics(body: bytes, low: int, high: int) -> bytes:
    """Return the metrics of task `low` up to `high`, counted within `body`."""
    spans = list(_metrics_spans(body))[low:high]
    return body[spans[0][0] : spans[-1][1]] if spans else b""


def _metrics_spans(body: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield start and end of each task's metrics, the size of its stderr, and that of its command."""
    at = 0
    while at < len(body):
        if at + _METRICS_HEADER.size > len(body):
            raise ValueError("metrics that are cut off")
        stderr_size, command_size, record_size = _METRICS_LENGTHS.unpack_from(body, at + _METRICS_LENGTHS_OFFSET)
        start, at = at, at + _METRICS_HEADER.size + command_size + record_size
        if at > len(body):
            raise ValueError("metrics that are cut off")
        yield start, at, stderr_size, command_size


def slice_result(result: Result, ranges: list[tuple[int, int]]) -> list[Result]:
    """Return the parts of a result that lie in `ranges`.

    stderr stays with the first part, unless metrics tell which task wrote what.
    """
    if ranges == [(result.first, result.first + result.count)]:
        return [result]
    ends = array("I", result.output_ends)
    if byteorder == "big":
        ends.byteswap()
    # a worker may send ends that are not ascending: it may split its own output wrongly, but must not crash the sink
    ends = array("I", accumulate(ends, max))
    parts: list[Result] = []
    for low, high in ranges:
        start = ends[low - result.first - 1] if low > result.first else 0
        part_ends = array("I", (end - start for end in ends[low - result.first : high - result.first]))
        if byteorder == "big":
            part_ends.byteswap()
        parts.append(
            replace(
                result,
                first=low,
                count=high - low,
                output=bytes(memoryview(result.output)[start : ends[high - result.first - 1]]),
                output_ends=part_ends.tobytes(),
                stderr=_slice_stderr(result, low, high) if result.metrics else b"" if parts else result.stderr,
                failures=tuple(failure for failure in result.failures if low <= failure.task < high),
                failed_records=_slice_records(result, low, high),
                metrics=slice_metrics(result.metrics, low - result.first, high - result.first),
            )
        )
    return parts


def _slice_stderr(result: Result, low: int, high: int) -> bytes:
    ends = list(accumulate((metrics.stderr_size for metrics in decode_metrics(result.metrics)), initial=0))
    return result.stderr[ends[low - result.first] : ends[high - result.first]]


def _slice_records(result: Result, low: int, high: int) -> bytes:
    if not result.failed_records:
        return b""
    starts = accumulate((failure.record_size for failure in result.failures), initial=0)
    return b"".join(
        result.failed_records[start : start + failure.record_size]
        for failure, start in zip(result.failures, starts, strict=False)
        if low <= failure.task < high
    )


def merge_results(results: list[Result]) -> Result:
    """Merge consecutive results into one, with the worker of the first."""
    first = results[0]
    if len(results) == 1:
        return first
    ends: list[int] = []
    base = 0
    for result in results:
        size = len(result.output)  # the codec checks only the last end
        ends += [base + min(end, size) for (end,) in struct.iter_unpack("<I", result.output_ends)]
        base += size
    return Result(
        first.run,
        first.worker,
        first.first,
        sum(result.count for result in results),
        b"".join([result.output for result in results]),
        struct.pack(f"<{len(ends)}I", *ends),
        b"".join([result.stderr for result in results]),
        tuple(failure for result in results for failure in result.failures),
        first.attempt,
        b"".join([result.failed_records for result in results]),
        b"".join([result.metrics for result in results]),
        first.shape,
    )


def remaining_output(result: Result, streamed_sizes: tuple[tuple[int, int], ...]) -> bytes:
    """Return the output without the first bytes of each task that were streamed before."""
    if not streamed_sizes:
        return result.output
    ends, streamed = [0, *(end for (end,) in struct.iter_unpack("<I", result.output_ends))], dict(streamed_sizes)
    starts = [ends[at] + streamed.get(result.first + at, 0) for at in range(result.count)]
    return b"".join([result.output[start:end] for start, end in zip(starts, ends[1:], strict=True)])
