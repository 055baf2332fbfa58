"""Tasks on the command line: what stands behind `:::`, `::::`, `:::+` and `::::+`.

The first `:::` or `::::` ends COMMAND; all words behind it are tasks, or marks of further sources.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.words.inputs import ArgumentSource

SOURCE_MARKS = (":::", "::::", ":::+", "::::+")
FIRST_MARKS = (":::", "::::")


def split_argument_sources(words: Sequence[str]) -> tuple[list[str], tuple[ArgumentSource, ...]]:
    """The words before the first source, and the sources."""
    start = next((at for at, word in enumerate(words) if word in FIRST_MARKS), len(words))
    sources: list[tuple[str, list[str]]] = []
    for word in words[start:]:
        if word in SOURCE_MARKS:
            sources.append((word, []))
        else:
            sources[-1][1].append(word)
    return list(words[:start]), tuple(ArgumentSource(mark, tuple(values)) for mark, values in sources)
