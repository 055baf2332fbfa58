"""Lines -> tasks: columns, CSV, header, groups, shuffle, products.

How tasks are formed of what is read: into which columns a line is cut, under which names, how many make one task.

It is what a person has asked for, in one word, and part of the input's identity: the same input formed otherwise is
another one.

Shaping: from the texts that are read to the records that are tasks.

A text is cut into columns, columns get names, several make one record, and all may be put into another order. It works
through what has come and keeps only what is not complete; but a random order needs all of it. It never reads.

Several sources on the command line: each combined with each, or joined item to item.

Sources are held in memory, their combinations are not: these come as they are asked for, the last source changing
fastest, as in GNU parallel. What is joined by a `+` ends with its shortest.

Forming: the tasks of an input that is not taken line by line, whether it is read or given on the command line.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, product, repeat
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from pipeline.input.files import STDIN, display_name, file_identity
from pipeline.model.errors import PipelineError
from pipeline.model.messages import RecordFormat, Shape
from pipeline.model.records import ArgumentSource, encode_fields

if TYPE_CHECKING:
    from pipeline.config.settings import Settings


class TaskFormat(Struct, frozen=True):
    """What is asked for; 0 and empty mean: not so. Without any of it, a line is a task as it is.

    Cut at `colsep`, or as CSV; named by the first of each source (`header`); `group` of them a task; `packed`: as many
    as fit a command, and at the end as many for each of so many slots; `sources` on the command line.
    """

    colsep: str = ""
    csv: bool = False
    header: bool = False
    json: bool = False
    group_size: int = 0
    pack_slots: int = 0
    is_shuffled: bool = False
    seed: int | None = None
    source_count: int = 1

    @property
    def shape(self) -> Shape:
        """What workers are told of the records."""
        if self.json:
            return "json"
        if self.pack_slots:
            return "packed"
        return (
            "columns" if self.colsep or self.csv or self.header or self.group_size or self.source_count > 1 else "line"
        )

    @property
    def is_line_per_task(self) -> bool:
        """Whether records are lines as they are read, in their order."""
        return self.shape in {"line", "json"} and not self.is_shuffled


DEFAULT_FORMAT = TaskFormat()


def format_from_settings(settings: Settings, slots: int) -> TaskFormat:
    """What was asked for; `slots` are those of all workers, as far as that is known."""
    files = [
        word for given in settings.argument_sources if given.separator.startswith("::::") for word in given.arguments
    ]
    words = sum(not given.separator.startswith("::::") for given in settings.argument_sources)
    return TaskFormat(
        colsep=settings.colsep,
        csv=settings.csv,
        header=settings.header != "",
        json=settings.jsonl,
        group_size=settings.max_args or 0,
        pack_slots=slots if settings.packed else 0,
        is_shuffled=settings.shuf,
        seed=settings.seed,
        source_count=max(1, len(files) + words),
    )


MAX_PACKED_BYTES = 120_000
"""Bytes of arguments in one packed command: less than Linux takes for a single one, which a shell line is."""
ARGUMENT_OVERHEAD_BYTES = 3
"""Bytes that each argument takes beside its own: a blank, and quotes."""
FieldRow = tuple[Sequence[bytes], Sequence[bytes]]
"""Names (or none) and values."""


class FieldParser:
    """One input's, formed so."""

    def __init__(self, task_format: TaskFormat) -> None:
        self._format = task_format
        self._names: Sequence[bytes] = ()
        self._file_number = -1
        self._split_fields = _field_splitter(task_format)
        self._open_record = b""
        """The beginning of a CSV record, whose quotes are not closed yet."""
        self._rows: list[FieldRow] = []
        self._rows_size = 0
        self._shuffle_buffer: list[bytes] = []

    def lines(self, texts: Iterable[bytes], file_number: int) -> list[bytes]:
        """The records of more lines, without terminators, of the `file`-th file."""
        if self._format.is_line_per_task:
            return list(texts)
        if file_number != self._file_number:
            self._file_number, self._names = file_number, ()
        return self.rows(self._parse_row(text) for text in (self._join_csv_lines(texts) if self._format.csv else texts))

    def rows(self, rows: Iterable[FieldRow | None]) -> list[bytes]:
        """The records of more rows."""
        records: list[bytes] = []
        for row in rows:
            if row is not None:
                records += self._add_to_group(row)
        if self._format.is_shuffled:
            self._shuffle_buffer += records
            return []
        return records

    def product(self, names: Sequence[bytes], values: Sequence[bytes]) -> FieldRow:
        """One of each source, each of which may be cut into columns itself."""
        return self._split_columns(names), self._split_columns(values)

    def finish(self) -> list[bytes]:
        """The records that wait for more, when there is no more."""
        records: list[bytes] = []
        if self._open_record:
            records += self.rows([self._parse_row(self._open_record)])
            self._open_record = b""
        rows, self._rows, self._rows_size = self._rows, [], 0
        most = -(-len(rows) // self._format.pack_slots) if self._format.pack_slots else self._format.group_size
        records += [_encode_group(rows[at : at + most]) for at in range(0, len(rows), most or 1)]
        if not self._format.is_shuffled:
            return records
        texts, self._shuffle_buffer = self._shuffle_buffer + records, []
        return _shuffle(texts, self._format.seed)

    def _parse_row(self, text: bytes) -> FieldRow | None:
        """The row of a text; None for the one that holds the names."""
        if self._format.shape == "line":
            return (), [text]
        values = self._split_columns([text])
        if self._format.header and not self._names:
            self._names = values or [b""]
            return None
        if not self._names:
            return (), values
        short = max(0, len(self._names) - len(values))
        return self._names, [*values[: len(self._names)], *repeat(b"", short)]

    def _split_columns(self, texts: Sequence[bytes]) -> Sequence[bytes]:
        return [value for text in texts for value in self._split_fields(text)]

    def _join_csv_lines(self, texts: Iterable[bytes]) -> list[bytes]:
        """Lines joined to CSV records: within quotes, a newline is part of a value."""
        records: list[bytes] = []
        for text in texts:
            self._open_record = self._open_record + b"\n" + text if self._open_record else text
            if self._open_record.count(b'"') % 2 == 0:
                records.append(self._open_record)
                self._open_record = b""
        return records

    def _add_to_group(self, row: FieldRow) -> list[bytes]:
        """The records that are complete with this row."""
        group, packed = self._format.group_size, self._format.pack_slots
        if not (group or packed):
            return [_first_value(row) if self._format.shape == "line" else encode_fields(row[1], row[0])]
        size = sum(len(value) + ARGUMENT_OVERHEAD_BYTES for value in row[1])
        full: list[list[FieldRow]] = []
        if packed and self._rows and self._rows_size + size > MAX_PACKED_BYTES:
            full, self._rows, self._rows_size = [self._rows], [], 0
        self._rows.append(row)
        self._rows_size += size
        if group and len(self._rows) >= group:
            full, self._rows, self._rows_size = [*full, self._rows], [], 0
        return [_encode_group(rows) for rows in full]


def _field_splitter(task_format: TaskFormat) -> Callable[[bytes], Sequence[bytes]]:
    """How a text is cut into values; blanks around those between separators are trimmed, as GNU parallel does."""
    if task_format.csv:
        mark = task_format.colsep or ","

        def fields(text: bytes) -> list[bytes]:
            import csv

            found = next(csv.reader([text.decode("utf-8", "surrogateescape")], delimiter=mark, strict=False), [""])
            return [field.encode("utf-8", "surrogateescape") for field in found]

        return fields
    if task_format.colsep:
        pattern = re.compile(task_format.colsep.encode())
        return lambda text: [value.strip(b" \t") for value in pattern.split(text)]
    return lambda text: [text]


def _first_value(row: FieldRow) -> bytes:
    return row[1][0]


def _encode_group(rows: list[FieldRow]) -> bytes:
    """The record of several rows."""
    names = [name for row in rows for name in row[0]]
    return encode_fields([value for row in rows for value in row[1]], names)


def _shuffle(texts: list[bytes], seed: int | None) -> list[bytes]:
    """Another order, the same for the same seed; without one, for the same texts."""
    from hashlib import blake2b

    if seed is None:
        whole = blake2b(digest_size=16)
        for text in texts:
            whole.update(text + b"\0")
        key = whole.digest()
    else:
        key = b"%d" % seed
    lots = [blake2b(b"%d" % at, digest_size=8, key=key[:64]).digest() for at in range(len(texts))]
    return [texts[at] for at in sorted(range(len(texts)), key=lots.__getitem__)]


ArgumentValues = tuple[bytes, ...]


class ArgumentProduct:
    """The tasks of what is given. With `header`, the first of each source is its name."""

    def __init__(self, sources: Sequence[ArgumentSource], terminator: bytes, *, header: bool) -> None:
        """`mark` ends each item of a file. Raises PipelineError for a file that can't be read."""
        self.names: ArgumentValues = ()
        joined: list[list[list[bytes]]] = []
        for source, follows in _iter_sources(sources, terminator):
            if follows and joined:
                joined[-1].append(source)
            else:
                joined.append([source])
        if header:
            self.names = tuple(source.pop(0) if source else b"" for group in joined for source in group)
        groups = [list(zip(*group, strict=False)) for group in joined]
        self._remaining: Iterator[ArgumentValues] = (sum(combined, ()) for combined in product(*groups))

    def take(self, count: int) -> list[ArgumentValues]:
        """The next of them, at most so many; none when there are no more."""
        return list(islice(self._remaining, count))


def _iter_sources(sources: Sequence[ArgumentSource], terminator: bytes) -> Iterator[tuple[list[bytes], bool]]:
    """Each source, and whether it is joined to the one before."""
    for each in sources:
        follows = each.separator.endswith("+")
        if each.separator.startswith("::::"):
            for path in each.arguments:
                yield _read_items(path, terminator), follows
        else:
            yield [os.fsencode(word) for word in each.arguments], follows


def _read_items(path: str, terminator: bytes) -> list[bytes]:
    try:
        if path == STDIN:
            text = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                text = file.read()
    except OSError as error:
        raise PipelineError(f"cannot read {display_name(path)}: {error.strerror}") from None
    return text.removesuffix(terminator).split(terminator) if text else []


PRODUCT_BATCH_SIZE = 1000
"""Combinations that are made at a time."""


class FormattedTasks(NamedTuple):
    """Records without terminators; whether they are the last; and why the reading breaks off behind them."""

    records: list[bytes]
    is_last: bool
    error: str = ""


class TaskFormatter:
    """One input's; `recipe` is what its records look like, `identity` what tells it from others, beside its files."""

    def __init__(self, task_format: TaskFormat, sources: Sequence[ArgumentSource], *, zero: bool) -> None:
        """Raises UsageError and PipelineError for given files that can't be read."""
        self.terminator = b"\0" if zero else b"\n"
        self.record_format = RecordFormat(zero=zero and task_format.is_line_per_task, shape=task_format.shape)
        files = [path for each in sources if each.separator.startswith("::::") for path in each.arguments]
        self.identity = (
            self.record_format,
            task_format,
            tuple(sources),
            tuple(file_identity(path, 0) for path in files),
        )
        self.is_line_per_task = task_format.is_line_per_task and not sources
        """Whether a line is a task."""
        self.reads_input = not sources
        """Whether it wants lines."""
        self._parser = FieldParser(task_format)
        self._product = ArgumentProduct(sources, self.terminator, header=task_format.header) if sources else None

    def format(self, body: bytes, file_number: int, _: str) -> FormattedTasks:
        """The records that are complete with these lines of the `file`-th file.

        No lines: there are no more. Of what is given none are wanted.
        """
        if self._product:
            taken, names = self._product.take(PRODUCT_BATCH_SIZE), self._product.names
            records, is_over = self._parser.rows([self._parser.product(names, each) for each in taken]), not taken
        else:
            lines = body.removesuffix(self.terminator).split(self.terminator) if body else []
            records, is_over = self._parser.lines(lines, file_number), not body
        return FormattedTasks(self._parser.finish() if is_over else records, is_over)
