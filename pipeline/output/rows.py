"""What is written of each task where more than its output is asked for: a row, in one of several forms.

Pure. A row has what the task's result, its note and its account say; without an account (of a task that the ventilator
judged, or of a worker that gives none) the rest is empty. Task numbers start at 1. The names of GNU parallel's columns
are its own, and so is how they are written.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from msgspec import Struct

from pipeline.words import accounts, columns
from pipeline.words.accounts import Account
from pipeline.words.messages import Result
from pipeline.words.parts import Note

NO_ACCOUNT = Account(0.0, 0.0, 0.0, 0.0, 0, 0, 0, b"", b"")
JOBLOG = b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
JOBLOG += b"\tAttempt\tWorker\tSlot\tQueue\tMaxRSS\tCPU\tReason\n"
"""GNU parallel's nine columns, then ours."""
CSV = ("Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command")
CSV_BEHIND = ("Stdout", "Stderr", "Attempt", "Worker", "Slot", "Queue", "MaxRSS", "CPU", "Reason")
_QUOTED = re.compile(rb"[\s\",\x00-\x1f\x7f-\xff]")


class Row(Struct, frozen=True):
    """One task, or one try of it."""

    number: int
    result: Result
    account: Account
    note: Note | None
    stdout: bytes
    stderr: bytes

    @property
    def exit(self) -> int:
        """The exit code, as GNU parallel has it: 0 of who was killed by a signal, -1 of who never ended by itself."""
        note = self.note
        if note is None or note.kind == "signal":
            return 0
        return (note.code or 1) if note.kind in {"exit", "exception"} else -1

    @property
    def signal(self) -> int:
        """The number of the signal that killed it, or 0."""
        return self.note.code if self.note and self.note.kind in {"signal", "timeout"} else 0

    @property
    def record(self) -> bytes:
        """The task."""
        return self.account.record

    @property
    def values(self) -> list[bytes]:
        """Its arguments."""
        return arguments(self)[1]


def rows(result: Result) -> Iterator[Row]:
    """Of all tasks of a result."""
    told = list(accounts.each(result.accounts)) or [NO_ACCOUNT] * result.count
    ends = [0, *(end for (end,) in struct.iter_unpack("<I", result.ends))]
    errors = list(accumulate((each.errors for each in told), initial=0))
    notes = {note.task: note for note in result.notes}
    records = _records(result)
    for at, account in enumerate(told):
        task = result.first + at
        if account is NO_ACCOUNT and task in records:
            account = NO_ACCOUNT._replace(record=records[task])  # noqa: PLW2901 -- what is known of it
        stdout, stderr = result.output[ends[at] : ends[at + 1]], result.errors[errors[at] : errors[at + 1]]
        yield Row(task + 1, result, account, notes.get(task), stdout, stderr)


def _records(result: Result) -> dict[int, bytes]:
    """The records of those that failed."""
    stops = accumulate(note.size for note in result.notes)
    pairs = zip(result.notes, stops, strict=True)
    return {note.task: result.records[stop - note.size : stop] for note, stop in pairs}


def arguments(row: Row) -> tuple[list[bytes], list[bytes]]:
    """The names of a task's arguments (none, if they have none), and the arguments."""
    if row.result.shape in {"columns", "packed"}:
        try:
            values, names = columns.parted(row.record)
        except ValueError:  # a worker's word
            return [], [row.record]
        return names, values
    return [], [row.record]


def joblog(row: Row, here: str) -> bytes:
    """A line of --joblog; `here` is this machine's name."""
    account = row.account
    nine = [*_eight(row, here, "%10.3f"), account.command.replace(b"\n", b"\0")]
    return b"\t".join([*nine, *_ours(row)]) + b"\n"


def csv_head(row: Row) -> bytes:
    """The first line of a CSV file whose tasks have as many arguments as this one."""
    arguments = [f"V{number}" for number in range(1, len(row.values) + 1)]
    return ",".join([*CSV, *arguments, *CSV_BEHIND]).encode() + b"\n"


def csv(row: Row, here: str) -> bytes:
    """A line of a CSV file, quoted as GNU parallel does."""
    fields = [*_eight(row, here, "%.3f"), row.account.command, *row.values, row.stdout, row.stderr, *_ours(row)]
    return b",".join(map(_csv_field, fields)) + b"\n"


def jsonl(row: Row) -> bytes:
    """A line of JSON."""
    account, note = row.account, row.note
    told: dict[str, Any] = {"number": row.number, **_text("task", row.record)}
    names, values = arguments(row)
    if row.result.shape in {"columns", "packed"}:
        texts, keys = ([text.decode(errors="replace") for text in part] for part in (values, names))
        told["arguments"] = dict(zip(keys, texts, strict=True)) if keys else texts
    told |= {"ok": note is None, "exit": row.exit, "signal": row.signal}
    told |= {"reason": note.kind if note else "", "text": note.text if note else ""}
    told |= {"attempt": row.result.tries + 1, "worker": row.result.worker, "slot": account.slot}
    told |= {"started": round(account.started, 6), "seconds": round(account.seconds, 6)}
    told |= {"queued": round(account.queued, 6), "cpu": round(account.cpu, 6), "rss": account.rss}
    told |= _text("command", account.command) | _text("stdout", row.stdout) | _text("stderr", row.stderr)
    return json.dumps(told, ensure_ascii=False).encode(errors="replace") + b"\n"


def _eight(row: Row, here: str, runtime: str) -> list[bytes]:
    """GNU parallel's first eight columns."""
    host = row.result.worker.rsplit(".", 2)[0]
    texts = [str(row.number), ":" if host in {here, "ventilator"} else host, f"{row.account.started:.3f}"]
    texts += [runtime % row.account.seconds, "0", str(len(row.stdout)), str(row.exit), str(row.signal)]
    return [text.encode() for text in texts]


def _ours(row: Row) -> list[bytes]:
    """The columns behind GNU parallel's."""
    account = row.account
    texts = [str(row.result.tries + 1), row.result.worker, str(account.slot), f"{account.queued:.3f}"]
    texts += [str(account.rss), f"{account.cpu:.3f}", row.note.kind if row.note else "ok"]
    return [text.encode() for text in texts]


def _csv_field(field: bytes) -> bytes:
    return b'"' + field.replace(b'"', b'""') + b'"' if _QUOTED.search(field) else field


def _text(name: str, value: bytes) -> dict[str, str]:
    """A field that is text; in base64, under another name, where it is not."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        from base64 import b64encode

        return {f"{name}_base64": b64encode(value).decode()}
