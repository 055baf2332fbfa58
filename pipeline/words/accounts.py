"""What the sink is told of each task where it wants an account: when and where it ran, what it cost, what it was.

Accounts are bytes, one behind the other in the order of tasks, so that they can be cut and joined without being read.
They hold records and commands byte for byte. Nothing here is trusted: what does not fit raises ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

_HEAD = Struct("<4dQ4I")
_LENGTHS = Struct("<3I")
_LENGTHS_AT = _HEAD.size - _LENGTHS.size


class Account(NamedTuple):
    """One task in one try. Times are seconds, `started` since 1970; `rss` is the most memory it had, in bytes.

    `queued` is how long it waited for a slot here; `slot` counts from 1; `errors` are the bytes of its stderr.
    """

    started: float
    queued: float
    seconds: float
    cpu: float
    rss: int
    slot: int
    errors: int
    command: bytes
    record: bytes


def packed(account: Account) -> bytes:
    """One account as bytes."""
    *numbers, command, record = account
    return _HEAD.pack(*numbers, len(command), len(record)) + command + record


def each(body: bytes) -> Iterator[Account]:
    """All of them, read one by one. Raises ValueError at what is none."""
    for start, end, errors, command in _spans(body):
        at = start + _HEAD.size
        started, queued, seconds, cpu, rss, slot, *_ = _HEAD.unpack_from(body, start)
        name, record = body[at : at + command], body[at + command : end]
        yield Account(started, queued, seconds, cpu, rss, slot, errors, name, record)


def check(body: bytes, count: int, errors: int) -> None:
    """Raise ValueError unless these are `count` accounts, of tasks that wrote `errors` bytes to stderr in all."""
    told = [own for _, _, own, _ in _spans(body)]
    if len(told) != count or sum(told) != errors:
        raise ValueError("accounts that do not fit their result")


def cut(body: bytes, low: int, high: int) -> bytes:
    """Those from number `low` up to `high`."""
    spans = list(_spans(body))[low:high]
    return body[spans[0][0] : spans[-1][1]] if spans else b""


def _spans(body: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Of each: where it starts and ends, the bytes of its stderr and of its command."""
    at = 0
    while at < len(body):
        if at + _HEAD.size > len(body):
            raise ValueError("an account that is cut off")
        errors, command, record = _LENGTHS.unpack_from(body, at + _LENGTHS_AT)
        start, at = at, at + _HEAD.size + command + record
        if at > len(body):
            raise ValueError("an account that is cut off")
        yield start, at, errors, command
