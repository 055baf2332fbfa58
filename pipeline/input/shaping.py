"""Shaping: from the texts that are read to the records that are tasks.

A text is cut into columns, columns get names, several make one record, and all may be put into another order. It works
through what has come and keeps only what is not complete; but a random order needs all of it. It never reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

from pipeline.input.form import TaskFormat
from pipeline.words.columns import encode_fields

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
