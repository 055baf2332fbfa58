"""Shaping: from the texts that are read to the records that are tasks.

A text is cut into columns, columns get names, several make one record, and all may be put into another order. It works
through what has come and keeps only what is not complete; but a random order needs all of it. It never reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

from pipeline.input.form import Form
from pipeline.words.columns import joined

ROOM = 120_000
"""Bytes of arguments in one packed command: less than Linux takes for a single one, which a shell line is."""
EACH = 3
"""Bytes that each argument takes beside its own: a blank, and quotes."""
Row = tuple[Sequence[bytes], Sequence[bytes]]
"""Names (or none) and values."""


class Shaping:
    """One input's, formed so."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._names: Sequence[bytes] = ()
        self._file = -1
        self._cut = _cutter(form)
        self._open = b""
        """The beginning of a CSV record, whose quotes are not closed yet."""
        self._rows: list[Row] = []
        self._size = 0
        self._all: list[bytes] = []

    def lines(self, texts: Iterable[bytes], file: int) -> list[bytes]:
        """The records of more lines, without terminators, of the `file`-th file."""
        if self._form.is_plain:
            return list(texts)
        if file != self._file:
            self._file, self._names = file, ()
        return self.rows(self._row(text) for text in (self._whole(texts) if self._form.csv else texts))

    def rows(self, rows: Iterable[Row | None]) -> list[bytes]:
        """The records of more rows."""
        records: list[bytes] = []
        for row in rows:
            if row is not None:
                records += self._grouped(row)
        if self._form.shuffled:
            self._all += records
            return []
        return records

    def product(self, names: Sequence[bytes], values: Sequence[bytes]) -> Row:
        """One of each source, each of which may be cut into columns itself."""
        return self._columns(names), self._columns(values)

    def finish(self) -> list[bytes]:
        """The records that wait for more, when there is no more."""
        records: list[bytes] = []
        if self._open:
            records += self.rows([self._row(self._open)])
            self._open = b""
        rows, self._rows, self._size = self._rows, [], 0
        most = -(-len(rows) // self._form.packed) if self._form.packed else self._form.group
        records += [_record(rows[at : at + most]) for at in range(0, len(rows), most or 1)]
        if not self._form.shuffled:
            return records
        texts, self._all = self._all + records, []
        return _shuffled(texts, self._form.seed)

    def _row(self, text: bytes) -> Row | None:
        """The row of a text; None for the one that holds the names."""
        if self._form.shape == "line":
            return (), [text]
        values = self._columns([text])
        if self._form.header and not self._names:
            self._names = values or [b""]
            return None
        if not self._names:
            return (), values
        short = max(0, len(self._names) - len(values))
        return self._names, [*values[: len(self._names)], *repeat(b"", short)]

    def _columns(self, texts: Sequence[bytes]) -> Sequence[bytes]:
        return [value for text in texts for value in self._cut(text)]

    def _whole(self, texts: Iterable[bytes]) -> list[bytes]:
        """Lines joined to CSV records: within quotes, a newline is part of a value."""
        records: list[bytes] = []
        for text in texts:
            self._open = self._open + b"\n" + text if self._open else text
            if self._open.count(b'"') % 2 == 0:
                records.append(self._open)
                self._open = b""
        return records

    def _grouped(self, row: Row) -> list[bytes]:
        """The records that are complete with this row."""
        group, packed = self._form.group, self._form.packed
        if not (group or packed):
            return [_text(row) if self._form.shape == "line" else joined(row[1], row[0])]
        size = sum(len(value) + EACH for value in row[1])
        full: list[list[Row]] = []
        if packed and self._rows and self._size + size > ROOM:
            full, self._rows, self._size = [self._rows], [], 0
        self._rows.append(row)
        self._size += size
        if group and len(self._rows) >= group:
            full, self._rows, self._size = [*full, self._rows], [], 0
        return [_record(rows) for rows in full]


def _cutter(form: Form) -> Callable[[bytes], Sequence[bytes]]:
    """How a text is cut into values; blanks around those between separators are trimmed, as GNU parallel does."""
    if form.csv:
        mark = form.colsep or ","

        def fields(text: bytes) -> list[bytes]:
            import csv

            found = next(csv.reader([text.decode("utf-8", "surrogateescape")], delimiter=mark, strict=False), [""])
            return [field.encode("utf-8", "surrogateescape") for field in found]

        return fields
    if form.colsep:
        pattern = re.compile(form.colsep.encode())
        return lambda text: [value.strip(b" \t") for value in pattern.split(text)]
    return lambda text: [text]


def _text(row: Row) -> bytes:
    return row[1][0]


def _record(rows: list[Row]) -> bytes:
    """The record of several rows."""
    names = [name for row in rows for name in row[0]]
    return joined([value for row in rows for value in row[1]], names)


def _shuffled(texts: list[bytes], seed: int | None) -> list[bytes]:
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
