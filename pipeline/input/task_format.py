"""From lines and command-line arguments to tasks: columns, CSV, headers, groups, shuffling, combinations.

Read TaskFormatter first: it forms the tasks of all inputs in which a line is not simply a task. Invariants:
  - the format is part of the input's identity: the same files in another format are another input;
  - a byte-order mark at the start of a file with columns or JSON belongs to no task;
  - only incomplete records are kept between two calls, but a shuffle keeps all of them;
  - argument sources are held in memory, their combinations are not; as in GNU parallel, the last source varies fastest,
    and linked sources (`:::+`) end with the shortest.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, product, repeat
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from pipeline.input.files import STDIN, convert_hint, display_name, file_identity, find_wide_encoding
from pipeline.model.errors import PipelineError, UsageError
from pipeline.model.messages import RecordFormat, Shape
from pipeline.model.records import ArgumentSource, PackingLimit, encode_fields
from pipeline.system.digests import blake2b

if TYPE_CHECKING:
    from pipeline.config.settings import Settings

PRODUCT_BATCH_SIZE = 1000
"""Combinations that are made at a time."""
FieldRow = tuple[Sequence[bytes], Sequence[bytes]]
"""Names (or none) and values."""
ArgumentValues = tuple[bytes, ...]


class TaskFormat(Struct, frozen=True):
    """How tasks are formed; the defaults make each line a task.

    A line is split at `colsep`, or as CSV. With `header`, the first line of each source has the names. `group_size`
    rows make a task. With `pack_slots`, as many rows as fit make a command; these slots share the last rows.
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
        """The shape of the records."""
        if self.json:
            return "json"
        if self.pack_slots:
            return "packed"
        has_columns = self.colsep or self.csv or self.header or self.group_size or self.source_count > 1
        return "columns" if has_columns else "line"

    @property
    def is_structured(self) -> bool:
        """Whether a line is more than its bytes."""
        return bool(self.colsep or self.csv or self.header or self.json)

    @property
    def is_line_per_task(self) -> bool:
        """Whether each line is a task, in the order of the input."""
        return self.shape in {"line", "json"} and not self.is_shuffled


def format_from_settings(settings: Settings, slots: int) -> TaskFormat:
    """Return the format that the options ask for; `slots` are those of all known workers."""
    sources = sum(len(item.arguments) if _has_files(item) else 1 for item in settings.argument_sources)
    return TaskFormat(
        colsep=settings.colsep,
        csv=settings.csv,
        header=settings.header != "",
        json=settings.jsonl,
        group_size=settings.max_args or 0,
        pack_slots=slots if settings.packed else 0,
        is_shuffled=settings.shuf,
        seed=settings.seed,
        source_count=max(1, sources),
    )


class FormattedTasks(NamedTuple):
    """Records without terminators; whether they are the last; and why reading breaks off after them."""

    records: list[bytes]
    is_last: bool
    error: str = ""


class TaskFormatter:
    """The formatter of one input: of its lines or, if there are `sources`, of their combinations.

    With `is_resumed`, the first lines are not the start of a file.
    """

    def __init__(
        self,
        task_format: TaskFormat,
        sources: Sequence[ArgumentSource],
        packing_limit: PackingLimit | None = None,
        *,
        zero: bool,
        is_resumed: bool = False,
    ) -> None:
        """Raise UsageError or PipelineError if a file of the sources cannot be read."""
        self.terminator = b"\0" if zero else b"\n"
        self.record_format = RecordFormat(zero=zero and task_format.is_line_per_task, shape=task_format.shape)
        identities = tuple(
            file_identity(path, 0) for source in sources if _has_files(source) for path in source.arguments
        )
        self.identity = (self.record_format, task_format, tuple(sources), identities)
        self.is_line_per_task = task_format.is_line_per_task and not sources
        self.reads_input = not sources
        self._parser = FieldParser(task_format, packing_limit)
        self._task_format, self._file_number = task_format, int(is_resumed)
        self._product = ArgumentProduct(sources, self.terminator, task_format) if sources else None

    def format(self, body: bytes, file_number: int, _: str) -> FormattedTasks:
        """Return the tasks that these lines of a file complete, or the next combinations.

        Without lines, the input has ended.
        """
        if self._product:
            batch, names = self._product.take(PRODUCT_BATCH_SIZE), self._product.names
            records = self._parser.add_rows([self._parser.combine(names, values) for values in batch])
            is_last = not batch
        else:
            is_start, self._file_number = file_number != self._file_number, file_number
            text = body.removeprefix(codecs.BOM_UTF8) if is_start and self._task_format.is_structured else body
            lines = text.removesuffix(self.terminator).split(self.terminator) if text else []
            records, is_last = self._parser.add_lines(lines, file_number), not body
        return FormattedTasks(self._parser.finish() if is_last else records, is_last)


class FieldParser:
    """Rows of one input, and the records that are made of them."""

    def __init__(self, task_format: TaskFormat, packing_limit: PackingLimit | None = None) -> None:
        self._format, self._packing_limit = task_format, packing_limit or PackingLimit()
        self._names: Sequence[bytes] = ()
        self._file_number = -1
        self._split_fields = _field_splitter(task_format)
        self._open_record = b""
        """The beginning of a CSV record whose quotes are not closed yet."""
        self._rows: list[FieldRow] = []
        self._rows_size = 0
        self._shuffle_buffer: list[bytes] = []

    def add_lines(self, lines: Iterable[bytes], file_number: int) -> list[bytes]:
        """Return the records that these lines of a file, without terminators, complete."""
        if self._format.is_line_per_task:
            return list(lines)
        if file_number != self._file_number:
            self._file_number, self._names = file_number, ()
        return self.add_rows(
            self._parse_row(line) for line in (self._join_csv_lines(lines) if self._format.csv else lines)
        )

    def add_rows(self, rows: Iterable[FieldRow | None]) -> list[bytes]:
        """Return the records that these rows complete."""
        records: list[bytes] = []
        for row in rows:
            if row is not None:
                records += self._add_to_group(row)
        if self._format.is_shuffled:
            self._shuffle_buffer += records
            return []
        return records

    def combine(self, names: Sequence[bytes], values: Sequence[bytes]) -> FieldRow:
        """Return the row of one value per source, each of which may be split into columns itself."""
        return self._split_columns(names), self._split_columns(values)

    def finish(self) -> list[bytes]:
        """Return the incomplete records at the end of the input."""
        records: list[bytes] = []
        if self._open_record:
            records += self.add_rows([self._parse_row(self._open_record)])
            self._open_record = b""
        rows, self._rows, self._rows_size = self._rows, [], 0
        most = -(-len(rows) // self._format.pack_slots) if self._format.pack_slots else self._format.group_size
        records += [_encode_group(rows[start : start + most]) for start in range(0, len(rows), most or 1)]
        if not self._format.is_shuffled:
            return records
        records, self._shuffle_buffer = self._shuffle_buffer + records, []
        return _shuffle(records, self._format.seed)

    def _parse_row(self, line: bytes) -> FieldRow | None:
        """Return the row of a line; None if it has the names."""
        if self._format.shape == "line":
            return (), [line]
        values = self._split_columns([line])
        if self._format.header and not self._names:
            self._names = values or [b""]
            return None
        if not self._names:
            return (), values
        missing = max(0, len(self._names) - len(values))
        return self._names, [*values[: len(self._names)], *repeat(b"", missing)]

    def _split_columns(self, texts: Sequence[bytes]) -> Sequence[bytes]:
        return [value for text in texts for value in self._split_fields(text)]

    def _join_csv_lines(self, lines: Iterable[bytes]) -> list[bytes]:
        """Join lines to CSV records: within quotes, a newline is part of a value."""
        records: list[bytes] = []
        for line in lines:
            self._open_record = self._open_record + b"\n" + line if self._open_record else line
            if self._open_record.count(b'"') % 2 == 0:
                records.append(self._open_record)
                self._open_record = b""
        return records

    def _add_to_group(self, row: FieldRow) -> list[bytes]:
        """Return the records that this row completes."""
        group_size, is_packed = self._format.group_size, self._format.pack_slots
        if not (group_size or is_packed):
            return [row[1][0] if self._format.shape == "line" else encode_fields(row[1], row[0])]
        size = sum(map(self._packing_limit.measure, row[1])) if is_packed else 0
        groups: list[list[FieldRow]] = []
        if is_packed and self._rows and self._rows_size + size > self._packing_limit.room:
            groups, self._rows, self._rows_size = [self._rows], [], 0
        self._rows.append(row)
        self._rows_size += size
        if group_size and len(self._rows) >= group_size:
            groups, self._rows, self._rows_size = [*groups, self._rows], [], 0
        return [_encode_group(rows) for rows in groups]


def _field_splitter(task_format: TaskFormat) -> Callable[[bytes], Sequence[bytes]]:
    """Return a function that splits a line into values; blanks around separators are trimmed, as by GNU parallel."""
    colsep = os.fsencode(task_format.colsep)
    if task_format.csv:
        delimiter = colsep.decode("utf-8", "surrogateescape") or ","

        def split_csv(text: bytes) -> list[bytes]:
            import csv

            row = next(csv.reader([text.decode("utf-8", "surrogateescape")], delimiter=delimiter, strict=False), [""])
            return [field.encode("utf-8", "surrogateescape") for field in row]

        return split_csv
    if task_format.colsep:
        pattern = re.compile(colsep)
        return lambda text: [value.strip(b" \t") for value in pattern.split(text)]
    return lambda text: [text]


def _encode_group(rows: list[FieldRow]) -> bytes:
    names = [name for row in rows for name in row[0]]
    return encode_fields([value for row in rows for value in row[1]], names)


def _shuffle(records: list[bytes], seed: int | None) -> list[bytes]:
    """Return another order, the same for the same seed; without one, for the same records."""
    if seed is None:
        content = blake2b(digest_size=16)
        for record in records:
            content.update(record + b"\0")
        key = content.digest()
    else:
        key = b"%d" % seed
    ranks = [blake2b(b"%d" % index, digest_size=8, key=key[:64]).digest() for index in range(len(records))]
    return [records[index] for index in sorted(range(len(records)), key=ranks.__getitem__)]


class ArgumentProduct:
    """The combinations of argument sources. With a header, the first value of each source is its name."""

    def __init__(self, sources: Sequence[ArgumentSource], terminator: bytes, task_format: TaskFormat) -> None:
        """Read all sources; `terminator` ends each line of a file. Raises PipelineError."""
        self.names: ArgumentValues = ()
        linked: list[list[list[bytes]]] = []
        for values, is_linked in _iter_sources(sources, terminator, task_format):
            if is_linked and linked:
                linked[-1].append(values)
            else:
                linked.append([values])
        if task_format.header:
            self.names = tuple(values.pop(0) if values else b"" for group in linked for values in group)
        groups = [list(zip(*group, strict=False)) for group in linked]
        self._remaining: Iterator[ArgumentValues] = (sum(combined, ()) for combined in product(*groups))

    def take(self, count: int) -> list[ArgumentValues]:
        """Return the next combinations, at most `count`; none at the end."""
        return list(islice(self._remaining, count))


def _has_files(source: ArgumentSource) -> bool:
    return source.separator.startswith("::::")


def _iter_sources(
    sources: Sequence[ArgumentSource], terminator: bytes, task_format: TaskFormat
) -> Iterator[tuple[list[bytes], bool]]:
    """Return the values of each source, and whether it is linked to the one before."""
    for source in sources:
        is_linked = source.separator.endswith("+")
        if _has_files(source):
            for path in source.arguments:
                yield _read_lines(path, terminator, task_format), is_linked
        else:
            yield [os.fsencode(argument) for argument in source.arguments], is_linked


def _read_lines(path: str, terminator: bytes, task_format: TaskFormat) -> list[bytes]:
    try:
        if path == STDIN:
            text = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                text = file.read()
    except OSError as error:
        raise PipelineError(f"cannot read {display_name(path)}: {error.strerror}") from None
    if terminator == b"\n" and (encoding := find_wide_encoding(text)):
        raise UsageError(f"{display_name(path)} is encoded in {encoding}", convert_hint(encoding))
    if task_format.is_structured:
        text = text.removeprefix(codecs.BOM_UTF8)
    return text.removesuffix(terminator).split(terminator) if text else []
