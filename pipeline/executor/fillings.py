"""A command cut into pieces, so that filling in a task is a few joins: a shell line, or an argv.

In a shell line each argument is quoted, also where the line has quotes around it already; in an argv they stay raw, and
a place for all of them that stands alone is as many words. With `packed`, the word around a place for all
arguments is repeated for each. What is filled in was meant by `replacements`; nothing is executed here.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from pipeline.executor.quoting import Span, quoted, quotes_around, words_of
from pipeline.executor.replacements import Arguments, Replacement, found

Place = tuple[Replacement, bytes]
"""What stands for a part of the task, and the quote that is open there."""
Piece = bytes | Place
Names = tuple[bytes, ...]


class Word(Struct, frozen=True):
    """A stretch of the command; `is_repeated`: it comes once for each argument."""

    pieces: list[Piece]
    is_repeated: bool = False

    def filled(
        self, arguments: Arguments, task: int, slot: int, quote: Callable[[list[bytes], bytes], bytes]
    ) -> list[bytes]:
        """What becomes of it: one text, or one for each argument."""
        alone = [Arguments([value]) for value in arguments.values] if self.is_repeated else [arguments]
        return [self._text(own, task, slot, quote) for own in alone]

    def _text(self, arguments: Arguments, task: int, slot: int, quote: Callable[[list[bytes], bytes], bytes]) -> bytes:
        return b"".join(
            [
                piece if isinstance(piece, bytes) else quote(piece[0].values(arguments, task, slot), piece[1])
                for piece in self.pieces
            ]
        )

    @property
    def alone(self) -> Replacement | None:
        """What stands there alone, if it stands for all arguments."""
        (only, *more) = self.pieces or [b""]
        return only[0] if not more and not isinstance(only, bytes) and only[0].is_all else None


class ShellLine:
    """One line, for a shell. Raises ValueError for a place where an argument would not stay one word."""

    def __init__(self, line: bytes, names: Names, *, packed: bool) -> None:
        hits = found(line, names)
        quotes = quotes_around(line, [(start, end) for start, end, _ in hits])
        places = [(start, end, (meant, quote)) for (start, end, meant), quote in zip(hits, quotes, strict=True)]
        self._words, at = [], 0
        for start, end in words_of(line) if packed else [(0, len(line))]:
            self._words.append(Word([line[at:start]]))
            own = [place for place in places if start <= place[0] < end]
            self._words.append(Word(_pieces(line, (start, end), own), packed and any(one[2][0].is_all for one in own)))
            at = end
        self._words.append(Word([line[at:]]))

    def filled(self, arguments: Arguments, task: int, slot: int) -> bytes:
        """The line for a task."""
        return b"".join([b" ".join(word.filled(arguments, task, slot, _for_shell)) for word in self._words])


class Argv:
    """Several words, which no shell sees."""

    def __init__(self, words: list[bytes], names: Names, *, packed: bool) -> None:
        self._words = []
        for word in words:
            places = [(start, end, (meant, b"")) for start, end, meant in found(word, names)]
            pieces = _pieces(word, (0, len(word)), places)
            self._words.append(Word(pieces, packed and any(place[2][0].is_all for place in places)))
        first = self._words[0].pieces
        self.program = first[0] if len(first) == 1 and isinstance(first[0], bytes) else None
        """The word to execute; None when it depends on the task."""

    def filled(self, arguments: Arguments, task: int, slot: int) -> list[bytes]:
        """The words for a task."""
        words: list[bytes] = []
        for word in self._words:
            if replacement := word.alone:
                words += replacement.values(arguments, task, slot)
            else:
                words += word.filled(arguments, task, slot, _raw)
        return words


def _pieces(text: bytes, span: Span, places: list[tuple[int, int, Place]]) -> list[Piece]:
    """The text of that span, cut at its places."""
    pieces: list[Piece] = []
    at, end = span
    for start, after, place in places:
        pieces += [text[at:start], place] if at < start else [place]
        at = after
    return [*pieces, text[at:end]] if at < end or not pieces else pieces


def _for_shell(values: list[bytes], quote: bytes) -> bytes:
    """Each value a word; within quotes, which are closed and opened again, all of them one."""
    return quote + quoted(b" ".join(values)) + quote if quote else b" ".join(map(quoted, values))


def _raw(values: list[bytes], _: bytes) -> bytes:
    return b" ".join(values)
