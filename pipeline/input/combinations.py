"""Several sources on the command line: each combined with each, or joined item to item.

Sources are held in memory, their combinations are not: these come as they are asked for, the last source changing
fastest, as in GNU parallel. What is joined by a `+` ends with its shortest.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice, product

from pipeline.input.infiles import STDIN, display_name
from pipeline.words.errors import PipelineError
from pipeline.words.inputs import ArgumentSource

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
