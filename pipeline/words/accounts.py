"""What the sink is told of each task where it wants an account: when and where it ran, what it cost, what it was.

Accounts are bytes, one behind the other in the order of tasks, so that they can be cut and joined without being read.
They hold records and commands byte for byte. Nothing here is trusted: what does not fit raises ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

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
