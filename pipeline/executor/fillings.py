"""A command cut into pieces, so that filling in a task is a few joins: a shell line, or an argv.

In a shell line each argument is quoted, also where the line has quotes around it already; in an argv they stay raw, and
a place for all of them that stands alone is as many words. With `packed`, the word around a place for all
arguments is repeated for each. What is filled in was meant by `replacements`; nothing is executed here.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from pipeline.executor.quoting import ByteSpan, find_open_quotes, shell_quote, split_words
from pipeline.executor.replacements import Arguments, Replacement, find_replacements

Placeholder = tuple[Replacement, bytes]
"""What stands for a part of the task, and the quote that is open there."""
TemplatePiece = bytes | Placeholder
ColumnNames = tuple[bytes, ...]


class TemplateWord(Struct, frozen=True):
    """A stretch of the command; `is_repeated`: it comes once for each argument."""

    pieces: list[TemplatePiece]
    is_repeated: bool = False

    def expand(
        self, arguments: Arguments, task: int, slot: int, quote: Callable[[list[bytes], bytes], bytes]
    ) -> list[bytes]:
        """What becomes of it: one text, or one for each argument."""
        alone = [Arguments([value]) for value in arguments.values] if self.is_repeated else [arguments]
        return [self._expand_once(own, task, slot, quote) for own in alone]

    def _expand_once(
        self, arguments: Arguments, task: int, slot: int, quote: Callable[[list[bytes], bytes], bytes]
    ) -> bytes:
        return b"".join(
            [
                piece if isinstance(piece, bytes) else quote(piece[0].expand(arguments, task, slot), piece[1])
                for piece in self.pieces
            ]
        )

    @property
    def sole_replacement(self) -> Replacement | None:
        """What stands there alone, if it stands for all arguments."""
        (only, *more) = self.pieces or [b""]
        return only[0] if not more and not isinstance(only, bytes) and only[0].is_all else None


class ShellTemplate:
    """One line, for a shell. Raises ValueError for a place where an argument would not stay one word."""

    def __init__(self, line: bytes, names: ColumnNames, *, packed: bool) -> None:
        hits = find_replacements(line, names)
        quotes = find_open_quotes(line, [(start, end) for start, end, _ in hits])
        places = [(start, end, (meant, quote)) for (start, end, meant), quote in zip(hits, quotes, strict=True)]
        self._words, at = [], 0
        for start, end in split_words(line) if packed else [(0, len(line))]:
            self._words.append(TemplateWord([line[at:start]]))
            own = [place for place in places if start <= place[0] < end]
            self._words.append(
                TemplateWord(_split_pieces(line, (start, end), own), packed and any(one[2][0].is_all for one in own))
            )
            at = end
        self._words.append(TemplateWord([line[at:]]))

    def expand(self, arguments: Arguments, task: int, slot: int) -> bytes:
        """The line for a task."""
        return b"".join([b" ".join(word.expand(arguments, task, slot, _quote_for_shell)) for word in self._words])


class ArgvTemplate:
    """Several words, which no shell sees."""

    def __init__(self, words: list[bytes], names: ColumnNames, *, packed: bool) -> None:
        self._words = []
        for word in words:
            places = [(start, end, (meant, b"")) for start, end, meant in find_replacements(word, names)]
            pieces = _split_pieces(word, (0, len(word)), places)
            self._words.append(TemplateWord(pieces, packed and any(place[2][0].is_all for place in places)))
        first = self._words[0].pieces
        self.program = first[0] if len(first) == 1 and isinstance(first[0], bytes) else None
        """The word to execute; None when it depends on the task."""

    def expand(self, arguments: Arguments, task: int, slot: int) -> list[bytes]:
        """The words for a task."""
        words: list[bytes] = []
        for word in self._words:
            if replacement := word.sole_replacement:
                words += replacement.expand(arguments, task, slot)
            else:
                words += word.expand(arguments, task, slot, _join_raw)
        return words


def _split_pieces(text: bytes, span: ByteSpan, placeholders: list[tuple[int, int, Placeholder]]) -> list[TemplatePiece]:
    """The text of that span, cut at its places."""
    pieces: list[TemplatePiece] = []
    at, end = span
    for start, after, place in placeholders:
        pieces += [text[at:start], place] if at < start else [place]
        at = after
    return [*pieces, text[at:end]] if at < end or not pieces else pieces


def _quote_for_shell(values: list[bytes], quote: bytes) -> bytes:
    """Each value a word; within quotes, which are closed and opened again, all of them one."""
    return quote + shell_quote(b" ".join(values)) + quote if quote else b" ".join(map(shell_quote, values))


def _join_raw(values: list[bytes], _: bytes) -> bytes:
    return b" ".join(values)
